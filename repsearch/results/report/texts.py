"""Captions and tables, as the results folder has them in Markdown (`phrases.markdown`), for the page."""

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from repsearch.errors import UserError

PROVENANCE = "Recipe digest: "  # how `phrases.provenance_text` begins
TITLE = re.compile(r"\*\*(.+?)\*\*\s*")
SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z])")


@dataclass(frozen=True)
class Caption:
    """title: such as "Figure 2". first: its first sentence. rest: the others. provenance: recipes and code versions."""

    title: str
    first: Markup
    rest: Markup
    provenance: str


@dataclass(frozen=True)
class Table:
    header: list[Markup]
    rows: list[list[Markup]]


def read(path: Path) -> str:
    """Raises UserError, naming the file, where it can't be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read ({error}): run snakemake to make it") from None


def caption(text: str) -> Caption:
    """The parts of a caption: **Title.** Sentences. Recipe digest: … Code version: …"""
    title = TITLE.match(text)
    said, _, provenance = text[title.end() if title else 0 :].partition(PROVENANCE)
    first, *rest = SENTENCE.split(said.strip(), maxsplit=1)
    name = title[1].rstrip(".") if title else ""
    return Caption(name, inline(first), inline(" ".join(rest)), f"{PROVENANCE}{provenance}" if provenance else "")


def blocks(text: str) -> list[Table | str]:
    """A Markdown file's paragraphs and tables, in order."""
    parts = [part for part in text.split("\n\n") if part.strip()]
    return [_table(part) if part.startswith("|") else part for part in parts]


def _table(text: str) -> Table:
    header, _, *rows = ([inline(cell) for cell in line[2:-2].split(" | ")] for line in text.strip().splitlines())
    return Table(header, rows)


def inline(text: str) -> Markup:
    """Bold type, code and line breaks of Markdown as HTML; everything else is text."""
    html = str(escape(text.strip())).replace("&lt;br&gt;", "<br>")
    html = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", html))
