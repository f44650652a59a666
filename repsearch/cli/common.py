"""What all commands share: the program, their common options, their log, and the lock of what they write."""

import logging
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from repsearch import __version__, signals
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
T = TypeVar("T", bound=Job)
MESSAGE = "%(message)s%(pace)s"

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


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Decoupled search and learning. Results are made by snakemake, which calls the commands for its rules."""
    if version:
        typer.echo(f"repsearch {__version__}")
        raise typer.Exit


def start(log_file: Path | None = None, out: Path | None = None) -> None:
    """Messages go to standard error and are added to the log file, below a line that says when this run started.

    On standard error, where the lines of several jobs may mix, each begins with the job's name, that of its log.
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
    handlers[0].setFormatter(logging.Formatter(f"%(asctime)s {job_name(log_file)}{MESSAGE}", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {MESSAGE}", handlers=handlers, force=True)
    if out is not None:
        locks.hold(hidden(out, "lock"), out)


def job_name(log_file: Path | None) -> str:
    """`runs/…/seed0: ` of `…/logs/runs/…/seed0.log`: what a job's lines begin with; empty without a log."""
    if log_file is None:
        return ""
    parts = log_file.with_suffix("").parts
    after = parts[parts.index("logs") + 1 :] if "logs" in parts else parts[-1:]
    return "/".join(after).replace("%", "%%") + ": "


def job_to_do(kind: type[T], settings: str, out: Path, *inputs: Path | None) -> T:
    """The job; ends the command where its output is up to date, before torch is imported, which takes seconds."""
    from repsearch.stages import cache

    job = from_json(kind, settings)
    if cache.up_to_date(job, out, *inputs):
        raise typer.Exit
    return job


def device_of(name: str, threads: int) -> Any:
    from repsearch.devices import choose

    return choose(name, threads)
