"""What tables, figures and claims have in common in words: names, numbers, scale, provenance, Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

# In the paper's order, with the paper's names.
VARIANTS = {"sgd": "SGD", "search-skip0": "Search-based (Skip block 0)", "search-all": "Search-based (All layers)"}
AUGMENTATIONS = {"plain": "without data augmentation", "augmented": "with data augmentation"}


def method(row: pd.Series) -> str:
    """The variant of a row, and its data augmentation if it has any."""
    name = str(VARIANTS.get(row["variant"], row["variant"]))
    return name if row["augmentation"] == "plain" else f"{name}, {AUGMENTATIONS[row['augmentation']]}"


def mean_and_std(row: pd.Series, prefix: str = "", n: bool = False) -> str:
    """12.3 ± 0.4 (n = 3) of a row's mean, std and counts, n = 2 × 3 of two searches; the mean alone for one run."""
    std = "" if pd.isna(row[f"{prefix}std"]) else f" ± {row[f'{prefix}std']:.1f}"
    return f"{row[f'{prefix}mean']:.1f}{std}" + (f" (n = {runs_text(row['searches'], row['seeds'])})" if n else "")


def runs_text(searches: int, seeds: int) -> str:
    """3, or 2 × 3 where there are several searches."""
    return f"{searches} × {seeds}" if searches > 1 else str(seeds)


def averaged_text(searches: int, seeds: int) -> str:
    """What a mean over runs is over: 2 searches × 3 training seeds. searches: 0 for runs without one."""
    trained = "one training seed" if seeds == 1 else f"{seeds} training seeds"
    if searches > 1:
        return f"{searches} searches × {trained}"
    return f"{trained}, one search" if searches else trained


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table: the first `left` columns left-aligned, the others centred; a cell's lines below each other."""
    lines = [header, ["---"] * left + [":---:"] * (len(header) - left), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", "<br>") for cell in line) + " |" for line in lines)


def scale_text(frame: pd.DataFrame) -> str:
    """The number of images, the width and the epochs behind a frame's numbers."""
    words = {"train_images": "{} training images", "validation_images": "{} validation images"}
    words |= {"test_images": "{} test images", "width": "width {}", "epochs": "{} epochs"}
    return ", ".join(text.format(number_range(frame[name])) for name, text in words.items() if name in frame)


def provenance_text(frame: pd.DataFrame) -> str:
    """Which recipes and which code made a frame's numbers."""
    used = frame[frame["recipe_digest"] != ""].drop_duplicates("recipe_digest")
    names = used["recipe"] + " " if "recipe" in used else pd.Series("", index=used.index)
    recipes = [f"{name}{digest}" for name, digest in zip(names, used["recipe_digest"], strict=True)]
    versions = list(dict.fromkeys(frame["code_version"]))
    return f"Recipe digest: {', '.join(recipes) or 'no recipe'}. Code version: {', '.join(versions)}."


def per_owner(pairs: Iterable[tuple[str, str]]) -> str:
    """For (value, owner) pairs: the value if all owners share one, else "2 for A and B, 6 for C"."""
    owners: dict[str, list[str]] = {}
    for value, owner in pairs:
        if owner not in owners.setdefault(value, []):
            owners[value].append(owner)
    if len(owners) == 1:
        return next(iter(owners))
    return ", ".join(f"{value} for {' and '.join(names)}" for value, names in owners.items())


def number_range(values: Iterable[Any]) -> str:
    """3, or 3 to 5 where the numbers differ; thousands separated."""
    distinct = sorted(set(values))
    return f"{distinct[0]:,}" if len(distinct) == 1 else f"{distinct[0]:,} to {distinct[-1]:,}"
