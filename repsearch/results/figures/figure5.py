"""Figure 5 (§4.5): cosine distance of the block outputs to the searched representations, by epoch."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import style, trajectories
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import Estimate

COLUMNS = trajectories.COLUMNS


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Raises UserError where runs were traced against the targets of different recipes or searches."""
    frame = trajectories.build(job, inputs, {"": "cosine_distance"}, [0, 1, 2])
    if len(set(frame["recipe_digest"])) > 1:
        raise UserError("figure 5: all runs must be traced against the targets of the same searches of one recipe")
    return frame


def draw(frame: pd.DataFrame) -> Figure:
    blocks = sorted(frame["block"].unique())
    figure, axes = style.panels(1, len(blocks), 6.5, 2.6, share_y=True)
    for ax, block in zip(axes, blocks, strict=True):
        trajectories.by_epoch(ax, frame[frame["block"] == block])
        ax.set_title(f"Block {block[-1]}")
    axes[0].set_ylabel("Cosine distance to targets")
    axes[0].set_ylim(0, max(1.05, axes[0].get_ylim()[1]))  # room for the markers of a distance of 1
    return style.legend(figure, axes, title=frame["label"].iloc[0])


def caption(frame: pd.DataFrame) -> str:
    title = "Cosine distance (0 to 2, no unit) to the searched representations by epoch"
    title = f"**Figure 5.** {title} on {frame['label'].iloc[0]}, validation set."
    return style.caption(title, trajectories.counted(frame))


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Near 1 is measured against what learning the targets itself reaches, which in block 0 may be near 1 too."""
    at_first = frame[frame["epoch"] == frame["epoch"].min()]
    falls, farther, near = [], [], []
    for block in sorted(frame["block"].unique()):
        start, learned = (trajectories.last_epoch(rows, "search-all", block) for rows in (at_first, frame))
        fall = trajectories.difference(start, learned)
        if fall.empty:
            return
        name = f"block {block[-1]}"
        values = f"{start.mean(axis=None):.2f} → {learned.mean(axis=None):.2f}"
        falls.append(Effect(name, Estimate.of_runs(fall), values))
        sgd = trajectories.last_epoch(frame, "sgd", block)
        above = trajectories.difference(sgd, learned)
        if not above.empty:
            values = f"SGD {sgd.mean(axis=None):.2f}, search-based {learned.mean(axis=None):.2f}"
            farther.append(Effect(name, Estimate.of_runs(above), values))
            near.append(Effect(name, Estimate.of_runs(above + sgd - 1), values))
    claim = partial(trajectories.claim_of_runs, frame, "§4.5, figure 5")
    yield claim(
        "Search-based learning's cosine distance to the targets falls",
        "the search-based training itself is well supervised across layers, with the cosine distance lowering over the "
        "course of training",
        "the distance after the first epoch minus that after the last, which must be above 0. Nothing is tuned",
        falls, fall,
    )  # fmt: skip
    if near:
        yield claim(
            "SGD stays farther from the targets than search-based learning",
            "SGD converges to representational solutions that are quite different from those produced by search",
            "SGD's distance minus search-based learning's, last epoch, which must be above 0. It is to be expected: "
            "only one of the two is trained to be near targets, though not those of these images. Nothing is tuned",
            farther, above,
        )  # fmt: skip
        yield claim(
            "SGD's cosine distance to the targets is close to 1 (our criterion: closer than to search-based "
            "learning's)",
            "the cosine distance between SGD and the searched targets remains large—close to 1.0",
            "by how much SGD's distance is closer to 1 than to search-based learning's: (SGD's - search-based "
            "learning's) - (1 - SGD's), last epoch, which must be above 0. Nothing is tuned", near, above,
        )  # fmt: skip
