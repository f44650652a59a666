"""Tables 1 and 2: test accuracies by data set and variant, beside the paper's."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.results.runs import (
    AUGMENTATIONS,
    VARIANTS,
    grouped,
    in_words,
    markdown,
    points,
    provenance,
    read,
    read_csv,
    scale,
    several,
    spread,
)
from repsearch.storage.files import atomic

PAPER: dict[tuple[int, str, str], tuple[float, float]] = {
    (1, "sgd", "MNIST"): (99.1, 0.1),
    (1, "sgd", "CIFAR-10"): (89.1, 0.3),
    (1, "sgd", "CIFAR-100"): (62.3, 0.5),
    (1, "search-all", "MNIST"): (99.0, 0.1),
    (1, "search-all", "CIFAR-10"): (88.3, 0.3),
    (1, "search-all", "CIFAR-100"): (61.6, 0.2),
    (2, "sgd", "CIFAR-10"): (93.0, 0.2),
    (2, "sgd", "CIFAR-100"): (71.8, 0.4),
    (2, "search-skip0", "CIFAR-10"): (92.0, 0.1),
    (2, "search-skip0", "CIFAR-100"): (69.2, 0.3),
    (2, "search-all", "CIFAR-10"): (90.6, 0.3),
    (2, "search-all", "CIFAR-100"): (66.5, 0.3),
}
"""Test accuracy in per cent, (mean, std over 3 runs), by (table, variant, column): the paper's Table 1 ("without data
augmentation") and Table 2 ("with data augmentation")."""

TABLES = {1: "plain", 2: "augmented"}  # table → augmentation
FACTS = ["label", "recipe", "validation_mean", "validation_std", "train_images", "test_images", "width", "epochs"]
DIGESTS = ["recipe_digest", "code_version", "settings_digest"]
COLUMNS = [
    *("dataset", "variant", "depth", "setting", "mean", "std", "n", "paper_mean", "paper_std", "difference"),
    *FACTS,
    *DIGESTS,
    *("augmentation", "paper", "tried"),
]
NAMES = {1: {**VARIANTS, "search-all": "Search-based Learning"}, 2: VARIANTS}


def accuracies(summaries: Sequence[Path]) -> pd.DataFrame:
    """Test and validation accuracy (%) of each data set, augmentation, variant, setting (what of its training settings
    an alternative to the variant changes), depth and recipe, over its seeds.

    std is the sample standard deviation (NaN for one run). Raises UserError for runs that must not be averaged.
    """
    rows = []
    for group in points(read(summaries)):
        first = group.iloc[0]
        rows.append(
            {
                **first[["dataset", "label", "depth", "recipe"]],
                "variant": alternatives.family(first["variant"]),
                "setting": alternatives.setting(first["variant"]) or "default",
                **spread(100 * group["test_accuracy"]),
                "n": len(group),
                **spread(100 * group["validation_accuracy"], "validation_"),
                **first[["train_images", "test_images", "width", "epochs", *DIGESTS, "augmentation", "paper"]],
            }
        )
    return pd.DataFrame(rows)


def table(number: int, summaries: Sequence[Path]) -> pd.DataFrame:
    """Table 1 or 2: of a variant's depths and settings, those with the best mean validation accuracy (the smaller depth
    of equals)."""
    return best(all_tried(number, summaries))


def best(every: pd.DataFrame) -> pd.DataFrame:
    """What `table` takes of the rows of `all_tried`."""
    chosen = every.sort_values(["validation_mean", "depth"], ascending=[False, True])
    chosen = chosen.drop_duplicates(["dataset", "variant", "recipe"])
    return chosen.sort_index().reset_index(drop=True)


def all_tried(number: int, summaries: Sequence[Path]) -> pd.DataFrame:
    """As `table`, with every depth and setting. Data sets as given, variants in the paper's order, then others."""
    _known(number)
    frame = accuracies(summaries)
    other = frame.loc[frame["augmentation"] != TABLES[number], "variant"]
    if len(other):
        raise UserError(
            f"table {number} is {AUGMENTATIONS[TABLES[number]]}, but runs of {', '.join(other.unique())} are not: "
            "give each table its own runs"
        )
    published = [
        PAPER.get((number, variant, paper), (float("nan"), float("nan")))
        for variant, paper in zip(frame["variant"], frame["paper"], strict=True)
    ]
    frame = frame.assign(
        paper_mean=[mean for mean, _ in published],
        paper_std=[std for _, std in published],
        tried=frame.groupby(["dataset", "variant", "recipe"])["depth"].transform("count"),
        difference=[ours - mean for ours, (mean, _) in zip(frame["mean"], published, strict=True)],
    )
    datasets, variants = list(dict.fromkeys(frame["dataset"])), _in_order(number, frame["variant"])
    places = [
        (datasets.index(dataset), variants.index(variant), depth)
        for dataset, variant, depth in zip(frame["dataset"], frame["variant"], frame["depth"], strict=True)
    ]
    order = sorted(range(len(frame)), key=places.__getitem__)
    return frame.iloc[order].reset_index(drop=True)[COLUMNS]


def _known(number: int) -> None:
    if number not in TABLES:
        raise UserError(f"there is no table {number}: choose {' or '.join(map(str, TABLES))}")


