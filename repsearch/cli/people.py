"""Commands for people."""

import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from repsearch.cli.common import (
    Device,
    SearchPath,
    bench_app,
    device_of,
    for_people,
    start,
)

log = logging.getLogger(__name__)


@for_people()
def check(
    files: Annotated[list[Path], typer.Argument(help="config.yaml, and the files that override it, in this order.")],
) -> None:
    """Check a configuration, such as someone else's, and run nothing: Snakemake runs Python that a file asks it to.

    Of data sets, the headers of npz files and the names in folders are read.
    """
    start()
    from repsearch.config.load import named_code, read
    from repsearch.errors import UserError
    from repsearch.extensions import source
    from repsearch.plan import Plan

    plan = Plan(read(*files))
    for dataset in plan.config.datasets:
        plan.prepare(dataset)
        try:
            plan.check_source(dataset)
        except UserError as error:  # someone else's data may be elsewhere
            log.warning("%s", error)
    configured = read(files[0]).recipes
    for name in plan.unused_recipes():
        if plan.config.recipes[name] != configured.get(name):  # a file on top of the first is about it
            log.warning("recipes.%s is changed, but nothing that is asked for is searched with it", name)
    for key, reference in named_code(plan.config).items():
        log.info("%s names code that its jobs will run: %s, in %s", key, reference, source(reference))
    log.info("%s: no mistakes found", ", ".join(map(str, files)))


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@for_people()
def runs(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/demo.")],
    means: Annotated[bool, typer.Option("--means", help="Means over searches and training seeds.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for programs.")] = False,
    as_json: Json = False,
) -> None:
    """List the finished training runs, the settings in which they differ, and their accuracy in per cent:
    repsearch runs results/demo --means.
    """
    start()
    from repsearch.results import listing

    frame = listing.means(results) if means else listing.table(results)
    if as_csv:
        typer.echo(frame.to_csv(index=False), nl=False)
    elif as_json:
        typer.echo(frame.to_json(orient="records", indent=2))
    else:
        per_cent = {name: "{:.1f}".format for name in listing.PERCENT if name in frame}
        typer.echo(frame.to_string(index=False, na_rep="–", float_format="{:.5g}".format, formatters=per_cent))


@for_people()
def tensorboard(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/demo.")],
    out: Annotated[Path, typer.Argument(help="Folder for the event files, such as results/demo/tensorboard.")],
) -> None:
    """Convert the finished training runs' epochs.csv to TensorBoard's event files, in place of former ones."""
    start()
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
    """Estimate jobs, hours and disk of a configuration on this machine, from a measurement of up to a minute:
    repsearch estimate config.yaml workflow/presets/small.yaml --target table1 --cores 2.

    All jobs count, finished ones too.
    """
    start()
    from repsearch.bench import estimate as bench
    from repsearch.config.load import read
    from repsearch.devices import gpus_found
    from repsearch.plan import Plan

    logging.getLogger("repsearch.learning").setLevel(logging.WARNING)  # of made-up images
    plan = Plan(read(*files))
    threads, cores = plan.config.threads, cores or os.cpu_count() or 1
    where = device_of(plan.config.device, threads)
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
    start()
    from repsearch.bench import search as bench

    threads = threads or os.cpu_count() or 1
    where = device_of(device, threads)
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
    start()
    from repsearch.bench import training as bench

    logging.getLogger("repsearch.learning").setLevel(logging.WARNING)  # of made-up images
    where = device_of(device, threads or os.cpu_count() or 1)
    images = images or (bench.TRAINING if where.type == "cuda" else 200)
    measured = bench.bench_train(where, width, classes, images, depths or [1, 2, 3], precision)
    _print(measured, as_json)
