"""Tables 1 and 2: test accuracies by data set and variant, next to the paper's (§4.3)."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from repsearch import paper
from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.jobs import TableJob
from repsearch.results import latex, phrases
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import WELCH, Estimate
from repsearch.results.runs import COUNTS, DIGESTS, counts, percent, points, read, read_csv, verify_inputs
from repsearch.storage.files import atomic, write_csv, write_text

COLUMNS = ["dataset", "variant", "depth", "setting", "mean", "std", *COUNTS, "paper_mean", "paper_std", "difference"]
COLUMNS += ["label", "recipe", "error", "df", "validation_mean", "validation_std", "validation_error", "validation_df"]
COLUMNS += ["train_images", "test_images", "width", "epochs", *DIGESTS, "augmentation", "paper", "tried"]
NAMES = {1: {**phrases.VARIANTS, "search-all": "Search-based Learning"}, 2: phrases.VARIANTS}


def make(job: TableJob, runs: Sequence[Path], out: Path, formats: Sequence[str] = ()) -> None:
    """Write the table's CSV to `out`; beside it .md, .png and, with the format latex, .tex, drawn from it alone, and a
    _tried.csv of every depth and setting.

    runs: the summaries. Raises UserError where there is no such table, or a run was altered or is not of this table.
    """
    if job.number not in paper.AUGMENTATIONS:
        raise UserError(f"there is no table {job.number}: choose {' or '.join(map(str, paper.AUGMENTATIONS))}")
    verify_inputs(runs)
    tried = all_tried(job.number, read(runs, job.datasets))
    write_csv(out.with_name(f"{out.stem}_tried.csv"), tried)
    write_csv(out, best(tried))
    redraw(job.number, out, formats)


def redraw(number: int, csv: Path, formats: Sequence[str] = ()) -> None:
    """Write the table of a CSV beside it, as Markdown, as a picture and, with the format latex, for LaTeX."""
    frame = read_csv(csv, COLUMNS)
    write_text(csv.with_suffix(".md"), to_markdown(number, frame))
    if "latex" in formats:
        title, notes = _caption(number, frame)
        latex.write(csv, [latex.table(csv.stem, title, *_cells(number, frame), " ".join(notes), left=1)])
    save(csv.with_suffix(".png"), lambda: draw(number, frame))


def save(png: Path, drawn: Callable[[], Figure]) -> None:
    """Write a table's picture."""
    with rc_context({"font.family": "sans-serif", "font.size": 10}), atomic(png) as temporary:
        drawn().savefig(temporary, dpi=200)


def accuracies(runs: pd.DataFrame) -> pd.DataFrame:
    """Test and validation accuracy (%) of each data set, augmentation, variant, setting (the training settings that an
    alternative to the variant changes), depth and recipe, over its searches and training seeds.

    std is the sample standard deviation of the runs (NaN for one). tried: how many depths and settings the variant has
    there. Raises UserError for runs that must not be averaged.
    """
    rows = []
    for group in points(runs):
        first = group.iloc[0]
        rows.append(
            {
                **first[["dataset", "label", "depth", "recipe"]],
                "variant": alternatives.family(first["variant"]),
                "setting": alternatives.setting(first["variant"]) or "default",
                **percent(group, "test_accuracy"),
                **counts(group),
                **percent(group, "validation_accuracy", "validation_"),
                **first[["train_images", "test_images", "width", "epochs", *DIGESTS, "augmentation", "paper"]],
            }
        )
    frame = pd.DataFrame(rows)
    frame["tried"] = frame.groupby(["dataset", "augmentation", "variant", "recipe"])["depth"].transform("count")
    return frame


def best(tried: pd.DataFrame) -> pd.DataFrame:
    """The table: for each variant the depth and setting with the best mean validation accuracy (of equally good ones
    the smaller depth, then the variant's own setting).
    """
    keys = tried.assign(accuracy=tried["validation_mean"].round(6), changed=tried["setting"] != "default")
    order = keys.sort_values(["accuracy", "depth", "changed"], ascending=[False, True, True], kind="stable").index
    chosen = tried.loc[order].drop_duplicates(["dataset", "augmentation", "variant", "recipe"])
    return chosen.sort_index().reset_index(drop=True)


