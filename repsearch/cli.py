"""Commands: `check` and `bench` are for people; the others, one per stage, are for the rules.

Each parses its arguments, takes the lock of its output and calls the stage. A job's settings come as JSON
(`repsearch.jobs`), so that what a rule tracks is exactly what the stage gets.
"""

import json
import logging
import os
import sys
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from repsearch import __version__, jobs, signals
from repsearch.errors import UserError
from repsearch.jobs import Job, from_json
from repsearch.progress import Pace
from repsearch.storage import locks
from repsearch.storage.files import cannot_write, hidden

FOR_PEOPLE, FOR_RULES = "For people", "For the workflow's rules, which give a job's settings as JSON"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks: speeds, the plain reference's, and the ceilings.")
app.add_typer(bench_app, name="bench", rich_help_panel=FOR_PEOPLE)
for_people = partial(app.command, rich_help_panel=FOR_PEOPLE)
for_rules = partial(app.command, rich_help_panel=FOR_RULES)
log = logging.getLogger(__name__)
T = TypeVar("T", bound=Job)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Decoupled search and learning. Results are made by snakemake, which calls the commands for its rules."""
    if version:
        typer.echo(f"repsearch {__version__}")
        raise typer.Exit


Settings = Annotated[str, typer.Option(help="The job's settings, as JSON (repsearch.jobs).")]
Out = Annotated[Path, typer.Option(help="File (or folder) to write; its manifest and other formats go next to it.")]
Log = Annotated[Path | None, typer.Option(help="Log file; messages also go to standard error.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What computes.")]
SearchPath = Annotated[Literal["auto", "fused", "dense"], typer.Option(help="How the search computes.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]
Data = Annotated[Path, typer.Option("--dataset", help="Prepared data set (npz).")]
NetworkFile = Annotated[Path, typer.Option("--network", help="Search network (pt).")]
StatisticsFile = Annotated[
    Path | None, typer.Option("--statistics", help="The recipe's BatchNorm statistics (npz); none with R3 `batch`.")
]
Results = Annotated[Path, typer.Argument(help="A results folder, with tables and figures.")]


def _start(log_file: Path | None = None, out: Path | None = None) -> None:
    """Messages go to standard error and are added to the log file, below a line that says when this run started.

    out: what the command writes, or None. It belongs to this process until the process ends: where another one is
    making it, this one waits; the output may then turn out to be up to date.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    logging.raiseExceptions = False  # a log that can't be written, on a full disk, stops nothing
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("a", encoding="utf-8") as opened:
                opened.write(f"--- {datetime.now():%Y-%m-%d %H:%M:%S} repsearch {' '.join(sys.argv[1:2])}\n")
            handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
        except OSError as error:
            raise UserError(cannot_write(log_file, error)) from None
    signals.report(log_file)
    for handler in handlers:
        handler.addFilter(Pace(between=isinstance(handler, logging.FileHandler) or not sys.stderr.isatty()))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s%(pace)s", handlers=handlers, force=True)
    if out is not None:
        locks.hold(hidden(out, "lock"), out)


def _job_to_do(kind: type[T], settings: str, out: Path, *inputs: Path | None) -> T:
    """The job; ends the command where its output is up to date, before torch is imported, which takes seconds."""
    from repsearch.stages import cache

    job = from_json(kind, settings)
    if cache.up_to_date(job, out, *inputs):
        raise typer.Exit
    return job


def _device(name: str, threads: int) -> Any:
    from repsearch.devices import choose

    return choose(name, threads)


@for_people()
def check(
    files: Annotated[list[Path], typer.Argument(help="config.yaml, and the files that override it, in this order.")],
) -> None:
    """Check a configuration, such as someone else's, and run nothing: Snakemake runs Python that a file asks it to."""
    _start()
    from repsearch.config.load import named_code, read
    from repsearch.extensions import source

    for key, reference in named_code(read(*files)).items():
        log.info("%s names code that its jobs will run: %s, in %s", key, reference, source(reference))
    log.info("%s: no mistakes found", ", ".join(map(str, files)))


