"""Commands for the workflow's rules, one per stage.

A job's settings come as JSON (`repsearch.jobs`), so that what a rule tracks is exactly what the stage gets.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from repsearch import jobs
from repsearch.cli.common import (
    Data,
    Device,
    Log,
    NetworkFile,
    Out,
    Results,
    SearchPath,
    Settings,
    StatisticsFile,
    Threads,
    device_of,
    for_rules,
    job_to_do,
    start,
)
from repsearch.jobs import Job, from_json


@for_rules()
def prepare(settings: Settings, out: Out, data: Path = Path("data"), log: Log = None) -> None:
    """Prepare a data set: download or read it, split it, write one npz file (a PrepareJob)."""
    start(log, out)
    from repsearch.stages import dataset

    dataset.make(from_json(jobs.PrepareJob, settings), data, out)


@for_rules()
def network(settings: Settings, dataset: Data, out: Out, log: Log = None, threads: Threads = 1) -> None:
    """Initialise a data set's search network (a NetworkJob)."""
    start(log, out)
    job = job_to_do(jobs.NetworkJob, settings, out, dataset)
    from repsearch.stages import network as stage

    device_of("cpu", threads)
    stage.make(job, dataset, out)


@for_rules()
def learned(
    summary: Annotated[Path, typer.Argument(help="The run's summary.json.")],
    settings: Settings,
    out: Out,
    log: Log = None,
) -> None:
    """Make a training run's network the search network of the next cycle (a LearnedNetworkJob)."""
    start(log, out)
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
    start(log, out)
    job = job_to_do(jobs.StatisticsJob, settings, out, dataset, network)
    from repsearch.stages import statistics as stage

    stage.make(job, dataset, network, out, device_of(device, threads), path)


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
        start(log, out)
        job = job_to_do(kind, settings, out, dataset, network, statistics)
        module, _, called = function.partition(".")  # pandas is not imported where it is not needed
        make = getattr(import_module(f"repsearch.stages.{module}"), called)
        own = name == "fitness"  # takes its own statistics
        make(job, dataset, network, *([] if own else [statistics]), out, device_of(device, threads), path)

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
    start(log, out)
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
    start(log, out)
    from repsearch.stages import cache

    wanted = from_json(jobs.TrainJob, settings)
    job = job_to_do(jobs.TrainJob, settings, out, *cache.input_files(wanted, dataset, network, targets or []))
    from repsearch.stages import train as stage

    stage.make(job, dataset, network, targets or [], out, device_of(device, threads))


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
    start(log, out)
    job = job_to_do(jobs.EnsembleJob, settings, out, dataset, *members)
    from repsearch.stages import ensemble as stage

    stage.make(job, dataset, members, out, device_of(device, threads))


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
        start(log, out)
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
    start(log, out)
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
    start(log, out)
    from repsearch.results.report import page

    page.make(from_json(jobs.ReproductionJob, settings), results, out)


@for_rules()
def reproduction(results: Results, settings: Settings, out: Out, log: Log = None) -> None:
    """The paper's claims, each with a verdict (a ReproductionJob)."""
    start(log, out)
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
    start(log, out)
    from repsearch.results import reproduction as page

    page.publish(from_json(jobs.ReproductionJob, settings), results, out)
