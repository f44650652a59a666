"""Training curves: validation accuracy and cross-entropy by epoch, of the runs that tables 1 and 2 report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from repsearch.jobs import FigureJob
from repsearch.results import phrases, style
from repsearch.results.runs import RUN_FACTS, points, read, read_csv
from repsearch.results.tables import accuracies, best
from repsearch.results.trajectories import by_epoch, counted

COLUMNS = ["series", "kind", "epoch", "search", "seed", "value", *RUN_FACTS]
KINDS = {"accuracy": "Accuracy (%)", "cross-entropy": "Cross-entropy (nats)"}


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Each variant at the depth and the setting that its table reports, from the epochs.csv beside each summary."""
    parts: list[pd.DataFrame] = []
    for _, runs in read(inputs, job.datasets).groupby("augmentation", sort=False):
        tried = accuracies(runs)
        chosen = best(tried.assign(place=range(len(tried))))
        groups = [*points(runs)]
        for _, row in chosen.iterrows():
            for _, run in groups[row["place"]].iterrows():
                columns = ["epoch", "validation_accuracy", "validation_cross_entropy"]
                trace = read_csv(run["path"].parent / "epochs.csv", columns)
                facts: dict[str, Any] = {"series": row["variant"], **run[["search", "seed", *RUN_FACTS]]}
                for kind, values in (
                    ("accuracy", 100 * trace["validation_accuracy"]),
                    ("cross-entropy", trace["validation_cross_entropy"]),
                ):
                    parts.append(pd.DataFrame({**facts, "kind": kind, "epoch": trace["epoch"], "value": values}))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    """A row per data set and augmentation."""
    charts = [*frame.groupby(["dataset", "augmentation"], sort=False)]
    figure, axes = style.panels(len(charts), 2, 6.5, 0.5 + 2.1 * len(charts))
    for place, ((_, augmentation), rows) in enumerate(charts):
        title = f"{rows['label'].iloc[0]}, {phrases.AUGMENTATIONS[augmentation]}"
        for ax, (kind, name) in zip(axes[2 * place :], KINDS.items(), strict=False):
            by_epoch(ax, rows[rows["kind"] == kind])
            ax.set_ylabel(name)
            ax.set_title(title, fontsize=8.5)
            if place < len(charts) - 1:
                ax.set_xlabel("")
        axes[2 * place + 1].set_ylim(bottom=0)
    return style.legend(figure, axes)


def caption(frame: pd.DataFrame) -> str:
    labels = " and ".join(dict.fromkeys(frame["label"]))
    numbers = counted(frame)[["searches", "seeds"]].drop_duplicates().itertuples(index=False)
    over = " and ".join(phrases.averaged_text(*pair) for pair in numbers)
    parts = [
        f"**Training curves.** Accuracy (left) and cross-entropy (right) on the validation set by epoch, {labels}.",
        "Each variant is shown at the depth and the setting that validation prefers, as in tables 1 and 2.",
        f"Bands: ± 1 standard deviation over {over}. Scale: {phrases.scale_text(frame)}.",
    ]
    return " ".join([*parts, phrases.provenance_text(frame)]) + "\n"
