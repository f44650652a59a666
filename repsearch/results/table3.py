"""Table 3: what goes beyond the paper next to SGD, with what each cost. Collected from figure 8, cycles, ensembles."""

from collections.abc import Iterator, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from repsearch.config import alternatives
from repsearch.results import latex, phrases, tables
from repsearch.results.estimates import SIGNIFICANT, WELCH, Estimate
from repsearch.results.figures import cycles, ensembles, figure8
from repsearch.results.runs import COUNTS, read_csv
from repsearch.storage.files import write_csv, write_text

SCALE = ["train_images", "validation_images", "width", "epochs"]
COLUMNS = [
    "label",
    "dataset",
    "method",
    "is_baseline",
    "size",
    "mean",
    "std",
    *COUNTS,
    "error",
    "df",
    "candidates",
    "image_passes",
]
COLUMNS += ["difference", "low", "high", "p", "verdict", *SCALE, "code_version"]


def make(inputs: Sequence[Path], out: Path, formats: Sequence[str] = ()) -> None:
    """Write the table's CSV to `out`; beside it .md, .png and, with the format latex, .tex, drawn from it alone.

    inputs: the CSVs of figure8, cycles, ensembles, as far as there are any. Raises UserError where one can't be used.
    """
    rows = [{"is_baseline": 0, **row} for path in inputs for row in READERS[path.stem](path)]
    write_csv(out, compared(pd.DataFrame(rows)))
    redraw(out, formats)


def redraw(csv: Path, formats: Sequence[str] = ()) -> None:
    """Write the table of a CSV beside it, as Markdown, as a picture and, with the format latex, for LaTeX."""
    frame = read_csv(csv, COLUMNS)
    title, notes = _caption(frame)
    header, rows = _cells(frame)
    number, below = "Table 3.", " ".join(notes)
    write_text(csv.with_suffix(".md"), f"**{number} {title}** {below}\n\n{phrases.markdown(header, rows, left=1)}\n")
    tables.save(csv.with_suffix(".png"), lambda: tables.picture(f"{number} {title}", header, rows, notes))
    if "latex" in formats:
        latex.write(csv, [latex.table(csv.stem, title, header, rows, below, left=1)])


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with each one's difference from the baseline on the same data set, in points, and what Welch's t-test
    says: nothing without one.
    """
    baseline = frame[frame["is_baseline"] == 1].drop_duplicates("dataset").set_index("dataset")
    columns: list[dict[str, Any]] = []
    for _, row in frame.iterrows():
        if row["is_baseline"] or row["dataset"] not in baseline.index:
            columns.append({**dict.fromkeys(("difference", "low", "high", "p"), nan), "verdict": ""})
            continue
        gap = Estimate.read(row) - Estimate.read(baseline.loc[row["dataset"]])
        low, high = gap.interval()
        columns.append({"difference": gap.mean, "low": low, "high": high, "p": gap.p(), "verdict": _verdict(gap)})
    return pd.concat([frame.reset_index(drop=True), pd.DataFrame(columns)], axis=1)[COLUMNS]


def _verdict(gap: Estimate) -> str:
    if not gap.df:
        return "not tested"
    if gap.p() < SIGNIFICANT:
        return "above SGD" if gap.mean > 0 else "below SGD"
    return "not told apart"


def _of_figure8(path: Path) -> Iterator[dict[str, Any]]:
    """SGD, without and with augmentation; then of each variant the recipe itself, and of each series the point that
    validation prefers.
    """
    frame = read_csv(path, figure8.COLUMNS)
    frame["base"] = frame["recipe"] == frame["recipe"].map(alternatives.family)
    frame = frame.sort_values("series", key=lambda series: series != figure8.BASELINE, kind="stable")
    for (_, _, augmentation), rows in frame.groupby(["dataset", "variant", "augmentation"], sort=False):
        name = phrases.method(rows.iloc[0])
        own = int(rows["series"].iloc[0] == figure8.BASELINE and augmentation == "plain")
        yield {**_searched(rows[rows["base"]].iloc[0], name), "is_baseline": own}
        for series in figure8.SERIES.values():
            points = rows[(rows["series"] == series) & ~rows["base"]].sort_values("validation_mean", kind="stable")
            if len(points):
                yield _searched(points.iloc[-1], f"{name}: {series[0].lower()}{series[1:]}")


def _searched(row: pd.Series, method: str) -> dict[str, Any]:
    size = " × ".join(f"{row[axis]:g}" for axis in ("runs", "population", "generations")) if row["candidates"] else ""
    return {**row, "method": method, "size": size, **_cost(row.to_frame().T)}


def _cost(rows: pd.DataFrame) -> dict[str, float]:
    """Of all rows: candidates, of all images, held-out ones included; passes of training images × depth."""
    candidates = rows["candidates"] * (rows["train_images"] + rows["validation_images"])
    passes = rows["train_images"] * rows["epochs"] * rows["depth"]
    return {"candidates": float(candidates.sum()), "image_passes": float(passes.sum())}


def _of_cycles(path: Path) -> Iterator[dict[str, Any]]:
    """The last cycle of each chain, with the compute of all."""
    frame = read_csv(path, cycles.COLUMNS)
    frame = frame[frame["kind"] == cycles.ACCURACY]
    for (_, chain), rows in frame.groupby(["dataset", "chain"], sort=False):
        rows = rows.sort_values("cycle")
        size = f"{rows['cycle'].max():.0f} cycles"
        yield {**rows.iloc[-1], "method": f"Cycles: {chain}", "size": size, **_cost(rows)}


def _of_ensembles(path: Path) -> Iterator[dict[str, Any]]:
    """Of each kind the mean of the members, and the mean weighted on held-out images."""
    frame = read_csv(path, ensembles.COLUMNS)
    for (_, kind), rows in frame.groupby(["dataset", "kind"], sort=False):
        cost = rows.set_index("measure")["mean"]
        for measure in ("ensemble", "weighted"):
            row = rows[rows["measure"] == measure].iloc[0]
            method = f"Ensemble: {kind}" + (", weighted" if measure == "weighted" else "")
            counted = {"searches": 0, "seeds": row["n"], "size": f"{row['members']} members"}
            yield {**row, **counted, "method": method, **cost[["candidates", "image_passes"]]}


READERS = {"figure8": _of_figure8, "cycles": _of_cycles, "ensembles": _of_ensembles}


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a method per row, a data set per column."""
    datasets = frame.drop_duplicates("dataset").set_index("dataset")
    header = ["", *(f"{row['label']}, {row['train_images']:,.0f}" for _, row in datasets.iterrows())]
    cells = {(row["method"], row["dataset"]): _cell(row) for _, row in frame.iterrows()}
    methods = dict.fromkeys(frame["method"])
    return header, [[method, *(cells.get((method, dataset), "–") for dataset in datasets.index)] for method in methods]


