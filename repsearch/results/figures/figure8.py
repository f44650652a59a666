"""Figure 8: accuracy against what search compute is spent on: population, generations, or runs of each image.

This figure is not the paper's; it goes on from figure 4 (docs/beyond.md).
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style, tables
from repsearch.results.runs import COUNTS, RUN_FACTS, read

AXES = ["population", "generations", "runs"]
Series = dict[tuple[str, ...], str]  # the axes that change → its name
GROWING: Series = {("population",): "Larger population", ("generations",): "More generations", ("runs",): "More runs"}
EQUAL: Series = {
    ("generations", "runs"): "More runs, fewer generations",
    ("population", "runs"): "More runs, smaller population",
}
SERIES = {**GROWING, **EQUAL}
BASELINE = "baseline"
LOOKS = {name: style.LOOKS[number] for number, name in enumerate(SERIES.values())}
COLUMNS = ["series", *AXES, "candidates", "mean", "std", *COUNTS, "error", "df"]
COLUMNS += ["validation_mean", "validation_std", "setting", *RUN_FACTS]


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Test and validation accuracy (%) by recipe, with its compute: candidates that the search of an image makes.

    A series changes one axis of the data set's recipe, from which it starts, or runs together with another axis at
    (about) equal compute. Of variants that learn labels, there is one row per augmentation, at the depth and the
    setting that validation prefers. Raises UserError where a recipe changes something else, or the one that the others
    start from is missing.
    """
    runs = read(inputs, job.datasets)
    points = tables.accuracies(runs)
    sizes = runs.drop_duplicates(["dataset", "recipe"]).set_index(["dataset", "recipe"])[[*AXES, "candidates"]]
    points = points.join(sizes, on=["dataset", "recipe"])
    points["validation_images"] = points["dataset"].map(runs.groupby("dataset")["validation_images"].first())
    searched = points[points["recipe_digest"] != ""]
    rows = [{**row, "series": BASELINE} for _, row in tables.best(points[points["recipe_digest"] == ""]).iterrows()]
    for (dataset, _), group in searched.groupby(["dataset", "variant"], sort=False):
        base = group[group["recipe"] == alternatives.family(group["recipe"].iloc[0])]
        if len(base) != 1:
            raise UserError(f"figure 8: {dataset} lacks runs of the recipe that the others start from")
        for _, row in group.iterrows():
            changed = tuple(sorted(axis for axis in AXES if row[axis] != base[axis].iloc[0]))
            if changed and changed not in SERIES:
                axes = " and ".join(changed)
                raise UserError(f"figure 8: recipe {row['recipe']} of {dataset} changes {axes} at once")
            rows += [{**row, "series": name} for axes, name in SERIES.items() if axes == changed or not changed]
    return pd.DataFrame(rows)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    searched, baselines = (frame[(frame["series"] == BASELINE) == baseline] for baseline in (False, True))
    datasets, variants = list(dict.fromkeys(frame["dataset"])), list(dict.fromkeys(searched["variant"]))
    count = len(datasets)
    figure, axes = style.panels(2 * len(variants), count, max(5.2, 2.9 * count), 5 * len(variants))
    for column, dataset in enumerate(datasets):
        for number, variant in enumerate(variants):
            part = searched[(searched["dataset"] == dataset) & (searched["variant"] == variant)]
            growing, equal = (axes[(2 * number + row) * count + column] for row in (0, 1))
            _lines(growing, part, list(GROWING.values()), "candidates")
            _lines(equal, part, list(EQUAL.values()), "runs")
            growing.set(xlabel="Thousand candidates per image")
            equal.set(xlabel="Runs, at about equal compute")
            if not column:
                growing.set_ylabel(f"{phrases.VARIANTS.get(variant, variant)}\ntest accuracy (%)")
                equal.set_ylabel("Test accuracy (%)")
            for ax in (growing, equal):
                _baseline(ax, baselines[baselines["dataset"] == dataset])
        first = frame[frame["dataset"] == dataset].iloc[0]
        axes[column].set_title(f"{first['label']}, {first['train_images']:,} images")
    return style.legend(figure, axes)


def _lines(ax: Axes, part: pd.DataFrame, series: Sequence[str], x: str) -> None:
    """Test accuracies with error bars; validation's as thin lines."""
    part = part.assign(candidates=part["candidates"] / 1000)
    for name in series:
        rows = part[part["series"] == name].sort_values(x)
        if len(rows) < 2:  # nothing was changed along this series
            continue
        style.errorbars(ax, rows, x, LOOKS[name], name)
        ax.plot(rows[x], rows["validation_mean"], color=LOOKS[name]["color"], linewidth=0.7, alpha=0.5)
    if x == "runs":
        style.compute_axis(ax, part["runs"])
    else:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")


def _baseline(ax: Axes, rows: pd.DataFrame) -> None:
    for _, row in rows.iterrows():
        linestyle = ":" if row["augmentation"] == "plain" else "-."
        ax.axhline(row["mean"], color="0.3", linestyle=linestyle, linewidth=1.2, label=phrases.method(row))
        if row["n"] > 1:
            ax.axhspan(row["mean"] - row["std"], row["mean"] + row["std"], color="0.3", alpha=0.1, linewidth=0)


def caption(frame: pd.DataFrame) -> str:
    title = (
        "**Figure 8.** What search compute is worth: test accuracy (%) of networks trained on the searched "
        "representations, with a larger population, more generations or more independent runs of each image, against "
        "the candidates that the search of one image makes; and with more runs at about equal compute, each with fewer "
        "generations or a smaller population. A network learns one run of each image per epoch, drawn at random, "
        "unless its training settings say otherwise. Thin lines: validation accuracy. The dotted line is SGD, at the "
        "depth and the training settings that validation prefers"
    )
    augmented = (frame["augmentation"] != "plain").any()
    title += "; the dash-dotted line is SGD with data augmentation." if augmented else "."
    return style.caption(title, frame, marks="Error bars and grey bands")
