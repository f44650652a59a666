"""Tables 1 and 2: test accuracies by data set and variant, beside the paper's (§4.3)."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from repsearch import paper
from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.jobs import TableJob
from repsearch.results.claims import Claim, Mean, verdict
from repsearch.results.runs import (
    AUGMENTATIONS,
    VARIANTS,
    markdown,
    mean_and_std,
    number_range,
    per_owner,
    points,
    provenance_text,
    read,
    read_csv,
    scale_text,
    spread,
    verify_inputs,
)
from repsearch.storage.files import atomic, write_csv, write_text

AUGMENTATION = {1: "plain", 2: "augmented"}  # by table
FACTS = ["label", "recipe", "validation_mean", "validation_std", "train_images", "test_images", "width", "epochs"]
DIGESTS = ["recipe_digest", "code_version", "settings_digest"]
COLUMNS = [
    *("dataset", "variant", "depth", "setting", "mean", "std", "n", "paper_mean", "paper_std", "difference"),
    *FACTS,
    *DIGESTS,
    *("augmentation", "paper", "tried"),
]
NAMES = {1: {**VARIANTS, "search-all": "Search-based Learning"}, 2: VARIANTS}


def make(job: TableJob, runs: Sequence[Path], out: Path) -> None:
    """Write the table's CSV to `out`; beside it .md and .png, drawn from it alone, and a _tried.csv of every depth and
    setting.

    runs: the summaries. Raises UserError where there is no such table, or a run was altered or is not of this table.
    """
    if job.number not in AUGMENTATION:
        raise UserError(f"there is no table {job.number}: choose {' or '.join(map(str, AUGMENTATION))}")
    verify_inputs(runs)
    tried = all_tried(job.number, read(runs, job.datasets))
    write_csv(out.with_name(f"{out.stem}_tried.csv"), tried)
    write_csv(out, best(tried))
    redraw(job.number, out)


def redraw(number: int, csv: Path) -> None:
    """Write the table of a CSV beside it, as Markdown and as a picture."""
    frame = read_csv(csv, COLUMNS)
    write_text(csv.with_suffix(".md"), to_markdown(number, frame))
    with rc_context({"font.family": "sans-serif", "font.size": 10}), atomic(csv.with_suffix(".png")) as temporary:
        draw(number, frame).savefig(temporary, dpi=200)


def accuracies(runs: pd.DataFrame) -> pd.DataFrame:
    """Test and validation accuracy (%) of each data set, augmentation, variant, setting (what of its training settings
    an alternative to the variant changes), depth and recipe, over its seeds.

    std is the sample standard deviation (NaN for one run). Raises UserError for runs that must not be averaged.
    """
    rows = []
    for group in points(runs):
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


def best(tried: pd.DataFrame) -> pd.DataFrame:
    """The table: of a variant's depths and settings, those with the best mean validation accuracy (of equals, the
    smaller depth).
    """
    chosen = tried.sort_values(["validation_mean", "depth"], ascending=[False, True])
    chosen = chosen.drop_duplicates(["dataset", "variant", "recipe"])
    return chosen.sort_index().reset_index(drop=True)


def all_tried(number: int, runs: pd.DataFrame) -> pd.DataFrame:
    """Every depth and setting of a table's runs. Data sets in their order there, variants in the paper's, then others.

    Raises UserError for runs that belong to another table.
    """
    frame = accuracies(runs)
    misplaced = frame.loc[frame["augmentation"] != AUGMENTATION[number], "variant"]
    if len(misplaced):
        raise UserError(
            f"table {number} is {AUGMENTATIONS[AUGMENTATION[number]]}, but runs of {', '.join(misplaced.unique())} "
            "are not: give each table its own runs"
        )
    published = [
        paper.TABLES.get((number, variant, column), (float("nan"), float("nan")))
        for variant, column in zip(frame["variant"], frame["paper"], strict=True)
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


def _in_order(number: int, variants: Sequence[str]) -> list[str]:
    """Distinct variants: the paper's rows of that table first, then the others in the order of `variants`."""
    published = dict.fromkeys(variant for table, variant, _ in paper.TABLES if table == number)
    distinct = dict.fromkeys(variants)
    return [name for name in published if name in distinct] + [name for name in distinct if name not in published]


def to_markdown(number: int, frame: pd.DataFrame) -> str:
    """The table in the paper's layout, with its caption above it."""
    header, rows = _cells(number, frame)
    body = markdown(header, rows, left=1)
    title, notes = _caption(number, frame)
    return f"**Table {number}.** {title} {' '.join(notes)}\n\n{body}\n"