def all_tried(number: int, runs: pd.DataFrame) -> pd.DataFrame:
    """Every depth and setting of a table's runs: data sets in the order of the runs, variants in the paper's order,
    followed by those that the paper doesn't have.

    Raises UserError for runs that belong to another table.
    """
    frame = accuracies(runs)
    misplaced = frame.loc[frame["augmentation"] != paper.AUGMENTATIONS[number], "variant"]
    if len(misplaced):
        kind, names = phrases.AUGMENTATIONS[paper.AUGMENTATIONS[number]], ", ".join(misplaced.unique())
        raise UserError(f"table {number} is {kind}, but runs of {names} are not: give each table its own runs")
    published = [
        paper.TABLES.get((number, variant, column), (float("nan"), float("nan")))
        for variant, column in zip(frame["variant"], frame["paper"], strict=True)
    ]
    frame[["paper_mean", "paper_std"]] = published
    frame["difference"] = frame["mean"] - frame["paper_mean"]
    places = {"dataset": list(frame["dataset"].unique()), "variant": _in_order(number, frame["variant"])}
    keys = frame[["depth"]].assign(**{name: frame[name].map(order.index) for name, order in places.items()})
    return frame.loc[keys.sort_values(["dataset", "variant", "depth"]).index, COLUMNS].reset_index(drop=True)


def _in_order(number: int, variants: Sequence[str]) -> list[str]:
    """Distinct variants: the paper's rows of that table first, then the others in the order of `variants`."""
    published = dict.fromkeys(variant for table, variant, _ in paper.TABLES if table == number)
    distinct = dict.fromkeys(variants)
    return [name for name in published if name in distinct] + [name for name in distinct if name not in published]


def to_markdown(number: int, frame: pd.DataFrame) -> str:
    """The table in the paper's layout, with its caption above it."""
    title, notes = _caption(number, frame)
    body = phrases.markdown(*_cells(number, frame), left=1)
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
    ours = phrases.mean_and_std(row, n=True)
    return ours if pd.isna(row["paper_mean"]) else f"{ours}\n[{_published(row)}]"


def _published(row: pd.Series) -> str:
    return "–" if pd.isna(row["paper_mean"]) else f"{row['paper_mean']:.1f} ± {row['paper_std']:.1f}"


def _caption(number: int, frame: pd.DataFrame) -> tuple[str, list[str]]:
    """Title, and notes: how to read a cell, depths, scale by data set, provenance."""
    several = frame["searches"].max() > 1
    over = "n runs (searches × training seeds, or training seeds alone)" if several else "n training seeds, one search"
    notes = [f"Mean ± sample standard deviation over {over}."]
    if frame["paper_mean"].notna().any():
        notes.append("In brackets: the paper's, mean ± std over 3 runs at its own scale.")
    if frame.duplicated(["dataset", "variant", "recipe"]).any():
        notes.append("A block of depth d has 2 d convolutions.")
    else:
        tuned = frame["tried"].max() > 1
        chosen = [_chosen(number, variant, rows, tuned) for variant, rows in frame.groupby("variant", sort=False)]
        notes.append(f"Convolutions per block: {'; '.join(chosen)}.")
    scales = phrases.per_owner((phrases.scale_text(rows), label) for label, rows in frame.groupby("label", sort=False))
    notes += [f"Scale: {scales}.", phrases.provenance_text(frame)]
    return f"Test accuracies (%) {phrases.AUGMENTATIONS[paper.AUGMENTATIONS[number]]}.", notes


def _chosen(number: int, variant: str, rows: pd.DataFrame, tuned: bool) -> str:
    """A variant's depth and setting by data set; where some variant is tuned, of how many that were tried."""
    chosen = [
        str(2 * depth) + ("" if setting == "default" else f" with {setting}")
        for depth, setting in zip(rows["depth"], rows["setting"], strict=True)
    ]
    text = f"{NAMES[number].get(variant, variant)} " + phrases.per_owner(zip(chosen, rows["label"], strict=True))
    most = phrases.number_range(rows["tried"])
    return f"{text} ({'one setting' if most == '1' else f'the best of {most} on validation'})" if tuned else text


def draw(number: int, frame: pd.DataFrame) -> Figure:
    title, notes = _caption(number, frame)
    return picture(f"Table {number}. {title}", *_cells(number, frame), notes)