def _in_order(number: int, variants: Sequence[str]) -> list[str]:
    """Distinct variants: the paper's rows of that table first, then the others as given."""
    rows = list(dict.fromkeys(variant for table, variant, _ in PAPER if table == number))
    given = list(dict.fromkeys(variants))
    return [v for v in rows if v in given] + [v for v in given if v not in rows]


def to_markdown(number: int, frame: pd.DataFrame) -> str:
    """The table in the paper's layout, with its caption above it."""
    header, rows = _cells(number, frame)
    body = markdown(header, rows, left=1)
    title, notes = _caption(number, frame)
    return f"**Table {number}.** {title} {' '.join(notes)}\n\n{body}\n"


def _cells(number: int, frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows. A variant with several recipes or depths of one data set has one row for each."""
    _known(number)
    rows = {}
    for variant in _in_order(number, frame["variant"]):
        own = frame[frame["variant"] == variant]
        split = [name for name in ("recipe", "setting", "depth") if own.groupby("dataset")[name].nunique().max() > 1]
        name = NAMES[number].get(variant, variant)
        for values, part in own.groupby(split, sort=False) if split else [((), own)]:
            detail = ", ".join(f"{column} {value}" for column, value in zip(split, values, strict=True))
            rows[f"{name}, {detail}" if detail else name] = part
    labels = dict(zip(frame["dataset"], frame["label"], strict=True))
    body = [[name, *(_cell(part[part["dataset"] == dataset]) for dataset in labels)] for name, part in rows.items()]
    return ["", *labels.values()], body


def _cell(found: pd.DataFrame) -> str:
    if found.empty:
        return "–"
    row = found.iloc[0]
    ours = in_words(row, n=True)
    return ours if pd.isna(row["paper_mean"]) else f"{ours}\n[{row['paper_mean']:.1f} ± {row['paper_std']:.1f}]"


def _caption(number: int, frame: pd.DataFrame) -> tuple[str, list[str]]:
    """Title, and notes: how to read a cell, depths, scale by data set, provenance."""
    notes = ["Mean ± sample standard deviation over n independent runs."]
    if frame["paper_mean"].notna().any():
        notes.append("In brackets: the paper's, mean ± std over 3 runs at its own scale.")
    if frame.duplicated(["dataset", "variant", "recipe"]).any():
        notes.append("A block of depth d has 2 d convolutions.")
    else:
        chosen = [_chosen(NAMES[number].get(str(variant), str(variant)), own) for variant, own in by_variant(frame)]
        notes.append(f"Convolutions a block: {'; '.join(chosen)}.")
    scales = grouped((scale(own), str(label)) for label, own in frame.groupby("label", sort=False))
    notes.append(f"Scale: {scales}.")
    notes.append(provenance(frame))
    return f"Test accuracies (%) {AUGMENTATIONS[TABLES[number]]}.", notes


def by_variant(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for variant, own in frame.groupby("variant", sort=False):
        yield str(variant), own


def _chosen(name: str, own: pd.DataFrame) -> str:
    """For people: a variant's depth and setting by data set, and of how many validation chose them."""
    named = [
        str(2 * depth) + ("" if setting == "default" else f" with {setting}")
        for depth, setting in zip(own["depth"], own["setting"], strict=True)
    ]
    text = f"{name} " + grouped(zip(named, own["label"], strict=True))
    return text + (f" (of {several(own['tried'])} tried, the best on validation)" if own["tried"].max() > 1 else "")


def draw(number: int, csv: Path, png: Path) -> None:
    """The table as an image, from its CSV alone."""
    frame = read_csv(csv, COLUMNS)
    with rc_context({"font.family": "sans-serif", "font.size": 10}), atomic(png) as temporary:
        picture(number, frame).savefig(temporary, dpi=200)


def picture(number: int, frame: pd.DataFrame) -> Figure:
    """Three rules, as books set tables; notes below in small type."""
    header, rows = _cells(number, frame)
    title, notes = _caption(number, frame)
    first, other = (0.3 + 0.085 * max(map(len, names)) for names in ([row[0] for row in rows], [*header, 18 * "x"]))
    line = 0.2  # inches, as all sizes here
    width = max(5.0, first + other * (len(header) - 1))
    lines = [part for note in notes for part in textwrap.wrap(note, int(width * 17))]
    heights = [2.2 * line if any("\n" in cell for cell in row) else 1.4 * line for row in rows]
    height = 0.35 + 0.4 + sum(heights) + 0.15 + 0.15 * len(lines) + 0.1
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.1, 0.22, f"Table {number}. {title}", va="center", weight="bold")
    centres = [first + (column + 0.5) * (width - first) / (len(header) - 1) for column in range(len(header) - 1)]
    y = 0.4
    for weight, cells, tall in [(1.2, header, 0.35), *((0.6, row, h) for row, h in zip(rows, heights, strict=True))]:
        if weight > 1 or cells is rows[0]:
            axes.plot([0.1, width - 0.1], [y, y], color="black", linewidth=weight)
        axes.text(0.15, y + tall / 2, cells[0], va="center")
        for x, cell in zip(centres, cells[1:], strict=True):
            axes.text(x, y + tall / 2, cell, ha="center", va="center", linespacing=1.3)
        y += tall
    axes.plot([0.1, width - 0.1], [y, y], color="black", linewidth=1.2)
    axes.text(0.1, y + 0.1, "\n".join(lines), va="top", fontsize=7.5, color="0.25", linespacing=1.3)
    return figure
