"""What tables and figures share: runs read back, seeds that may be averaged, CSVs with typed columns, provenance."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from repsearch.errors import UserError
from repsearch.storage.files import read_json

VARIANTS = {  # in the paper's order, with the paper's names
    "sgd": "SGD",
    "search-skip0": "Search-based (Skip block 0)",
    "search-all": "Search-based (All layers)",
}
AUGMENTATIONS = {"plain": "without data augmentation", "augmented": "with data augmentation"}
POINT = ["dataset", "augmentation", "variant", "depth", "recipe"]  # runs equal in these are seeds of one number
SCALE = ["train_images", "validation_images", "test_images", "width", "epochs"]
ALIKE = ["recipe_digest", "code_version", "settings_digest", "population", "generations", *SCALE, "label", "paper"]
NUMBERS = ["depth", "population", "generations", "seed", *SCALE, "validation_accuracy", "test_accuracy"]
TEXT = {
    *("dataset", "label", "paper", "augmentation", "variant", "recipe", "recipe_digest", "code_version"),
    *("settings_digest", "panel", "block", "series", "kind", "part", "reading", "setting"),
}
AGAIN = "run snakemake again so that all are made alike"


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """One row a run, with its summary's `path`. Raises UserError where a summary lacks something."""
    if not paths:
        raise UserError("no training runs were given: name the summary.json of at least one")
    rows = []
    for path in paths:
        summary = read_json(path)
        wanted = [*POINT, *ALIKE, *NUMBERS]
        missing = sorted({name for name in wanted if name not in summary})
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}: {AGAIN}")
        wrong = [name for name in NUMBERS if not isinstance(summary[name], int | float)]
        if wrong:
            raise UserError(f"{path}: {', '.join(wrong)} must be numbers: {AGAIN}")
        rows.append({"path": Path(path), **{name: summary[name] for name in wanted}, "paper": summary["paper"] or ""})
    return pd.DataFrame(rows)


def points(runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The runs behind one number at a time (seeds of the same settings), in the order given.

    Raises UserError rather than let runs that differ in recipe, code, settings or scale be averaged, or one seed count
    twice.
    """
    for _, group in runs.groupby(POINT, sort=False):
        first = group.iloc[0]
        for column in ALIKE:
            for _, other in group[group[column] != first[column]].iterrows():
                raise UserError(
                    f"can't average runs that differ in {column}: {first['path']} has {first[column]!r}, "
                    f"{other['path']} has {other[column]!r}; {AGAIN}"
                )
        twice = group[group["seed"].duplicated(keep=False)]
        if len(twice):
            files = " and ".join(str(path) for path in twice["path"][:2])
            raise UserError(f"seed {twice.iloc[0]['seed']} would count twice: {files}; {AGAIN}")
        yield group


def spread(values: pd.Series, prefix: str = "") -> dict[str, float]:
    """Mean and sample standard deviation (ddof = 1; NaN for one value). The paper does not say which std it gives."""
    return {f"{prefix}mean": float(values.mean()), f"{prefix}std": float(values.std(ddof=1))}


def read_csv(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A CSV that must have `columns`; names and digests stay text. Raises UserError where it can't serve."""
    remedy = "delete it and run snakemake again"
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run snakemake to make it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as CSV ({str(error).splitlines()[0]}): {remedy}") from None
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}: {remedy}")
    if frame.empty:
        raise UserError(f"{path} has no rows: {remedy}")
    words = [name for name in columns if name not in TEXT and not pd.api.types.is_numeric_dtype(frame[name])]
    if words:
        raise UserError(f"{path} has something other than numbers in {', '.join(words)}: {remedy}")
    present = [name for name in frame.columns if name in TEXT]
    return frame.assign(**{name: frame[name].fillna("") for name in present})


def in_words(row: pd.Series, prefix: str = "", n: bool = False) -> str:
    """12.3 ± 0.4 (n = 3) of a row's mean, std and n; the mean alone for one run."""
    spread = "" if pd.isna(row[f"{prefix}std"]) else f" ± {row[f'{prefix}std']:.1f}"
    return f"{row[f'{prefix}mean']:.1f}{spread}" + (f" (n = {row['n']})" if n else "")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table: the first `left` columns to the left, the others centred; a cell's lines below each other."""
    lines = [header, ["---"] * left + [":---:"] * (len(header) - left), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", "<br>") for cell in line) + " |" for line in lines)


def scale(frame: pd.DataFrame) -> str:
    """For people: the number of images, the width and the epochs behind a frame's numbers."""
    words = {"train_images": "{} training images", "validation_images": "{} validation images"}
    words |= {"test_images": "{} test images", "width": "width {}", "epochs": "{} epochs"}
    return ", ".join(text.format(several(frame[name])) for name, text in words.items() if name in frame)


def provenance(frame: pd.DataFrame) -> str:
    """For people: which recipes and which code made a frame's numbers."""
    used = frame[frame["recipe_digest"] != ""].drop_duplicates("recipe_digest")
    names = used["recipe"] + " " if "recipe" in used else pd.Series("", index=used.index)
    recipes = [f"{name}{digest}" for name, digest in zip(names, used["recipe_digest"], strict=True)]
    versions = list(dict.fromkeys(frame["code_version"]))
    return f"Recipe digest: {', '.join(recipes) or 'no recipe'}. Code version: {', '.join(versions)}."


def grouped(pairs: Iterable[tuple[str, str]]) -> str:
    """For (value, owner) pairs: the value where all share one, or "2 for A and B, 6 for C"."""
    owners: dict[str, list[str]] = {}
    for value, owner in pairs:
        if owner not in owners.setdefault(value, []):
            owners[value].append(owner)
    if len(owners) == 1:
        return next(iter(owners))
    return ", ".join(f"{value} for {' and '.join(names)}" for value, names in owners.items())


def several(values: Iterable[Any]) -> str:
    """3, or 3 to 5 where they differ; thousands separated."""
    distinct = sorted(set(values))
    return f"{distinct[0]:,}" if len(distinct) == 1 else f"{distinct[0]:,} to {distinct[-1]:,}"