def picture(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> Figure:
    """A table as a picture: three rules, as books set tables; notes below in small type."""
    columns = [*header, 18 * "x", *(part for row in rows for cell in row[1:] for part in cell.split("\n"))]
    first, other = (0.3 + 0.085 * max(map(len, names)) for names in ([row[0] for row in rows], columns))
    line = 0.2  # inches, as all sizes here
    width = max(5.0, first + other * (len(header) - 1))
    lines = [part for note in notes for part in textwrap.wrap(note, int(width * 17))]
    heights = [line * (0.6 + 0.8 * max(1 + cell.count("\n") for cell in row)) for row in rows]
    height = 0.35 + 0.4 + sum(heights) + 0.15 + 0.15 * len(lines) + 0.1
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.1, 0.22, title, va="center", weight="bold")
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


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """The claims read from table 1 or 2 (§4.3): the first's of all data sets together, as the paper puts it; the
    second's for each data set. Of those that have both variants compared.
    """
    number = 1 if frame["augmentation"].iloc[0] == "plain" else 2
    parts = [rows.drop_duplicates("variant").set_index("variant") for _, rows in frame.groupby("label", sort=False)]
    for text, quote, first, second, thresholds in CLAIMS[number]:
        compared = [rows.loc[[first, second]] for rows in parts if {first, second} <= set(rows.index)]
        for together in [compared] if number == 1 and compared else [[rows] for rows in compared]:
            yield _comparison(number, text, quote, together, thresholds)


CLAIMS = {  # claim, the paper's words, (first, second, thresholds): first minus second must be above the threshold, in
    # points, of the paper's data set, or of all others ("")
    1: [
        (
            "Without augmentation, search-based learning is within 1 % of SGD on every data set",
            "without data augmentation, our method achieves test accuracy within 1% of SGD across all three benchmarks",
            *("search-all", "sgd", {"": -1.0}),
        )
    ],
    2: [
        (
            "With augmentation, skipping block 0 is better than supervising all layers, by any amount",
            "the variant that skips supervision on the first block (…) performs substantially better",
            *("search-skip0", "search-all", {"": 0.0}),
        ),
        (
            "With augmentation, skipping block 0 trails SGD by no more than in the paper",
            "trailing SGD by just 1.0% on CIFAR-10 and 2.6% on CIFAR-100",
            *("search-skip0", "sgd", {"CIFAR-10": -1.0, "": -2.6}),
        ),
        (
            "With augmentation, supervising all layers stays below SGD, by any amount",
            "performs worse than SGD, trailing by a few points on CIFAR-10 and CIFAR-100",
            *("sgd", "search-all", {"": 0.0}),
        ),
    ],
}


def _setting(row: pd.Series) -> str:
    tried = f"best of {row['tried']} settings" if row["tried"] > 1 else "one setting"
    return f"depth {row['depth']}, {tried}"


def _comparison(
    number: int, text: str, quote: str, parts: Sequence[pd.DataFrame], thresholds: Mapping[str, float]
) -> Claim:
    """A claim about two rows of a table, each data set's in `parts`: the first minus the second, by test accuracy."""
    effects: list[Effect] = []
    over: list[tuple[str, str]] = []
    published: list[str] = []
    names = [NAMES[number][variant] for variant in parts[0].index]
    for rows in parts:
        (_, first), (_, second) = rows.iterrows()
        numbers = [
            f"{name} {phrases.mean_and_std(row)} ({_setting(row)})"
            for name, (_, row) in zip(names, rows.iterrows(), strict=True)
        ]
        margin = thresholds.get(first["paper"], thresholds[""])
        label = first["label"] if len(parts) > 1 else ""
        compared = " and ".join(numbers) + (f", threshold {margin:g}" if len(thresholds) > 1 else "")
        effects.append(Effect(label, Estimate.read(first) - Estimate.read(second), compared, margin))
        averaged = [phrases.averaged_text(row["searches"], row["seeds"]) for _, row in rows.iterrows()]
        over += zip(averaged, names, strict=True)
        published.append(f"{label} {' and '.join(_published(row) for _, row in rows.iterrows())}".strip())
    everything = pd.concat(parts)
    others = " (all other data, copies too)" if len(thresholds) > 1 else ""
    values = [f"{value:g}{f' ({name})' if name else others}" for name, value in thresholds.items()]
    untuned = any("sgd" in rows.index and rows.loc["sgd", "tried"] < rows["tried"].max() for rows in parts)
    return Claim(
        f"§4.3, table {number}", text, quote,
        f"test accuracy (%) of {names[0]} minus that of {names[1]}, which must be above {' or '.join(values)}",
        f"{WELCH}; depths and settings may differ, so that runs of one seed are not pairs", effects,
        phrases.per_owner(over), f"{'; '.join(everything['label'].unique())}: {phrases.scale_text(everything)}",
        paper="; ".join(published) if everything["paper_mean"].notna().all() else "",
        searches=int(everything.loc[everything["searches"] > 0, "searches"].min()),
        problem="SGD was tuned over fewer settings" if untuned else "",
    )  # fmt: skip
