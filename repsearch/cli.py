"""Commands, one per stage: each parses its arguments, takes the lock of its output and calls the stage.

The workflow calls these. A job's settings come as JSON (`repsearch.jobs`), so that what a rule tracks is exactly what
the stage gets. `python -m repsearch COMMAND --help` describes each.
"""

import json
import logging
import os
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from repsearch import __version__, jobs
from repsearch.errors import UserError
from repsearch.jobs import Job, from_json
from repsearch.storage import locks
from repsearch.storage.files import cannot_write, hidden

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks: speeds, the plain reference's, and the ceilings.")
app.add_typer(bench_app, name="bench")
log = logging.getLogger(__name__)
T = TypeVar("T", bound=Job)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"repsearch {__version__}")
        raise typer.Exit


Settings = Annotated[str, typer.Option(help="The job's settings, as JSON (repsearch.jobs).")]
Out = Annotated[Path, typer.Option(help="File (or folder) to write; its manifest and other formats go next to it.")]
Log = Annotated[Path | None, typer.Option(help="Log file; messages also go to standard error.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SearchPath = Annotated[str, typer.Option(help="auto, fused or dense: how the search computes.")]
Threads = Annotated[int, typer.Option(help="CPU threads.")]
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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True)
    if out is not None:
        locks.hold(hidden(out, "lock"), out)


def _job_to_do(kind: type[T], settings: str, out: Path, *inputs: Path | None) -> T:
    """The job; ends the command where its output is up to date, before torch is imported, which takes seconds."""
    from repsearch.stages import cache

    job = from_json(kind, settings)
    if cache.up_to_date(job, out, *inputs):
        raise typer.Exit
    return job


def _path(name: str) -> Any:
    if name not in ("auto", "fused", "dense"):
        raise UserError(f"--path must be auto, fused or dense, not {name!r}")
    return name


def _device(name: str, threads: int) -> Any:
    from repsearch.devices import choose

    return choose(name, threads)


@app.command()
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


@app.command()
def prepare(settings: Settings, out: Out, data: Path = Path("data"), log: Log = None) -> None:
    """Prepare a data set: download or read it, split it, write one npz file (a PrepareJob)."""
    _start(log, out)
    from repsearch.stages import dataset

    dataset.make(from_json(jobs.PrepareJob, settings), data, out)


@app.command()
def network(settings: Settings, dataset: Data, out: Out, log: Log = None, threads: Threads = 1) -> None:
    """Initialise a data set's search network (a NetworkJob)."""
    _start(log, out)
    job = _job_to_do(jobs.NetworkJob, settings, out, dataset)
    from repsearch.stages import network as stage

    _device("cpu", threads)
    stage.make(job, dataset, out)


@app.command()
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


@app.command()
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

    stage.make(job, dataset, network, out, _device(device, threads), _path(path))


def _searching(name: str, kind: type[Job], description: str) -> None:
    """Add one of the commands that search; they have the same options."""

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
        from repsearch.stages import probes, search

        where, how = _device(device, threads), _path(path)
        if name == "fitness":  # takes its own statistics
            probes.fitness(job, dataset, network, out, where, how)  # type: ignore[arg-type]
        else:
            make: Any = search.make if name == "search" else probes.diversity
            make(job, dataset, network, statistics, out, where, how)

    app.command(name, help=description)(command)


_searching("search", jobs.SearchJob, "Search one shard of images (a SearchJob).")
_searching("fitness", jobs.FitnessJob, "Figure 2's probe: evolve one block alone (a FitnessJob).")
_searching("diversity", jobs.DiversityJob, "Figure 3's probe: independent runs of the search (a DiversityJob).")


@app.command()
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


@app.command()
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


@app.command()
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

    app.command(name, help=description)(command)


_drawing("table", "tables", jobs.TableJob, "Table 1 or 2 from its runs (a TableJob).")
_drawing("figure", "figures", jobs.FigureJob, "A figure from its probes or runs (a FigureJob).")
_drawing("readings", "readings", jobs.ReadingsJob, "The study of readings: every reading, and SGD (a ReadingsJob).")


@app.command()
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


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Tables (.md) and figures (.png, .md); others are ignored.")],
    out: Out,
    log: Log = None,
) -> None:
    """One page with all tables and figures."""
    _start(log, out)
    from repsearch.results import report as page

    page.make(results, out)


@app.command()
def reproduction(results: Results, settings: Settings, out: Out, log: Log = None) -> None:
    """The paper's claims, each with a verdict (a ReproductionJob)."""
    _start(log, out)
    from repsearch.results import reproduction as page

    page.make(from_json(jobs.ReproductionJob, settings), results, out)


@app.command()
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
Width = Annotated[int, typer.Option(help="Channels of every block.")]
Classes = Annotated[int, typer.Option(help="Classes of the head.")]
AllThreads = Annotated[int, typer.Option(help="CPU threads; 0: all cores.")]


def _print(measured: dict[str, Any], as_json: bool) -> None:
    from repsearch.bench.report import text

    typer.echo(json.dumps(measured, indent=2) if as_json else text(measured))


@bench_app.command("search")
def bench_search(
    device: Device = "auto",
    threads: AllThreads = 0,
    width: Width = 256,
    classes: Classes = 10,
    images: Annotated[int, typer.Option(help="Images searched at a time; 0: one per thread, or 256 on a GPU.")] = 0,
    generations: Annotated[int, typer.Option(help="At most so many per search layer; 0: the paper's.")] = 0,
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
    _print(bench.bench_search(setup, _path(path), scaling), as_json)


@bench_app.command("train")
def bench_train(
    device: Device = "auto",
    threads: AllThreads = 0,
    width: Width = 256,
    classes: Classes = 10,
    images: Annotated[int, typer.Option(help="Training images; 0: 200, or 46,000 (A.3) on a GPU.")] = 0,
    depths: Annotated[list[int] | None, typer.Option("--depth", help="1, 2 or 3; again for several.")] = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or auto.")] = "auto",
    as_json: Json = False,
) -> None:
    """Training images per second by variant and depth, against the matrix product's ceiling."""
    _start()
    from repsearch.bench import training as bench

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