@for_rules()
def prepare(settings: Settings, out: Out, data: Path = Path("data"), log: Log = None) -> None:
    """Prepare a data set: download or read it, split it, write one npz file (a PrepareJob)."""
    _start(log, out)
    from repsearch.stages import dataset

    dataset.make(from_json(jobs.PrepareJob, settings), data, out)


@for_rules()
def network(settings: Settings, dataset: Data, out: Out, log: Log = None, threads: Threads = 1) -> None:
    """Initialise a data set's search network (a NetworkJob)."""
    _start(log, out)
    job = _job_to_do(jobs.NetworkJob, settings, out, dataset)
    from repsearch.stages import network as stage

    _device("cpu", threads)
    stage.make(job, dataset, out)


@for_rules()
def learned(
    summary: Annotated[Path, typer.Argument(help="The run's summary.json.")],
    settings: Settings,
    out: Out,
    log: Log = None,
) -> None:
    """Make a training run's network the search network of the next cycle (a LearnedNetworkJob)."""
    _start(log, out)
    from repsearch.stages import learned as stage

    stage.make(from_json(jobs.LearnedNetworkJob, settings), summary, out)


@for_rules()
def statistics(
    settings: Settings,
    dataset: Data,
    network: NetworkFile,
    out: Out,
    log: Log = None,
    device: Device = "auto",
    path: SearchPath = "auto",
    threads: Threads = 1,
) -> None:
    """Take the BatchNorm statistics of a recipe's search from calibration images (a StatisticsJob)."""
    _start(log, out)
    job = _job_to_do(jobs.StatisticsJob, settings, out, dataset, network)
    from repsearch.stages import statistics as stage

    stage.make(job, dataset, network, out, _device(device, threads), path)


def _searching(name: str, function: str, kind: type[Job], description: str) -> None:
    """Add one of the commands that search, by a `module.function` of stages; they have the same options."""

    def command(
        settings: Settings,
        dataset: Data,
        network: NetworkFile,
        out: Out,
        statistics: StatisticsFile = None,
        log: Log = None,
        device: Device = "auto",
        path: SearchPath = "auto",
        threads: Threads = 1,
    ) -> None:
        _start(log, out)
        job = _job_to_do(kind, settings, out, dataset, network, statistics)
        module, _, called = function.partition(".")  # pandas is not imported where it is not needed
        make = getattr(import_module(f"repsearch.stages.{module}"), called)
        own = name == "fitness"  # takes its own statistics
        make(job, dataset, network, *([] if own else [statistics]), out, _device(device, threads), path)

    for_rules(name, help=description)(command)


_searching("search", "search.make", jobs.SearchJob, "Search one shard of images (a SearchJob).")
_searching("fitness", "probes.fitness", jobs.FitnessJob, "Figure 2's probe: evolve one block alone (a FitnessJob).")
_searching("diversity", "probes.diversity", jobs.DiversityJob, "Figure 3's probe: independent runs (a DiversityJob).")
_searching("gallery", "gallery.make", jobs.GalleryJob, "What a search makes of a few images (a GalleryJob).")


@for_rules()
def describe(
    manifests: Annotated[list[Path], typer.Argument(help="The manifests of all shards.")],
    settings: Settings,
    out: Out,
    log: Log = None,
) -> None:
    """Describe a recipe's targets: cross-entropies, and cosines by class (a DescribeJob)."""
    _start(log, out)
    from repsearch.stages import targets

    targets.make(from_json(jobs.DescribeJob, settings), manifests, out)


