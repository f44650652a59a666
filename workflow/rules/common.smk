# Paths and getters. What is made from what, and with which settings, is decided in repsearch/plan.py.
import os
import re
import shlex
import sys
from itertools import pairwise
from math import ceil
from pathlib import Path

import repsearch
from snakemake.logging import logger
from repsearch.config import command_line
from repsearch.config.load import load, merge
from repsearch.config.reasons import Readable
from repsearch.devices import SHARING, device_wanted, gpus_found, gpus_wanted
from repsearch.errors import UserError
from repsearch.jobs import to_json
from repsearch.config.alternatives import NO_RECIPE, has_targets
from repsearch.plan import Plan
from repsearch.scale import reproduction
from repsearch.stages import cache
from repsearch.storage.files import check_writable, file_digest
from repsearch.storage.provenance import code_version

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))
from slurm_plugin import install

# Stages run with the Python that runs Snakemake, whether or not its environment was activated.
shell.prefix(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")
# A job that the kernel kills can't say so itself.
KILLED = (
    "error: the job was killed (SIGKILL). Did memory run out? Run fewer jobs at a time (--cores, --resources mem_mb=…)"
)
shell.suffix(f" || (status=$?; [ $status != 137 ] || echo {shlex.quote(KILLED)} >&2; exit $status)")


def stop(error):
    """End Snakemake with one line: raised, the error would come with places in these rules."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(1)


CONFIG_FILES = [os.path.relpath(path) for path in workflow.configfiles]
SETTINGS = workflow.config_settings.config_args or []  # words after --config
# Words that may be targets: Snakemake tells them only once the rules are there
WORDS = [word for before, word in pairwise(sys.argv) if before != "--report"]  # the report is no target
try:
    command_line.check_configuration_files(CONFIG_FILES)
    CONFIG = load(merge(config, command_line.settings(SETTINGS)))
    command_line.check_targets(WORDS, CONFIG.results, Path(workflow.basedir) / "workflow/presets", CONFIG_FILES)
    PLAN = Plan(CONFIG)
    check_writable(Path(CONFIG.results))
except UserError as error:
    stop(error)

install()  # does nothing without Slurm's plugin
logger.addFilter(Readable())  # of why a job runs again

RESULTS = CONFIG.results
THREADS = CONFIG.threads
REPRODUCTION = to_json(reproduction(PLAN, CONFIG_FILES, SETTINGS))  # what the results are called
# Whether jobs run on other machines, or this is such a job
ELSEWHERE = workflow.remote_exec or workflow.resource_settings.nodes is not None
DEVICE = device_wanted(CONFIG.device, ELSEWHERE)
GPU = gpus_wanted(DEVICE)  # GPUs that a search or training job asks for
# What is expected to compute the search; what another backend's current code computed is kept as well
BACKEND = "dense" if CONFIG.search_path == "dense" else "gpu" if GPU else "cpu"
if not ELSEWHERE:  # jobs run on this machine: without --resources gpu=N at most as many at a time as it has GPUs
    GPUS = max(1, gpus_found())
    if "gpu" not in workflow.global_resources:
        workflow.global_resources["gpu"] = GPUS
    os.environ[SHARING] = str(ceil(workflow.global_resources["gpu"].value / GPUS))  # more jobs than GPUs: they share
# What is made of each figure and each table beside CSV, Markdown and PNG: format → the file's suffix
FIGURE_FORMATS = {name: name for name in CONFIG.formats if name in ("pdf", "svg")}
TABLE_FORMATS = {name: "tex" for name in CONFIG.formats if name == "latex"}

DATASET = f"{RESULTS}/data/{{dataset}}"
NETWORK = f"{RESULTS}/network/{{dataset}}"
LEARNED = f"{NETWORK}/{{recipe}}"  # a network of the cycle before (§6), which the recipe's search is of
STATISTICS = f"{RESULTS}/statistics/{{dataset}}/{{recipe}}"
TARGETS = f"{RESULTS}/targets/{{dataset}}/{{recipe}}"
SHARD = f"{TARGETS}/shard-{{shard}}"
FITNESS = f"{RESULTS}/probes/fitness/population{{population}}"
DIVERSITY = f"{RESULTS}/probes/diversity"
GALLERY = f"{RESULTS}/probes/gallery"
ENSEMBLE = f"{RESULTS}/ensembles/{{dataset}}/{{kind}}/repeat{{repeat}}"
RUN = f"{RESULTS}/runs/{{dataset}}/{{augmentation}}/{{variant}}/{{recipe}}/depth{{depth}}/seed{{seed}}"


wildcard_constraints:
    dataset="|".join(CONFIG.datasets),
    recipe="|".join(re.escape(name) for name in [NO_RECIPE, *PLAN.recipes, *PLAN.resolved.cycles]),
    variant="|".join(map(re.escape, PLAN.variants)),
    augmentation="plain|augmented",
    figure="|".join(CONFIG.figures),
    kind="|".join(CONFIG.ensembles.kinds if CONFIG.ensembles else ["none"]),
    repeat=r"\d+",
    number="[12]",
    shard=r"\d{4}",
    population=r"\d+",
    depth=r"\d+",
    seed=r"\d+",


def of_wildcards(ask):
    """A getter for a rule: what `ask` says of the job's wildcards. A user's mistake ends Snakemake with one line."""

    def get(wildcards):
        try:
            return ask(**dict(wildcards.items()))
        except UserError as error:
            stop(error)

    return get


def settings(make):
    """A getter of a job as JSON, which the stage reads: what a rule tracks is what the stage gets."""

    def job(**wildcards):
        return to_json(make(**wildcards))

    return of_wildcards(job)


def code(make, backend="dense"):
    """A getter of the version of the code that could change a job's result."""

    def version(**wildcards):
        return cache.code(make(**wildcards), backend)

    return of_wildcards(version)


def further(path, formats):
    """A table's or a figure's files in further formats."""
    return [f"{path}.{suffix}" for suffix in formats.values()]


def format_options(formats):
    return " ".join(f"--format={name}" for name in formats)


def figure_code(figure):
    return code_version("results.figures") + code_version(f"results.figures.{figure}")


def reproduction_code():
    return "".join([code_version("results.reproduction"), *map(figure_code, CONFIG.figures)])


def report_code():
    """Of the page: its template counts too."""
    template = Path(repsearch.__file__).parent / "results/report/template.html.j2"
    return code_version("results.report.page") + file_digest(template)[:12]


# Input files


def prepare(dataset):
    """The job of a data set. Its file or folder must be there, unless the job ran already."""
    if not Path(f"{DATASET.format(dataset=dataset)}.npz").exists():
        PLAN.check_source(dataset)
    return PLAN.prepare(dataset)


def data_folder(wildcards):
    return CONFIG.data  # given as a string, its braces would be filled in


def statistics_files(dataset, recipe, shard=None):
    """What a search has its BatchNorm statistics from (R3); nothing where they are the batch's own."""
    path = STATISTICS.format(dataset=dataset, recipe=recipe)
    return {"statistics": f"{path}.npz", "statistics_manifest": f"{path}.json"} if PLAN.has_statistics(recipe) else {}


def network_files(dataset, recipe, shard=None):
    """The network that a recipe's search is of, and its manifest."""
    path = NETWORK if PLAN.learned(dataset, recipe) is None else LEARNED
    path = path.format(dataset=dataset, recipe=recipe)
    return {"network": f"{path}.pt", "network_manifest": f"{path}.json"}


def learned_run(dataset, recipe):
    run = RUN.format(**PLAN.learned(dataset, recipe)._asdict())
    return {"summary": f"{run}/summary.json", "weights": f"{run}/weights.pt"}


def probe_inputs(dataset):
    data, network = DATASET.format(dataset=dataset), NETWORK.format(dataset=dataset)
    return {
        "dataset": f"{data}.npz",
        "manifest": f"{data}.json",
        "network": f"{network}.pt",
        "network_manifest": f"{network}.json",
    }


def statistics_option(wildcards, input):
    return shlex.join(["--statistics", input.statistics]) if hasattr(input, "statistics") else ""


def manifests(dataset, recipe):
    return expand(f"{SHARD}.json", dataset=dataset, recipe=recipe, shard=PLAN.shards(dataset))


def stores(dataset, recipe):
    return expand(f"{SHARD}.zarr.zip", dataset=dataset, recipe=recipe, shard=PLAN.shards(dataset))


def unchanged_stores(dataset, recipe):
    return ancient(stores(dataset, recipe))  # the manifests say whether a store's content changed


def train_inputs(dataset, augmentation, variant, recipe, depth, seed):
    """A run that learns from targets, or is compared with them, waits for all shards; others need the data alone, or
    the search network that they start from (R19)."""
    searched = has_targets(recipe)
    if not searched and not PLAN.starts_from_search(dataset, variant):
        return {}
    network = {"network": network_files(dataset, recipe)["network_manifest"]}
    targets = {"manifests": manifests(dataset, recipe), "stores": unchanged_stores(dataset, recipe)} if searched else {}
    return {**network, **targets}


def target_options(wildcards, input):
    """The options of `repsearch train` for a run's search network and targets, as far as it has any."""
    networks = [f"--network={input.network.removesuffix('.json')}.pt"] if hasattr(input, "network") else []
    targets = [f"--targets={manifest}" for manifest in input.manifests] if hasattr(input, "manifests") else []
    return shlex.join([*networks, *targets])


def summaries(runs):
    return [f"{RUN}/summary.json".format(**run._asdict()) for run in runs]


def ensemble_members(dataset, kind, repeat):
    runs = PLAN.members(dataset, kind, repeat)
    return {"members": summaries(runs), "weights": [f"{RUN}/weights.pt".format(**run._asdict()) for run in runs]}


def table_inputs(number):
    return summaries(PLAN.table_runs(number))


def figure_inputs(figure):
    """What a figure is drawn from: the probes' CSVs or the runs' summaries."""
    inputs = CONFIG.figures[figure]
    if inputs == "ensembles":
        return [ENSEMBLE.format(**ensemble._asdict()) + ".csv" for ensemble in PLAN.ensembles()]
    if inputs == "fitness":
        return expand(f"{FITNESS}.csv", population=PLAN.fitness_populations())
    if inputs in ("diversity", "gallery"):
        return [f"{DIVERSITY if inputs == 'diversity' else GALLERY}.csv"]
    facts = facts_files(PLAN.cycle_targets()) if inputs == "cycles" else []
    return [*summaries(PLAN.figure_runs(figure)), *facts]


def probe_manifests(figure):
    """What vouches for a figure's probes; a run's summary is its own manifest."""
    return [path.removesuffix(".csv") + ".json" for path in figure_inputs(figure) if path.endswith(".csv")]


def table3_inputs():
    """The figures that table 3 collects."""
    figures = [name for name in ("figure8", "cycles", "ensembles") if name in CONFIG.figures]
    return [f"{RESULTS}/figures/{name}.csv" for name in figures]


def readings_runs():
    return summaries(PLAN.readings_runs())


def readings_targets():
    return facts_files(PLAN.readings_targets())


def facts_files(targets):
    return [f"{TARGETS}/facts.json".format(**target._asdict()) for target in targets]


# What `all` asks for; what results follow from is asked for too: a shard or a run that was deleted is made again


def all_runs():
    folders = [RUN.format(**run._asdict()) for run in PLAN.all_runs()]
    return [f"{folder}/{name}" for folder in folders for name in ("summary.json", "epochs.csv", "weights.pt")]


def all_shards():
    return [path for targets in PLAN.all_targets() for path in (*manifests(*targets), *stores(*targets))]


def all_results():
    kinds = ["csv", "md", "png"]
    of_figures, of_tables = ([*kinds, *formats.values()] for formats in (FIGURE_FORMATS, TABLE_FORMATS))
    if CONFIG.readings:
        return expand(f"{RESULTS}/tables/readings.{{kind}}", kind=of_tables)
    tables = expand(f"{RESULTS}/tables/table{{n}}.{{kind}}", n=(1, 2), kind=of_tables)
    tried = expand(f"{RESULTS}/tables/table{{n}}_tried.csv", n=(1, 2))
    tables += expand(f"{RESULTS}/tables/table3.{{kind}}", kind=of_tables) if table3_inputs() else []
    return tables + tried + expand(f"{RESULTS}/figures/{{figure}}.{{kind}}", figure=CONFIG.figures, kind=of_figures)


def all_csvs():
    return [path for path in all_results() if path.endswith(".csv")]


def check_made():
    """Stop at a target that no rule makes where a result is like it. To be called once all rules are there."""
    names = {each.name for each in workflow.rules}
    targets = [word for word in WORDS if word[:1].isalpha() and word not in names and not os.path.exists(word)]
    targets = [word for word in targets if not any(each.is_producer(word) for each in workflow.rules)]
    pages = [f"{RESULTS}/report.html", f"{RESULTS}/reproduction.md"]
    results = [*pages, *all_results(), *all_runs()] if targets else []  # thousands, at some scales
    for target in targets:
        try:
            command_line.check_made(target, results)
        except UserError as error:
            stop(error)
