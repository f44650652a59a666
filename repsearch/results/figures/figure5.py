"""Figure 5 (§4.5): cosine distance of the block outputs to the searched representations, by epoch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import style, trajectories
from repsearch.results.claims import Claim, Mean, verdict
from repsearch.results.runs import block_name, number_range, scale_text

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
    scale, n = f"{frame['label'].iloc[0]}: {scale_text(frame)}", number_range(frame["n"])
    for series, by_block in frame.groupby("series"):
        texts, parts = [], []
        for block, rows in by_block.groupby("block"):
            rows = rows.sort_values("epoch")
            first, last = Mean.of(rows.iloc[0]), Mean.of(rows.iloc[-1])
            texts.append(f"{block_name(block)} {first.mean:.2f} → {last.mean:.2f}")
            parts.append(first.above(last) if series != "sgd" else abs(1 - last.mean) < 0.2)
        claim, paper = "Search-based learning's cosine distance to the targets falls", "falls, each block"
        if series == "sgd":
            claim, paper = (
                "SGD's cosine distance to the targets stays close to 1",
                "near 1, each block (here: 0.8 to 1.2)",
            )
        ours = f"first → last epoch: {'; '.join(texts)}"
        yield Claim("§4.5, figure 5", claim, paper, ours, n, scale, verdict(*parts))