@for_rules()
def train(
    settings: Settings,
    dataset: Data,
    out: Out,
    network: Annotated[
        Path | None, typer.Option(help="Search network that the targets come from, or the run starts from.")
    ] = None,
    targets: Annotated[
        list[Path] | None, typer.Option(help="Manifests of the shards, each with its own --targets.")
    ] = None,
    log: Log = None,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Train one network and test the epoch that validation chose (a TrainJob)."""
    _start(log, out)
    from repsearch.stages import cache

    wanted = from_json(jobs.TrainJob, settings)
    job = _job_to_do(jobs.TrainJob, settings, out, *cache.input_files(wanted, dataset, network, targets or []))
    from repsearch.stages import train as stage

    stage.make(job, dataset, network, targets or [], out, _device(device, threads))


@for_rules()
def ensemble(
    members: Annotated[list[Path], typer.Argument(help="The members' summary.json, in order.")],
    settings: Settings,
    dataset: Data,
    out: Out,
    log: Log = None,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Evaluate an ensemble of learned networks (an EnsembleJob)."""
    _start(log, out)
    job = _job_to_do(jobs.EnsembleJob, settings, out, dataset, *members)
    from repsearch.stages import ensemble as stage

    stage.make(job, dataset, members, out, _device(device, threads))


Formats = Annotated[list[str] | None, typer.Option("--format", help="Further formats: pdf, svg; of a table, latex.")]


def _drawing(name: str, module: str, kind: type[Job], description: str) -> None:
    """Add one of the commands that draw results; they have the same options."""

    def command(
        inputs: Annotated[list[Path], typer.Argument(help="Summaries of runs, CSVs of probes or facts of targets.")],
        settings: Settings,
        out: Out,
        formats: Formats = None,
        log: Log = None,
    ) -> None:
        _start(log, out)
        import_module(f"repsearch.results.{module}").make(from_json(kind, settings), inputs, out, formats or [])

    for_rules(name, help=description)(command)


_drawing("table", "tables", jobs.TableJob, "Table 1 or 2 from its runs (a TableJob).")
_drawing("figure", "figures", jobs.FigureJob, "A figure from its probes or runs (a FigureJob).")
_drawing("readings", "readings", jobs.ReadingsJob, "The study of readings: every reading, and SGD (a ReadingsJob).")


@for_rules()
def table3(
    inputs: Annotated[list[Path], typer.Argument(help="figure8.csv, cycles.csv, ensembles.csv: those there are.")],
    out: Out,
    formats: Formats = None,
    log: Log = None,
) -> None:
    """Table 3: what goes beyond the paper, next to SGD."""
    _start(log, out)
    from repsearch.results import table3 as table

    table.make(inputs, out, formats or [])


@for_rules()
def report(
    results: Annotated[list[Path], typer.Argument(help="Tables (.md) and figures (.png, .md); others are ignored.")],
    settings: Settings,
    out: Out,
    log: Log = None,
) -> None:
    """One HTML page with everything that the results folder holds (a ReproductionJob)."""
    _start(log, out)
    from repsearch.results.report import page

    page.make(from_json(jobs.ReproductionJob, settings), results, out)


@for_rules()
def reproduction(results: Results, settings: Settings, out: Out, log: Log = None) -> None:
    """The paper's claims, each with a verdict (a ReproductionJob)."""
    _start(log, out)
    from repsearch.results import reproduction as page

    page.make(from_json(jobs.ReproductionJob, settings), results, out)


@for_rules()
def publish(
    results: Results,
    settings: Settings,
    out: Annotated[Path, typer.Option(help="Folder of the published CSVs; <out>.md is made from all that are there.")],
    log: Log = None,
) -> None:
    """Keep a results folder's CSVs in the repository and rewrite the page of the paper's claims."""
    _start(log, out)
    from repsearch.results import reproduction as page

    page.publish(from_json(jobs.ReproductionJob, settings), results, out)


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@for_people()
def runs(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/demo.")],
    means: Annotated[
        bool, typer.Option("--means", help="Means over searches and training seeds, in per cent.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for programs.")] = False,
    as_json: Json = False,
) -> None:
    """List the finished training runs and the settings in which they differ: repsearch runs results/demo --means."""
    _start()
    from repsearch.results import listing

    frame = listing.means(results) if means else listing.table(results)
    if as_csv:
        typer.echo(frame.to_csv(index=False), nl=False)
    elif as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
    else:
        typer.echo(frame.to_string(index=False, na_rep="–", float_format="{:.5g}".format))


@for_people()
def tensorboard(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/demo.")],
    out: Annotated[Path, typer.Argument(help="Folder for the event files, such as results/demo/tensorboard.")],
) -> None:
    """Convert the finished training runs' epochs.csv to TensorBoard's event files, in place of former ones."""
    _start()
    from repsearch.results.tensorboard import convert

    convert(results, out)


Width = Annotated[int, typer.Option(help="Channels of every block.", min=1)]
Classes = Annotated[int, typer.Option(help="Classes of the head.", min=2)]
AllThreads = Annotated[int, typer.Option(help="CPU threads; 0: all cores.", min=0)]


def _print(measured: dict[str, Any], as_json: bool) -> None:
    from repsearch.bench.report import text

    typer.echo(json.dumps(measured, indent=2) if as_json else text(measured))


@for_people()
def estimate(
    files: Annotated[list[Path], typer.Argument(help="config.yaml, and the files that override it, in this order.")],
    target: Annotated[
        list[str] | None, typer.Option(help="A result, such as table1 or results/demo/figures/figure4.png; all.")
    ] = None,
    cores: Annotated[int, typer.Option(help="CPU cores, as Snakemake's --cores; 0: all.")] = 0,
    as_json: Json = False,
) -> None:
    """Estimate jobs, hours and disk of a configuration on this machine, from a measurement of about a minute:
    repsearch estimate config.yaml workflow/presets/small.yaml --target table1 --cores 2.

    All jobs count, finished ones too.
    """
    _start()
    from repsearch.bench import estimate as bench
    from repsearch.config.load import read
    from repsearch.devices import gpus_found
    from repsearch.plan import Plan

    logging.getLogger("repsearch.learning").setLevel(logging.WARNING)  # of made-up images
    plan = Plan(read(*files))
    threads, cores = plan.config.threads, cores or os.cpu_count() or 1
    where = _device(plan.config.device, threads)
    gpu = where.type == "cuda"
    slots = max(1, gpus_found() if gpu else cores // threads)
    measured = bench.estimate(plan, target or ["all"], where, plan.config.search_path, slots)
    typer.echo(json.dumps(measured, indent=2) if as_json else bench.text(measured, "GPUs" if gpu else f"{cores} cores"))


@bench_app.command("search")
def bench_search(
    device: Device = "auto",
    threads: AllThreads = 0,
    width: Width = 256,
    classes: Classes = 10,
    images: Annotated[int, typer.Option(help="At a time; 0: one per thread, or 256 on a GPU.", min=0)] = 0,
    generations: Annotated[int, typer.Option(help="At most so many per search layer; 0: the paper's.", min=0)] = 0,
    path: SearchPath = "auto",
    trained: Annotated[bool, typer.Option("--trained", help="A network whose convolutions are no identities.")] = False,
    scaling: Annotated[bool, typer.Option(help="Also vary images, population and width.")] = False,
    as_json: Json = False,
) -> None:
    """A search as users run it: candidates per second by search layer, against the reference and a floor; hours."""
    _start()
    from repsearch.bench import search as bench

    threads = threads or os.cpu_count() or 1
    where = _device(device, threads)
    images = images or (256 if where.type == "cuda" else threads)
    setup = bench.Bench(where, width, classes, images, generations, trained)
    _print(bench.bench_search(setup, path, scaling), as_json)


@bench_app.command("train")
def bench_train(
    device: Device = "auto",
    threads: AllThreads = 0,
    width: Width = 256,
    classes: Classes = 10,
    images: Annotated[int, typer.Option(help="Training images; 0: 200, or 46,000 (A.3) on a GPU.", min=0)] = 0,
    depths: Annotated[list[int] | None, typer.Option("--depth", help="Again for several.", min=1, max=3)] = None,
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Of the convolutions.")] = "auto",
    as_json: Json = False,
) -> None:
    """Training images per second by variant and depth, against the matrix product's ceiling."""
    _start()
    from repsearch.bench import training as bench

    logging.getLogger("repsearch.learning").setLevel(logging.WARNING)  # of made-up images
    where = _device(device, threads or os.cpu_count() or 1)
    images = images or (bench.TRAINING if where.type == "cuda" else 200)
    measured = bench.bench_train(where, width, classes, images, depths or [1, 2, 3], precision)
    _print(measured, as_json)


def main() -> None:
    try:
        app(standalone_mode=True)
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Exception:  # no mistake of the user's: the log file gets its traceback too
        log.exception("error: this should not happen; please report the lines below")
        sys.exit(1)
