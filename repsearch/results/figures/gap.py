"""Accuracy against the number of training images, and its distance from SGD's: what the paper's "within 1 %" rests on.

This figure is not the paper's.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style, tables
from repsearch.results.estimates import Estimate
from repsearch.results.runs import COUNTS, RUN_FACTS, read

BASELINE = "sgd"
COLUMNS = ["x", "mean", "std", *COUNTS, "error", "df", "gap", "gap_low", "gap_high", "setting", "tried"]
COLUMNS += [fact for fact in RUN_FACTS if fact != "validation_images"]


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Test accuracy (%) of each variant at the depth and the setting that validation prefers, by data set.

    Data sets of one label differ in their number of training images, x. gap: to SGD on the same images, in points, with
    its 95 % confidence interval (Welch). Raises UserError where a data set has no runs of SGD.
    """
    tried = tables.accuracies(read(inputs, job.datasets))
    rows = []
    for dataset, part in tables.best(tried).groupby("dataset", sort=False):
        baseline = part[part["variant"] == BASELINE]
        if baseline.empty:
            raise UserError(f"figure gap: {dataset} has no runs of {BASELINE} to compare with")
        for _, row in part.iterrows():
            gap = Estimate.read(row) - Estimate.read(baseline.iloc[0])
            low, high = gap.interval() if row["variant"] != BASELINE else (0.0, 0.0)
            rows.append({**row, "x": row["train_images"], "gap": gap.mean, "gap_low": low, "gap_high": high})
    frame = pd.DataFrame(rows).sort_values(["label", "variant", "x"], kind="stable")
    return frame[COLUMNS].reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    labels = list(dict.fromkeys(frame["label"]))
    figure, axes = style.panels(2, len(labels), max(4.8, 3.3 * len(labels)), 5.0)
    looks = style.variant_looks(frame["variant"])
    for column, label in enumerate(labels):
        above, below = axes[column], axes[len(labels) + column]
        part = frame[frame["label"] == label]
        for variant, rows in part.groupby("variant", sort=False):
            name, look = phrases.VARIANTS.get(str(variant), str(variant)), looks[str(variant)]
            rows = rows.sort_values("x")
            style.errorbars(above, rows, "x", look, name)
            if variant != BASELINE:
                bars = [rows["gap"] - rows["gap_low"], rows["gap_high"] - rows["gap"]]
                below.errorbar(rows["x"], rows["gap"], bars, capsize=2.5, elinewidth=0.9, **look)
        below.axhline(0, color="0.4", linewidth=0.8)
        below.axhline(-1, color="0.4", linewidth=0.8, linestyle=":", label="1 point below SGD")
        for ax in (above, below):
            style.compute_axis(ax, part["x"])
        above.set(title=label)
        below.set(xlabel="Training images")
    axes[0].set_ylabel("Test accuracy (%)")
    axes[len(labels)].set_ylabel("Difference from SGD (points)")
    return style.legend(figure, axes)


def caption(frame: pd.DataFrame) -> str:
    title = (
        "**Accuracy by number of images.** Test accuracy (%) of networks trained on part and on all of the images "
        "(top), and its difference from SGD's with 95 % confidence intervals (bottom; Welch's t-test). Each variant is "
        "at the depth and the training settings that validation prefers."
    )
    return style.caption(title, frame, marks="Error bars at the top")