MARKS = {"above SGD": " ▲", "below SGD": " ▼"}


def _cell(row: pd.Series) -> str:
    """Accuracy; the difference from SGD; what it cost."""
    count = phrases.runs_text(row["searches"], row["seeds"])
    lines = [f"{phrases.mean_and_std(row)} (n = {count}){MARKS.get(row['verdict'], '')}"]
    if not isnan(row["p"]):
        lines.append(f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]")
    cost = [row["size"], *(_large(row[name]) for name in ("candidates", "image_passes"))]
    return "\n".join([*lines, "; ".join(part for part in cost if part)])


def _large(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return ""


def _caption(frame: pd.DataFrame) -> tuple[str, list[str]]:
    notes = [
        "Test accuracy (%), mean ± sample standard deviation over n runs (searches × training seeds), or n ensembles.",
        f"Below it the difference from SGD with its 95 % confidence interval ({WELCH}); ▲ above SGD, ▼ below it, "
        f"p < {SIGNIFICANT}, not corrected for the number of methods. No method has data augmentation unless it says "
        "so. SGD, with it or without, is at the depth and the training settings that validation prefers; all others "
        "are at their own settings, not tuned. Of each way to spend search compute, the point that validation prefers "
        "is shown, of those that change the recipe.",
        "Last: runs × population × generations of block 0; candidates that all searches made, for all images (what a "
        "network computes without a search counts as one per search layer); training images × epochs × depth, over all "
        "members and cycles.",
        f"Scale: {phrases.scale_text(frame)}.",
    ]
    return "Beyond the paper.", notes
