"""Puts the page together: what it shows, in which order; `template.html.j2` says how it looks."""

import base64
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from repsearch import __version__
from repsearch.errors import UserError
from repsearch.jobs import ReproductionJob
from repsearch.results.report import resources, texts, verdicts
from repsearch.results.report.texts import Caption, Table
from repsearch.storage.files import write_text

TEMPLATE = "template.html.j2"
PAPER = "https://arxiv.org/abs/2509.10973"
APART = ("gallery", "curves")  # figures with a section of their own
PIXELS = 200  # of a picture per inch (`style.save`); a screen's inch has 96


@dataclass(frozen=True)
class Picture:
    """A figure. png: base64. width, height: on the screen. csv: relative to the page."""

    name: str
    png: str
    width: int
    height: int
    caption: Caption
    csv: str


@dataclass(frozen=True)
class Shown:
    """A table's file: its caption, then what follows, and its CSV."""

    name: str
    caption: Caption
    parts: list[Table | Markup]
    csv: str


def make(job: ReproductionJob, results: Sequence[Path], out: Path) -> None:
    """Write the page to `out`, a file of the results folder, to which its links are relative.

    results: files of tables (.md) and figures (.png, each with its caption in .md) in the order in which they are
    shown; others are ignored. Raises UserError where a table, a caption or a picture can't be read.
    """
    folder = out.parent
    tables = [path for path in results if path.parent.name == "tables" and path.suffix == ".md"]
    figures = [path for path in results if path.parent.name == "figures" and path.suffix == ".png"]
    claims = verdicts.rows(job, folder)
    content: dict[str, Any] = {
        "job": job,
        "version": __version__,
        "paper": PAPER,
        "tables": [_table(folder, path) for path in tables],
        "claims": claims,
        "decided": [row for row in claims if row.verdict in ("holds", "does not")],
        "undecided": [row for row in claims if row.verdict == "undecided"],
        "constructed": [row for row in claims if row.verdict == "by construction"],
        "figures": [_picture(folder, path) for path in figures if path.stem not in APART],
        **{name: [_picture(folder, path) for path in figures if path.stem == name] for name in APART},
        "used": resources.used(folder),
        "devices": resources.devices(folder),
        "versions": resources.versions(),
    }
    write_text(out, _environment().get_template(TEMPLATE).render(content) + "\n")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("repsearch.results.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": resources.duration, "memory": resources.memory}
    return environment


def _table(folder: Path, path: Path) -> Shown:
    first, *rest = texts.blocks(texts.read(path))
    if isinstance(first, Table):
        raise UserError(f"{path} has no caption: delete it and run snakemake again")
    caption = texts.caption(first)
    last = rest[-1] if rest else ""
    if isinstance(last, str) and last.startswith(texts.PROVENANCE):  # of the study of readings
        caption, rest = replace(caption, provenance=last), rest[:-1]
    parts = [part if isinstance(part, Table) else texts.inline(part) for part in rest]
    return Shown(path.stem, caption, parts, _link(folder, path.with_suffix(".csv")))


def _picture(folder: Path, path: Path) -> Picture:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error}): run snakemake to make it") from None
    if not content.startswith(b"\x89PNG") or len(content) < 24:
        raise UserError(f"{path} is not a PNG: delete it and run snakemake again")
    width, height = (round(pixels * 96 / PIXELS) for pixels in struct.unpack(">II", content[16:24]))
    caption = texts.caption(texts.read(path.with_suffix(".md")))
    png = base64.b64encode(content).decode()
    return Picture(path.stem, png, width, height, caption, _link(folder, path.with_suffix(".csv")))


def _link(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix().replace(" ", "%20")
