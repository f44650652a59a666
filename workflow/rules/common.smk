# Paths, settings and inputs by wildcards. Rules ask here; nothing here runs a stage.
import json
import os
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from repsearch.config import alternatives
from repsearch.config.schema import load
from repsearch.data.sources import training_images
from repsearch.devices import device_wanted, gpus_found, gpus_wanted
from repsearch.errors import UserError
from repsearch.storage.files import check_writable
from repsearch.storage.provenance import code_version
from repsearch.search.recipe import BLOCKS

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))
from slurm_plugin import install

# Stages run with the Python that runs Snakemake, whether or not its environment was activated.
shell.prefix(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")


def stop(error):
    """End Snakemake with one line: raised, the error would come with places in these rules."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(1)


try:
    CONFIG = load(config)
    RECIPES = CONFIG.all_recipes
    VARIANTS = [*CONFIG.variants, *CONFIG.alternative_training]
    check_writable(Path(CONFIG.results))
except UserError as error:
    stop(error)

install()  # nothing without Slurm's plugin

RESULTS = CONFIG.results
THREADS = CONFIG.threads
# Whether jobs run on other machines, or this is such a job
ELSEWHERE = workflow.remote_exec or workflow.resource_settings.nodes is not None
DEVICE = device_wanted(CONFIG.device, ELSEWHERE)
GPU = gpus_wanted(DEVICE)  # GPUs that a search or training job asks for
# What is expected to compute the search; a result of another backend's code is kept as well, up to rounding
BACKEND = "dense" if CONFIG.search_path == "dense" else "gpu" if GPU else "cpu"
if "gpu" not in workflow.global_resources and not ELSEWHERE:
    # No --resources gpu=N, and jobs run on this machine: not more at a time than it has GPUs. A scheduler counts its own.
    workflow.global_resources["gpu"] = max(1, gpus_found())
DATASET = f"{RESULTS}/data/{{dataset}}"
NETWORK = f"{RESULTS}/network/{{dataset}}/{{calibration}}"
TARGETS = f"{RESULTS}/targets/{{dataset}}/{{recipe}}/shard-{{shard}}"
RUN = f"{RESULTS}/runs/{{dataset}}/{{augmentation}}/{{variant}}/{{recipe}}/depth{{depth}}/seed{{seed}}"
RUN_FILES = ("summary.json", "epochs.csv", "weights.pt")


wildcard_constraints:
    dataset="|".join(CONFIG.datasets),
    recipe="|".join(re.escape(name) for name in ["none", *RECIPES]),
    variant="|".join(map(re.escape, VARIANTS)),
    calibration="[a-z0-9-]+",
    augmentation="plain|augmented",
    layer="[012]",
    shard=r"\d{4}",
    depth=r"\d+",
    seed=r"\d+",


def as_json(value):
    """Settings for a stage: what a rule tracks is what the stage gets. Keys sorted, so that their order is no change."""
    return json.dumps(value, sort_keys=True)


# Data sets


def dataset_settings(wildcards):
    entry = CONFIG.datasets[wildcards.dataset]
    keys = ("source", "validation_images", "images", "test_images")
    return as_json({key: getattr(entry, key) for key in keys})


def image_count(dataset):
    """Training images, held-out ones included, known before anything is downloaded."""
    entry = CONFIG.datasets[dataset]
    try:
        return entry.images or training_images(entry.source)
    except UserError as error:
        stop(f"datasets.{dataset}.source: {error}")


def calibration(recipe):
    """The smoothing of the candidates on which a recipe's network freezes its statistics (R3), as a file's name."""
    first, second = RECIPES[recipe].calibration(1, 0.0).blur
    return f"blur-{first}-{second}" + ("" if RECIPES[recipe].count_padding else "-unpadded")


CALIBRATIONS = {calibration(name): recipe for name, recipe in RECIPES.items()}


def network_settings(wildcards):
    recipe = CALIBRATIONS[wildcards.calibration]
    smoothing = {
        "blur": recipe.calibration(1, 0.0).blur,
        "count_padding": recipe.count_padding,
    }
    return as_json({**CONFIG.network.model_dump(), **smoothing})


def network(dataset, recipe):
    """The search network of a data set's recipe, without its suffix."""
    return NETWORK.format(dataset=dataset, calibration=calibration(recipe))


def searched_by(wildcards):
    path = network(wildcards.dataset, wildcards.recipe)
    return {"network": f"{path}.pt", "network_facts": f"{path}.json"}


def probed_by(dataset):
    path = network(dataset, CONFIG.datasets[dataset].recipe)
    return {"network": f"{path}.pt", "network_facts": f"{path}.json"}


# Shards


def shards(dataset):
    try:
        return [f"{shard:04d}" for shard in range(CONFIG.shards(dataset, image_count(dataset)))]
    except UserError as error:
        stop(error)


def shard_settings(wildcards):
    start = int(wildcards.shard) * CONFIG.shard_images
    stop = min(start + CONFIG.shard_images, image_count(wildcards.dataset))
    return as_json({"recipe": RECIPES[wildcards.recipe].to_dict(), "start": start, "stop": stop})


def manifests(dataset, recipe):
    return [f"{TARGETS}.json".format(dataset=dataset, recipe=recipe, shard=shard) for shard in shards(dataset)]


def stores(dataset, recipe):
    return [manifest.removesuffix(".json") + ".zarr.zip" for manifest in manifests(dataset, recipe)]


# Probes


def fitness_settings(wildcards):
    recipe = fitness_recipe(int(wildcards.population))
    return as_json(
        {
            "recipe": recipe,
            "layer": int(wildcards.layer),
            "images": CONFIG.figure2.images,
        }
    )


def fitness_recipe(population):
    """The data set's recipe with another population; block generations as figure 2 needs them."""
    from repsearch.search.recipe import scaled_population

    base = RECIPES[CONFIG.datasets[CONFIG.figure2.dataset].recipe].to_dict()
    generations = max(CONFIG.figure2.generations)
    layers = [{**layer, "generations": generations} for layer in base["layers"]]
    return scaled_population({**base, "layers": layers}, population)


def diversity_settings(wildcards):
    recipe = RECIPES[CONFIG.datasets[CONFIG.figure3.dataset].recipe].to_dict()
    return as_json(
        {
            "recipe": recipe,
            "images": CONFIG.figure3.images,
            "runs": CONFIG.figure3.runs,
            "probability": CONFIG.figure3.probability,
        }
    )


# Runs


def run_settings(wildcards):
    dataset, recipe = wildcards.dataset, wildcards.recipe
    entry = CONFIG.datasets[dataset]
    return as_json(
        {
            "dataset": dataset,
            "label": entry.label,
            "paper": entry.paper,
            "augmentation": wildcards.augmentation,
            "flip": entry.flip,
            "pad": entry.pad,
            "variant_name": wildcards.variant,
            "variant": asdict(CONFIG.run_variant(wildcards.variant)),
            "depth": int(wildcards.depth),
            "recipe_name": recipe,
            "recipe": None if recipe == "none" else RECIPES[recipe].to_dict(),
            "seed": int(wildcards.seed),
            "width": CONFIG.network.width,
            "head_bias": CONFIG.network.head_bias,
            "training": asdict(CONFIG.run_training(dataset, wildcards.variant)),
        }
    )


def run_inputs(wildcards):
    """A run that learns from targets, or is compared with them, waits for all shards; others need the data alone."""
    dataset, recipe = wildcards.dataset, wildcards.recipe
    inputs = {"dataset": f"{DATASET}.npz", "facts": f"{DATASET}.json"}
    if recipe != "none":
        inputs["network"] = f"{network(dataset, recipe)}.json"
        inputs["manifests"] = manifests(dataset, recipe)
        inputs["stores"] = ancient(stores(dataset, recipe))  # the manifests say whether a store's content changed
    return inputs


def target_options(wildcards, input):
    """The stage's options for a run's targets; none for a run that has no recipe."""
    if wildcards.recipe == "none":
        return ""
    network = input.network.removesuffix(".json") + ".pt"
    return shlex.join(
        [
            f"--network={network}",
            *(f"--targets={manifest}" for manifest in input.manifests),
        ]
    )


def runs(dataset, augmentation, variant, depths, seeds, recipe=None):
    """Folders of the runs of one variant. recipe: None for the data set's own, and none for a variant that learns labels."""
    if recipe is None:
        learns = CONFIG.run_variant(variant).learns
        recipe = CONFIG.datasets[dataset].recipe if learns == "targets" else "none"
    return expand(
        RUN,
        dataset=dataset,
        augmentation=augmentation,
        variant=variant,
        recipe=recipe,
        depth=depths,
        seed=range(seeds),
    )


def table_runs(number):
    table, augmentation = {
        1: (CONFIG.table1, "plain"),
        2: (CONFIG.table2, "augmented"),
    }[int(number)]
    return [
        run
        for dataset in table.datasets
        for name in table.variants
        for variant in CONFIG.tuned(dataset, name)
        for run in runs(
            dataset,
            augmentation,
            variant,
            CONFIG.depths(dataset, variant),
            CONFIG.seeds,
        )
    ]


def scaling_runs():
    figure = CONFIG.figure4
    names = sorted({name for panel in CONFIG.sweep().values() for name in panel})
    depths = CONFIG.depths(figure.dataset, figure.variant)
    return [run for name in names for run in runs(figure.dataset, "plain", figure.variant, depths, figure.seeds, name)]


def trajectory_runs():
    chosen = CONFIG.trajectories
    recipe = CONFIG.datasets[chosen.dataset].recipe  # SGD's distance to the targets is traced too
    return [
        run
        for variant in chosen.variants
        for run in runs(chosen.dataset, "plain", variant, [chosen.depth], chosen.seeds, recipe)
    ]


def readings_runs():
    """The runs of the readings study: of each data set every reading of the search, then of the training."""
    study = CONFIG.readings
    found = []
    for dataset in study.datasets:
        base = CONFIG.datasets[dataset].recipe
        for variant in [*study.variants, study.baseline]:
            for changes in CONFIG.training_readings(dataset, variant):
                name = alternatives.name(variant, changes)
                found += runs(dataset, "plain", name, [study.depth], study.seeds)
        grid = [alternatives.name(base, changes) for changes in CONFIG.grid_readings(base)]
        for recipe in readings_recipes(dataset):
            for variant in study.variants if recipe in grid else study.variants[:1]:
                found += runs(dataset, "plain", variant, [study.depth], study.seeds, recipe)
    return list(dict.fromkeys(found))


def readings_recipes(dataset):
    base = CONFIG.datasets[dataset].recipe
    made = [alternatives.name(base, changes) for changes in CONFIG.search_readings(base)]
    return list(dict.fromkeys([*made, *CONFIG.readings.recipes.get(dataset, [])]))


def readings_targets():
    return [
        f"{RESULTS}/targets/{dataset}/{recipe}/facts.json"
        for dataset in CONFIG.readings.datasets
        for recipe in readings_recipes(dataset)
    ]


def summaries(folders):
    return [f"{folder}/summary.json" for folder in folders]


# Figures


def figure_inputs(wildcards):
    """What a figure is drawn from: probes (2, 3) or runs (4 to 7)."""
    number = int(wildcards.number)
    if number == 2:
        path = f"{RESULTS}/probes/fitness/block{{layer}}-population{{population}}.csv"
        return expand(path, layer=range(len(BLOCKS)), population=fitness_populations())
    if number == 3:
        return [f"{RESULTS}/probes/diversity.csv"]
    return summaries(scaling_runs() if number == 4 else trajectory_runs())


def figure_manifests(wildcards):
    """What vouches for a figure's probes; a run's summary is its own manifest."""
    probes = [path for path in figure_inputs(wildcards) if path.endswith(".csv")]
    return [path.removesuffix(".csv") + ".json" for path in probes]


def fitness_populations():
    base = RECIPES[CONFIG.datasets[CONFIG.figure2.dataset].recipe].population
    return sorted({*CONFIG.figure2.populations, base})


def figure_settings(wildcards):
    """The arguments of the figure's function in repsearch.figures, beside its inputs."""
    number = int(wildcards.number)
    if number == 2:
        base = RECIPES[CONFIG.datasets[CONFIG.figure2.dataset].recipe].population
        chosen = CONFIG.figure2
        return as_json(
            {
                "populations": chosen.populations,
                "generations": chosen.generations,
                "base_population": base,
                "recipe": CONFIG.datasets[chosen.dataset].recipe,
                "label": CONFIG.datasets[chosen.dataset].label,
            }
        )
    if number == 3:
        entry = CONFIG.datasets[CONFIG.figure3.dataset]
        return as_json({"recipe": entry.recipe, "label": entry.label})
    if number == 4:
        return as_json({"base": CONFIG.datasets[CONFIG.figure4.dataset].recipe})
    return as_json({})


# The paper's claims


def scale_settings(wildcards):
    """What this results folder is called, and how to make a file of it again."""
    files = [os.path.relpath(path) for path in workflow.configfiles]
    overlays = [path for path in files if path != "config.yaml"]
    if CONFIG.readings:
        used = CONFIG.readings.datasets
    else:
        figures = (CONFIG.figure2, CONFIG.figure3, CONFIG.figure4, CONFIG.trajectories)
        used = [*CONFIG.table1.datasets, *CONFIG.table2.datasets, *(each.dataset for each in figures)]
    entries = [CONFIG.datasets[name] for name in dict.fromkeys(used)]
    names = list(dict.fromkeys(entry.recipe for entry in entries))
    recipes = {name: RECIPES[name] for name in names}
    schedules = {name: [layer.generations for layer in recipe.layers] for name, recipe in recipes.items()}
    searches = [
        f"recipe {name}: population {recipe.population}, {'/'.join(map(str, schedules[name]))} generations"
        for name, recipe in recipes.items()
    ]
    full = (
        CONFIG.network.width == 256
        and all(entry.images is None for entry in entries)
        and all(recipe.population == 240 for recipe in recipes.values())
        and all(schedule == [300, 100, 100, 10] for schedule in schedules.values())
        and all(CONFIG.run_training(name, each).epochs >= 90 for name in used for each in CONFIG.variants)
    )
    return as_json(
        {
            "name": "paper" if RESULTS == "results" else Path(RESULTS).name,
            "what": f"width {CONFIG.network.width}; {'; '.join(searches)}",
            "results": RESULTS,
            "options": f"--configfile {' '.join(overlays)}" if overlays else "",
            "full": full,
        }
    )


# What `all` asks for: every table and figure; of a configuration with a readings study, the study


def every_run():
    if CONFIG.readings:
        folders = readings_runs()
    else:
        folders = sorted({*table_runs(1), *table_runs(2), *scaling_runs(), *trajectory_runs()})
    return [f"{folder}/{name}" for folder in folders for name in RUN_FILES]


def every_shard(wildcards):
    """An input function: how many shards there are may have to be read from the user's files."""
    wanted = {(CONFIG.figure4.dataset, name) for panel in CONFIG.sweep().values() for name in panel}
    wanted.add(
        (
            CONFIG.trajectories.dataset,
            CONFIG.datasets[CONFIG.trajectories.dataset].recipe,
        )
    )
    for table in (CONFIG.table1, CONFIG.table2):
        if any(CONFIG.variants[variant].learns == "targets" for variant in table.variants):
            wanted |= {(dataset, CONFIG.datasets[dataset].recipe) for dataset in table.datasets}
    if CONFIG.readings:
        wanted = {(dataset, recipe) for dataset in CONFIG.readings.datasets for recipe in readings_recipes(dataset)}
    return [path for pair in sorted(wanted) for path in (*manifests(*pair), *stores(*pair))]


def every_csv():
    return [path for path in every_result() if path.endswith(".csv")]


def every_result():
    if CONFIG.readings:
        return expand(f"{RESULTS}/tables/readings.{{kind}}", kind=("csv", "md", "png"))
    tables = expand(f"{RESULTS}/tables/table{{n}}.{{kind}}", n=(1, 2), kind=("csv", "md", "png"))
    tried = expand(f"{RESULTS}/tables/table{{n}}_tried.csv", n=(1, 2))
    figures = expand(
        f"{RESULTS}/figures/figure{{n}}.{{kind}}",
        n=range(2, 8),
        kind=("csv", "md", "png"),
    )
    return tables + tried + figures
