"""One file per figure: a tidy CSV from probes or runs; then the picture and its caption from that CSV alone.

A module here is a figure, called by its file's name. It must have
- COLUMNS: what its CSV must have;
- build(job, inputs): the CSV's rows. job: a FigureJob. inputs: the probes' CSVs or the runs' summaries;
- draw(frame): the matplotlib figure of the CSV, read back;
- caption(frame): its caption, in Markdown;
and may have claims(frame): the paper's claims that it shows (`results.claims.Claim`).
"""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import style
from repsearch.results.runs import read_csv, verify_inputs
from repsearch.storage.files import write_csv, write_text


def make(job: FigureJob, inputs: Sequence[Path], out: Path, formats: Sequence[str] = ()) -> None:
    """Write a figure's CSV to `out`, and its picture (.png and `formats`: pdf, svg) and caption (.md) beside it.

    Raises UserError where there is no such figure, or an input was altered or can't be used.
    """
    figure = find(job.figure)
    verify_inputs(inputs)
    write_csv(out, figure.build(job, inputs))
    redraw(job.figure, out, formats)


def redraw(name: str, csv: Path, formats: Sequence[str] = ()) -> None:
    """Write the picture and the caption of a figure's CSV beside it."""
    figure = find(name)
    frame = read_csv(csv, figure.COLUMNS)
    style.save(csv, figure.draw, frame, formats)
    write_text(csv.with_suffix(".md"), figure.caption(frame))


def available() -> list[str]:
    """The figures' names."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> ModuleType:
    """A figure's module. Raises UserError where there is none, or it lacks what a figure must have."""
    if name not in available():
        raise UserError(f"there is no figure {name!r}: choose {', '.join(available())}")
    module = import_module(f"{__name__}.{name}")
    missing = [part for part in ("COLUMNS", "build", "draw", "caption") if not hasattr(module, part)]
    if missing:
        raise UserError(f"the module of figure {name} has no {', '.join(missing)}: see {__name__}")
    return module
