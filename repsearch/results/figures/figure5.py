"""Figure 5 (§4.5): cosine distance of the block outputs to the searched representations, by epoch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import style, trajectories
from repsearch.results.claims import Claim, ends

COLUMNS = trajectories.COLUMNS


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Raises UserError where runs were traced against the targets of different recipes."""
    frame = trajectories.build(job, inputs, {"": "cosine_distance"}, [0, 1, 2])
    if len(set(frame["recipe_digest"])) > 1:
        raise UserError("figure 5: all runs must be traced against the targets of one recipe")
    return frame


def draw(frame: pd.DataFrame) -> Figure:
    blocks = sorted(frame["block"].unique())
    figure, axes = style.panels(1, len(blocks), 6.5, 2.6, share_y=True)
    for ax, block in zip(axes, blocks, strict=True):
        trajectories.by_epoch(ax, frame[frame["block"] == block])
        ax.set_title(f"Block {block[-1]}")
    axes[0].set_ylabel("Cosine distance to targets")
    axes[0].set_ylim(bottom=0)
    return style.legend(figure, axes)


def caption(frame: pd.DataFrame) -> str:
    title = "Cosine distance (0 to 2, no unit) to the searched representations by epoch"
    return style.caption(f"**Figure 5.** {title} on {frame['label'].iloc[0]}, validation set.", frame)


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    for series, rows in frame.groupby("series"):
        means = ends(rows, "epoch")
        texts = [f"block {block[-1]} {first.mean:.2f} → {last.mean:.2f}" for block, (first, last) in means.items()]
        claim, paper = "Search-based learning's cosine distance to the targets falls", "falls, each block"
        parts = [first.above(last) for first, last in means.values()]
        if series == "sgd":
            claim = "SGD's cosine distance to the targets stays close to 1"
            paper = "near 1, each block (here: 0.8 to 1.2)"
            parts = [abs(1 - last.mean) < 0.2 for _, last in means.values()]
        yield Claim.of(frame, "§4.5, figure 5", claim, paper, f"first → last epoch: {'; '.join(texts)}", *parts)
