"""Table 3: what goes beyond the paper next to SGD, with what each cost. Collected from figure 8, cycles, ensembles."""

from collections.abc import Iterator, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from repsearch.config import alternatives
from repsearch.results import phrases, tables
from repsearch.results.estimates import SIGNIFICANT, WELCH, Estimate
from repsearch.results.figures import cycles, ensembles, figure8
from repsearch.results.runs import COUNTS, read_csv
from repsearch.storage.files import write_csv, write_text

SCALE = ["train_images", "validation_images", "width", "epochs"]
COLUMNS = ["label", "dataset", "method", "mean", "std", *COUNTS, "error", "df", "candidates", "image_passes"]
COLUMNS += ["difference", "low", "high", "p", "verdict", *SCALE, "code_version"]


def make(inputs: Sequence[Path], out: Path) -> None:
    """Write the table's CSV to `out`, and .md and .png, drawn from it alone, beside it.

    inputs: the CSVs of figure8, cycles, ensembles, as far as there are any. Raises UserError where one can't be used.
    """
    rows = [row for path in inputs for row in READERS[path.stem](path)]
    write_csv(out, compared(pd.DataFrame(rows)))
    redraw(out)


def redraw(csv: Path) -> None:
    """Write the table of a CSV beside it, as Markdown and as a picture."""
    frame = read_csv(csv, COLUMNS)
    title, notes = _caption(frame)
    header, rows = _cells(frame)
    write_text(csv.with_suffix(".md"), f"**{title}** {' '.join(notes)}\n\n{phrases.markdown(header, rows, left=2)}\n")
    tables.save(csv.with_suffix(".png"), lambda: tables.picture(title, header[1:], _by_dataset(rows), notes))


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with each one's difference from SGD on the same data set, in points, and what Welch's t-test says."""
    baseline = frame[frame["method"] == "SGD"].drop_duplicates("dataset").set_index("dataset")
    columns: list[dict[str, Any]] = []
    for _, row in frame.iterrows():
        if row["method"] == "SGD" or row["dataset"] not in baseline.index:
            columns.append({**dict.fromkeys(("difference", "low", "high", "p"), nan), "verdict": ""})
            continue
        gap = Estimate.read(row) - Estimate.read(baseline.loc[row["dataset"]])
        low, high = gap.interval()
        columns.append({"difference": gap.mean, "low": low, "high": high, "p": gap.p(), "verdict": _verdict(gap)})
    return pd.concat([frame.reset_index(drop=True), pd.DataFrame(columns)], axis=1)[COLUMNS]


def _verdict(gap: Estimate) -> str:
    if not gap.p() < SIGNIFICANT:
        return f"not told apart (would see {gap.smallest_effect():.1f})" if gap.df else "not tested"
    return "above SGD" if gap.mean > 0 else "below SGD"


def _of_figure8(path: Path) -> Iterator[dict[str, Any]]:
    """SGD; then of each variant the recipe itself, and of each series the point that validation prefers."""
    frame = read_csv(path, figure8.COLUMNS)
    frame["base"] = frame["recipe"] == frame["recipe"].map(alternatives.family)
    frame = frame.sort_values("series", key=lambda series: series != figure8.BASELINE, kind="stable")
    for (_, variant), rows in frame.groupby(["dataset", "variant"], sort=False):
        name = phrases.VARIANTS.get(str(variant), str(variant))
        yield _searched(rows[rows["base"]].iloc[0], name)
        for series in figure8.SERIES.values():
            points = rows[(rows["series"] == series) & ~rows["base"]].sort_values("validation_mean", kind="stable")
            if len(points):
                yield _searched(points.iloc[-1], f"{name}: {_size(points.iloc[-1])}")


def _size(row: pd.Series) -> str:
    runs = f"{row['runs']} runs, " if row["runs"] > 1 else ""
    return f"{runs}population {row['population']}, {row['generations']} generations"


def _searched(row: pd.Series, method: str) -> dict[str, Any]:
    images = row["train_images"] + row["validation_images"]
    passes = row["train_images"] * row["epochs"] * row["depth"]
    return {**row, "method": method, "candidates": row["candidates"] * images, "image_passes": passes}


def _of_cycles(path: Path) -> Iterator[dict[str, Any]]:
    """The last cycle of each chain, with the compute of all."""
    frame = read_csv(path, cycles.COLUMNS)
    frame = frame[frame["kind"] == cycles.ACCURACY]
    for (_, chain), rows in frame.groupby(["dataset", "chain"], sort=False):
        rows = rows.sort_values("cycle")
        costs = [_searched(row, "") for _, row in rows.iterrows()]
        total = {name: sum(cost[name] for cost in costs) for name in ("candidates", "image_passes")}
        yield {**rows.iloc[-1], "method": f"Cycles, {chain}: {rows['cycle'].max():.0f}", **total}


def _of_ensembles(path: Path) -> Iterator[dict[str, Any]]:
    """Of each kind the mean of the members, and the mean weighted on held-out images."""
    frame = read_csv(path, ensembles.COLUMNS)
    for (_, kind), rows in frame.groupby(["dataset", "kind"], sort=False):
        cost = rows.set_index("measure")["mean"]
        for measure in ("ensemble", "weighted"):
            row = rows[rows["measure"] == measure].iloc[0]
            method = f"{row['members']} members, {kind}" + (", weighted" if measure == "weighted" else "")
            counted = {"searches": 0, "seeds": row["n"]}
            yield {**row, **counted, "method": method, **cost[["candidates", "image_passes"]]}


READERS = {"figure8": _of_figure8, "cycles": _of_cycles, "ensembles": _of_ensembles}


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    header = ["Data set", "Method", "Test accuracy (%)", "From SGD [95 %]", "", "Candidates", "Image passes"]
    rows = []
    for _, row in frame.iterrows():
        gap = f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
        count = phrases.runs_text(row["searches"], row["seeds"])
        accuracy = f"{phrases.mean_and_std(row)} (n = {count})"
        data = f"{row['label']}, {row['train_images']:,.0f}"
        rows.append(
            [
                data,
                row["method"],
                accuracy,
                "" if isnan(row["p"]) else gap,
                row["verdict"],
                *map(_large, row[["candidates", "image_passes"]]),
            ]
        )
    return header, rows


def _by_dataset(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows with their data set before the method where it changes, as the picture has one column for both."""
    return [[f"{data}: {method}" if method == "SGD" else method, *rest] for data, method, *rest in rows]


def _large(count: float) -> str:
    return "–" if not count else f"{count / 1e6:,.0f} M" if count >= 1e7 else f"{count / 1e6:.1f} M"


def _caption(frame: pd.DataFrame) -> tuple[str, list[str]]:
    notes = [
        "Mean ± sample standard deviation over n runs (searches × training seeds), or n ensembles.",
        f"Differences: {WELCH}. SGD is at the depth and the training settings that validation prefers; of each way to "
        "spend search compute the point that validation prefers is shown.",
        "Candidates: made by all searches, for all images. Image passes: training images × epochs × depth, over all "
        "members and cycles.",
        f"Scale: {phrases.scale_text(frame)}.",
    ]
    return "Table 3. Beyond the paper.", notes
