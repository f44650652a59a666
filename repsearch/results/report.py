"""One Markdown page with all tables and figures of a results folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from repsearch.errors import UserError
from repsearch.storage.files import write_text


def make(results: Sequence[Path], out: Path) -> None:
    """Write the page to `out`, a file of the results folder, to which its links are relative.

    results: files of tables (.md) and figures (.png, each with its caption in .md) in the order in which they are
    shown; others are ignored. The folder's name is the scale's (results/demo: demo; results: that of config.yaml); each
    caption states the scale in numbers. Raises UserError where a table or a caption can't be read.
    """
    folder = out.parent
    tables = [path for path in results if path.parent.name == "tables" and path.suffix == ".md"]
    figures = [path for path in results if path.parent.name == "figures" and path.suffix == ".png"]
    scale = "the scale of config.yaml" if folder.name == "results" else f"{folder.name} scale"
    parts = [f"# Results: {scale}"]
    if tables:
        parts += ["## Tables", *(f"{_text(path)}\n\n{_data(folder, path)}" for path in tables)]
    if figures:
        parts.append("## Figures")
    for png in figures:
        picture = f"![{png.stem}]({_link(folder, png)})"
        parts.append(f"{picture}\n\n{_text(png.with_suffix('.md'))}\n\n{_data(folder, png)}")
    write_text(out, "\n\n".join(parts) + "\n")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read ({error}): run snakemake to make it") from None


def _data(results: Path, path: Path) -> str:
    return f"Data: [{path.stem}.csv]({_link(results, path.with_suffix('.csv'))})"


def _link(results: Path, path: Path) -> str:
    return Path(os.path.relpath(path, results)).as_posix().replace(" ", "%20")
