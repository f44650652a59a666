"""One Markdown page with all tables and figures of a results folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from repsearch.errors import UserError
from repsearch.storage.files import write_text


def make(results: Sequence[Path], out: Path) -> None:
    """Write the page to `out`, a file of the results folder.

    results: files of tables (.md) and figures (.png, .md) in the order in which they are shown; others are ignored.
    """

    def files(folder: str, suffix: str) -> list[Path]:
        return [path for path in results if path.parent.name == folder and path.suffix == suffix]

    write_text(out, page(out.parent, files("tables", ".md"), files("figures", ".png"), files("figures", ".md")))


def page(results: Path, tables: Sequence[Path], figures: Sequence[Path], captions: Sequence[Path]) -> str:
    """The page in the folder `results`, to which its links are relative.

    tables: Markdown files, each with its own caption. figures, captions: pairs, in the same order. The folder's name is
    the scale's (results/demo: demo; results: that of config.yaml); each caption states the scale in numbers.
    """
    if len(figures) != len(captions):
        raise UserError(f"{len(figures)} figures but {len(captions)} captions: run snakemake to make those missing")
    scale = "the scale of config.yaml" if results.name == "results" else f"{results.name} scale"
    parts = [f"# Results: {scale}"]
    if tables:
        parts += ["## Tables", *(f"{_text(path)}\n\n{_data(results, path)}" for path in tables)]
    if figures:
        parts.append("## Figures")
    for png, caption in zip(figures, captions, strict=True):
        parts.append(f"![{png.stem}]({_link(results, png)})\n\n{_text(caption)}\n\n{_data(results, png)}")
    return "\n\n".join(parts) + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read ({error}): run snakemake to make it") from None


def _data(results: Path, path: Path) -> str:
    return f"Data: [{path.stem}.csv]({_link(results, path.with_suffix('.csv'))})"


def _link(results: Path, path: Path) -> str:
    return Path(os.path.relpath(path, results)).as_posix().replace(" ", "%20")