def _cells(number: int, frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows. A variant with several recipes, settings or depths on one data set has one row for each."""
    rows = {}
    for variant in _in_order(number, frame["variant"]):
        part = frame[frame["variant"] == variant]
        split = [name for name in ("recipe", "setting", "depth") if part.groupby("dataset")[name].nunique().max() > 1]
        name = NAMES[number].get(variant, variant)
        for values, cells in part.groupby(split, sort=False) if split else [((), part)]:
            detail = ", ".join(f"{column} {value}" for column, value in zip(split, values, strict=True))
            rows[f"{name}, {detail}" if detail else name] = cells
    labels = dict(zip(frame["dataset"], frame["label"], strict=True))
    body = [[name, *(_cell(cells[cells["dataset"] == dataset]) for dataset in labels)] for name, cells in rows.items()]
    return ["", *labels.values()], body


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    ours = mean_and_std(row, n=True)
    return ours if pd.isna(row["paper_mean"]) else f"{ours}\n[{row['paper_mean']:.1f} ± {row['paper_std']:.1f}]"


def _caption(number: int, frame: pd.DataFrame) -> tuple[str, list[str]]:
    """Title, and notes: how to read a cell, depths, scale by data set, provenance."""
    notes = ["Mean ± sample standard deviation over n independent runs."]
    if frame["paper_mean"].notna().any():
        notes.append("In brackets: the paper's, mean ± std over 3 runs at its own scale.")
    if frame.duplicated(["dataset", "variant", "recipe"]).any():
        notes.append("A block of depth d has 2 d convolutions.")
    else:
        chosen = [_chosen(number, str(variant), rows) for variant, rows in frame.groupby("variant", sort=False)]
        notes.append(f"Convolutions per block: {'; '.join(chosen)}.")
    scales = per_owner((scale_text(rows), str(label)) for label, rows in frame.groupby("label", sort=False))
    notes.append(f"Scale: {scales}.")
    notes.append(provenance_text(frame))
    return f"Test accuracies (%) {AUGMENTATIONS[AUGMENTATION[number]]}.", notes


def _chosen(number: int, variant: str, rows: pd.DataFrame) -> str:
    """A variant's depth and setting by data set, and of how many validation chose them."""
    chosen = [
        str(2 * depth) + ("" if setting == "default" else f" with {setting}")
        for depth, setting in zip(rows["depth"], rows["setting"], strict=True)
    ]
    text = f"{NAMES[number].get(variant, variant)} " + per_owner(zip(chosen, rows["label"], strict=True))
    tried = f" (of {number_range(rows['tried'])} tried, the best on validation)" if rows["tried"].max() > 1 else ""
    return text + tried


def draw(number: int, frame: pd.DataFrame) -> Figure:
    """The table as a picture: three rules, as books set tables; notes below in small type."""
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


def near_sgd(frame: pd.DataFrame) -> Iterator[Claim]:
    """The claim read from table 1 (§4.3)."""
    for label, part in frame.groupby("label", sort=False):
        rows = part.set_index("variant")
        if not {"sgd", "search-all"} <= set(rows.index):
            continue
        sgd, search = rows.loc["sgd"], rows.loc["search-all"]
        below = Mean.of(sgd).above(Mean.of(search), by=1.0)
        yield Claim(
            "§4.3, table 1", "Without augmentation, search-based learning is within 1 % of SGD",
            f"{_published(search)} against {_published(sgd)}", f"{mean_and_std(search)} against {mean_and_std(sgd)}",
            number_range([sgd["n"], search["n"]]), f"{label}: {scale_text(part)}",
            verdict(None if below is None else not below),
        )  # fmt: skip


def skipping(frame: pd.DataFrame) -> Iterator[Claim]:
    """The claims read from table 2 (§4.3)."""
    for label, part in frame.groupby("label", sort=False):
        rows = part.set_index("variant")
        if not {"sgd", "search-all", "search-skip0"} <= set(rows.index):
            continue
        for text, higher, lower in (
            ("skipping block 0 is better than supervising all layers", "search-skip0", "search-all"),
            ("skipping block 0 stays below SGD", "sgd", "search-skip0"),
        ):
            first, second = rows.loc[higher], rows.loc[lower]
            yield Claim(
                "§4.3, table 2", f"With augmentation, {text}", f"{_published(first)} against {_published(second)}",
                f"{mean_and_std(first)} against {mean_and_std(second)}", number_range(part["n"]),
                f"{label}: {scale_text(part)}", verdict(Mean.of(first).above(Mean.of(second))),
            )  # fmt: skip


def _published(row: pd.Series) -> str:
    return "–" if pd.isna(row["paper_mean"]) else f"{row['paper_mean']:.1f} ± {row['paper_std']:.1f}"
