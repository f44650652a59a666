"""What figures 5, 6 and 7 share: a metric on the validation set by epoch, of the runs of several variants (§4.5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases
from repsearch.results.claims import Mean
from repsearch.results.runs import RUN_FACTS, points, read, read_csv, require_one_dataset
from repsearch.results.style import caption, legend, line, panels, variant_looks

COLUMNS = ["series", "block", "kind", "epoch", "mean", "std", "n", *RUN_FACTS]
ENTROPIES = {"within-class": "within_class", "between-class": "between_class"}  # kind → metric in epochs.csv
GAP = "between-class minus within-class entropy, last epoch"
TITLES = {"within-class": "within class", "between-class": "between classes"}


def build(job: FigureJob, summaries: Sequence[Path], metrics: Mapping[str, str], blocks: list[int]) -> pd.DataFrame:
    """The metrics by epoch, mean and std over runs, from the epochs.csv beside each summary.

    metrics: kind → the metric's name there, without its block. Raises UserError where a run lacks the metric, or a
    variant comes with two depths or recipes.
    """
    columns = {(f"block{block}", kind): f"{name}_block{block}" for block in blocks for kind, name in metrics.items()}
    parts: list[pd.DataFrame] = []
    for group in points(read(summaries, job.datasets)):
        traces = [read_csv(path.parent / "epochs.csv", ["epoch", *columns.values()]) for path in group["path"]]
        epochs = pd.concat(traces, ignore_index=True)
        facts: dict[str, Any] = dict(group.iloc[0][RUN_FACTS])
        for (block, kind), column in columns.items():
            by_epoch = epochs.groupby("epoch")[column]
            numbers = by_epoch.agg(mean="mean", std="std", n="count").reset_index()
            parts.append(numbers.assign(series=facts["variant"], block=block, kind=kind, **facts))
    frame = pd.concat(parts, ignore_index=True)
    require_one_dataset(frame)
    mixed = frame.groupby("series")[["depth", "recipe"]].nunique().max(axis=1)
    if mixed.max() > 1:
        raise UserError(f"figures 5 to 7: give the runs of {mixed.idxmax()} at one depth and with one recipe only")
    return frame[COLUMNS]


def by_epoch(ax: Axes, frame: pd.DataFrame) -> None:
    """One line per variant."""
    looks = variant_looks(frame["series"])
    for series, look in looks.items():
        line(ax, frame[frame["series"] == series], "epoch", look, phrases.VARIANTS.get(series, series))
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))


def draw_entropies(frame: pd.DataFrame) -> Figure:
    """One row of panels per block: within and between classes."""
    blocks = sorted(frame["block"].unique())
    figure, axes = panels(len(blocks), 2, 6.5, 0.5 + 2.3 * len(blocks), share_y="row")
    grid = [(block, kind) for block in blocks for kind in TITLES]
    for place, (ax, (block, kind)) in enumerate(zip(axes, grid, strict=True)):
        by_epoch(ax, frame[(frame["block"] == block) & (frame["kind"] == kind)])
        ax.set_title(f"Block {block[-1]}, {TITLES[kind]}")
        if place % 2 == 0:
            ax.set_ylabel("Collision entropy (nats)")
        if place < len(grid) - 2:
            ax.set_xlabel("")
    return legend(figure, axes)


def caption_entropies(number: int, frame: pd.DataFrame) -> str:
    blocks = " and ".join(f"block {block[-1]}" for block in frame["block"].unique())
    title = f"Collision entropy (nats) within and between classes by epoch on {frame['label'].iloc[0]}, {blocks}"
    return caption(f"**Figure {number}.** {title}, validation set.", frame)


def entropy_gaps(frame: pd.DataFrame) -> dict[str, Mean]:
    """One block's between-class minus within-class entropy (nats) at the last epoch, by series; their spreads are added
    as if independent. Empty where SGD's runs or those that learn all layers are missing.
    """
    gaps = {}
    for series, rows in frame.groupby("series"):
        last = rows[rows["epoch"] == rows["epoch"].max()].set_index("kind")
        between, within = Mean.of(last.loc["between-class"]), Mean.of(last.loc["within-class"])
        std = float(np.hypot(between.std, within.std))
        gaps[str(series)] = Mean(between.mean - within.mean, std, between.n)
    return gaps if {"sgd", "search-all"} <= set(gaps) else {}


def gap_texts(gaps: Mapping[str, Mean]) -> list[str]:
    return [f"{'SGD' if series == 'sgd' else 'search'} {gap.mean:.2f}" for series, gap in gaps.items()]
