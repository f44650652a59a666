"""Commands: one a stage. Each parses, calls the stage and leaves the files; `python -m repsearch STAGE --help`.

The workflow calls these; settings come as JSON so that what a rule tracks is just what its stage gets.
"""

import json
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from repsearch.errors import UserError
from repsearch.storage import locks
from repsearch.storage.files import cannot_write, hidden

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
log = logging.getLogger(__name__)

Settings = Annotated[str, typer.Option(help="The stage's settings, as JSON.")]
Out = Annotated[Path, typer.Option(help="File (or folder) to write.")]
Log = Annotated[Path | None, typer.Option(help="Log file; messages also go to standard error.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
SearchPath = Annotated[str, typer.Option(help="auto, fused or dense: how the search computes.")]
Threads = Annotated[int, typer.Option(help="CPU threads.")]
Data = Annotated[Path, typer.Option("--dataset", help="Prepared data set (npz).")]
NetworkFile = Annotated[Path, typer.Option("--network", help="Search network (pt).")]


def _settings(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"--settings is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError("--settings must be a JSON object")
    return value


def _path(name: str) -> Any:
    if name not in ("auto", "fused", "dense"):
        raise UserError(f"--path must be auto, fused or dense, not {name!r}")
    return name


def _start(log_file: Path | None, out: Path | None) -> None:
    """Messages go to standard error and are added to the log file, below a line that says when this run started.

    out: what the command writes, or None. It is this process's alone until the process ends: where another is making
    it, wait; it may then turn out to be up to date.
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


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="config.yaml and what is laid over it, in this order.")],
) -> None:
    """Check a configuration, such as another's, and run nothing: Snakemake runs Python that a file asks it to."""
    _start(None, None)
    from repsearch.config.schema import read

    read(*files)
    log.info("%s: nothing is wrong", ", ".join(map(str, files)))


@app.command()
def prepare(settings: Settings, out: Out, data: Path = Path("data"), log: Log = None) -> None:
    """Prepare a data set: download or read it, split it, write one npz file."""
    _start(log, out)
    from repsearch.jobs import PrepareJob, from_json
    from repsearch.stages import dataset

    dataset.make(from_json(PrepareJob, settings), data, out)


@app.command()
def network(settings: Settings, dataset: Data, out: Out, log: Log = None, threads: Threads = 1) -> None:
    """Initialise a data set's search network and freeze its BatchNorm statistics."""
    _start(log, out)
    from repsearch.jobs import NetworkJob, from_json
    from repsearch.stages import cache

    job = from_json(NetworkJob, settings)
    if not cache.up_to_date(job, out, dataset):  # without torch, which takes seconds to import
        from repsearch.devices import choose
        from repsearch.stages import network as stage_network

        choose("cpu", threads)
        stage_network.make(job, dataset, out)


@app.command()
def search(
    settings: Settings,
    dataset: Data,
    network: NetworkFile,
    out: Out,
    log: Log = None,
    device: Device = "auto",
    path: SearchPath = "auto",
    threads: Threads = 1,
) -> None:
    """Search one shard of images: settings has recipe, start and stop."""
    _start(log, out)
    from repsearch.jobs import SearchJob, from_json
    from repsearch.stages import cache

    job = from_json(SearchJob, settings)
    if not cache.up_to_date(job, out, dataset, network):
        from repsearch.devices import choose
        from repsearch.stages import search as stage_search

        stage_search.make(job, dataset, network, out, choose(device, threads), _path(path))


@app.command()
def describe(
    manifests: Annotated[list[Path], typer.Argument(help="The manifests of all shards.")],
    settings: Settings,
    out: Out,
    log: Log = None,
) -> None:
    """Describe a recipe's targets: cross-entropies and cosines by class. Settings has dataset and recipe, names."""
    _start(log, out)
    from repsearch.jobs import DescribeJob, from_json
    from repsearch.stages import targets as stage_targets

    stage_targets.make(from_json(DescribeJob, settings), manifests, out)


@app.command()
def fitness(
    settings: Settings,
    dataset: Data,
    network: NetworkFile,
    out: Out,
    log: Log = None,
    device: Device = "auto",
    path: SearchPath = "auto",
    threads: Threads = 1,
) -> None:
    """Figure 2's probe: evolve one block alone. Settings has recipe, layer and images."""
    _start(log, out)
    from repsearch.jobs import FitnessJob, from_json
    from repsearch.stages import cache

    job = from_json(FitnessJob, settings)
    if not cache.up_to_date(job, out, dataset, network):
        from repsearch.devices import choose
        from repsearch.stages import probes as stage_probes

        stage_probes.fitness(job, dataset, network, out, choose(device, threads), _path(path))


@app.command()
def diversity(
    settings: Settings,
    dataset: Data,
    network: NetworkFile,
    out: Out,
    log: Log = None,
    device: Device = "auto",
    path: SearchPath = "auto",
    threads: Threads = 1,
) -> None:
    """Figure 3's probe: independent runs. Settings has recipe, images, runs and probability."""
    _start(log, out)
    from repsearch.jobs import DiversityJob, from_json
    from repsearch.stages import cache

    job = from_json(DiversityJob, settings)
    if not cache.up_to_date(job, out, dataset, network):
        from repsearch.devices import choose
        from repsearch.stages import probes as stage_probes

        stage_probes.diversity(job, dataset, network, out, choose(device, threads), _path(path))


@app.command()
def train(
    settings: Settings,
    dataset: Data,
    out: Out,
    network: Annotated[Path | None, typer.Option(help="Search network that the targets must come from.")] = None,
    targets: Annotated[
        list[Path] | None, typer.Option(help="Manifests of the shards, each with its own --targets.")
    ] = None,
    log: Log = None,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Train one network and test the epoch that validation chose."""
    _start(log, out)
    from repsearch.jobs import TrainJob, from_json
    from repsearch.stages import cache

    job = from_json(TrainJob, settings)
    if not cache.up_to_date(job, out, dataset, *(targets or [])):
        from repsearch.devices import choose
        from repsearch.stages import train as stage_train

        stage_train.make(job, dataset, network, targets or [], out, choose(device, threads))


@app.command()
def table(
    number: int,
    runs: Annotated[list[Path], typer.Argument(help="The runs' summaries.")],
    out: Annotated[Path, typer.Option(help="The table's CSV; .md, .png and _tried.csv are written beside it.")],
    log: Log = None,
) -> None:
    """Table 1 or 2 from its runs."""
    _start(log, out)
    from repsearch.results import tables
    from repsearch.storage.files import write_csv, write_text
    from repsearch.storage.manifest import verify

    for run in runs:
        verify(run)
    every = tables.all_tried(number, runs)
    frame = tables.best(every)
    write_csv(out.with_name(f"{out.stem}_tried.csv"), every)
    write_csv(out, frame)
    write_text(out.with_suffix(".md"), tables.to_markdown(number, frame))
    tables.draw(number, out, out.with_suffix(".png"))


@app.command()
def figure(
    number: int,
    inputs: Annotated[list[Path], typer.Argument(help="The probes' CSVs (2, 3) or the runs' summaries (4 to 7).")],
    out: Annotated[Path, typer.Option(help="The figure's CSV; .png and .md (its caption) are written beside it.")],
    settings: Settings = "{}",
    log: Log = None,
) -> None:
    """Figures 2 to 7 from their probes or runs. Settings: what the figure's function takes."""
    _start(log, out)
    from repsearch.results import figures
    from repsearch.storage.files import write_csv
    from repsearch.storage.manifest import verify

    for path in inputs:
        verify(path.with_suffix(".json"))
    write_csv(out, figures.build(number, inputs, **_settings(settings)))
    figures.draw(number, out, out.with_suffix(".png"), out.with_suffix(".md"))


@app.command()
def readings(
    inputs: Annotated[list[Path], typer.Argument(help="The runs' summary.json and the targets' facts.json.")],
    out: Annotated[Path, typer.Option(help="The study's CSV; .md and .png are written beside it.")],
    log: Log = None,
) -> None:
    """The readings study: accuracies and targets of every reading, beside SGD."""
    _start(log, out)
    from repsearch.results import readings as study
    from repsearch.storage.files import write_csv
    from repsearch.storage.manifest import verify

    runs, targets = ([path for path in inputs if path.name == name] for name in ("summary.json", "facts.json"))
    for run in runs:
        verify(run)
    write_csv(out, study.table(runs, targets))
    study.draw(out, out.with_suffix(".png"), out.with_suffix(".md"))


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Tables (.md) and figures (.png, .md); others are ignored.")],
    out: Out,
    log: Log = None,
) -> None:
    """One page with all tables and figures."""
    _start(log, out)
    from repsearch.results.report import report as page
    from repsearch.storage.files import write_text

    def files(folder: str, suffix: str) -> list[Path]:
        return [path for path in results if path.parent.name == folder and path.suffix == suffix]

    write_text(out, page(out.parent, files("tables", ".md"), files("figures", ".png"), files("figures", ".md")))


@app.command()
def reproduction(
    results: Annotated[Path, typer.Argument(help="A results folder, with tables and figures.")],
    settings: Settings,
    out: Out,
    log: Log = None,
) -> None:
    """The paper's claims, each with a verdict. Settings has name, results, options and full: the folder's scale."""
    _start(log, out)
    from repsearch.config.parsing import parse
    from repsearch.results import reproduction as page

    page.write(out, [(parse(page.Scale, _settings(settings), "scale"), results)])


@app.command()
def publish(
    results: Annotated[Path, typer.Argument(help="A results folder, with tables and figures.")],
    settings: Settings,
    out: Annotated[Path, typer.Option(help="Folder of the published CSVs; <out>.md is made from all that are there.")],
    log: Log = None,
) -> None:
    """Keep a results folder's CSVs in the repository and write the page of the paper's claims anew."""
    _start(log, out)
    from repsearch.config.parsing import parse
    from repsearch.results import reproduction as page

    page.publish(results, out, parse(page.Scale, _settings(settings), "scale"))
    page.write(out.with_suffix(".md"), page.published(out))


bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks: speeds beside the plain version and the ceilings.")
app.add_typer(bench_app, name="bench")
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Width = Annotated[int, typer.Option(help="Channels of every block.")]
Classes = Annotated[int, typer.Option(help="Classes of the head.")]


def _print(result: dict[str, Any], as_json: bool) -> None:
    from repsearch.bench import search as bench

    typer.echo(json.dumps(result, indent=2) if as_json else bench.text(result))


@bench_app.command("search")
def bench_search(
    device: Device = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
    width: Width = 256,
    classes: Classes = 10,
    images: Annotated[int, typer.Option(help="Images searched side by side; 0: one a thread, or 256 on a GPU.")] = 0,
    generations: Annotated[int, typer.Option(help="Generations that a measurement runs.")] = 10,
    path: SearchPath = "auto",
    trained: Annotated[bool, typer.Option("--trained", help="A network whose convolutions are no identities.")] = False,
    scaling: Annotated[bool, typer.Option(help="Also vary images, generations, population and width.")] = False,
    as_json: Json = False,
) -> None:
    """Candidates a second of each search layer, beside the reference and the floor; hours of a whole data set."""
    _start(None, None)
    from repsearch.bench import search as bench
    from repsearch.devices import choose

    where = choose(device, threads or os.cpu_count() or 1)
    images = images or (256 if where.type == "cuda" else threads or os.cpu_count() or 1)
    _print(bench.bench_search(where, width, classes, images, generations, _path(path), scaling, trained), as_json)


@bench_app.command("train")
def bench_train(
    device: Device = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
    width: Width = 256,
    classes: Classes = 10,
    images: Annotated[int, typer.Option(help="Training images; 0: 200, or 20,000 on a GPU.")] = 0,
    depths: Annotated[list[int] | None, typer.Option("--depth", help="1, 2 or 3; again for several.")] = None,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "bfloat16",
    as_json: Json = False,
) -> None:
    """Training images a second by variant and depth, beside the matrix product's ceiling."""
    _start(None, None)
    from repsearch.bench import search as bench
    from repsearch.devices import choose

    if precision not in ("float32", "bfloat16"):
        raise UserError(f"--precision must be float32 or bfloat16, not {precision!r}")
    where = choose(device, threads or os.cpu_count() or 1)
    images = images or (20_000 if where.type == "cuda" else 200)
    _print(bench.bench_train(where, width, classes, images, depths or [1, 2, 3], precision), as_json)


def main() -> None:
    try:
        app(standalone_mode=True)
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(1)
