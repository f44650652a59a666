"""Figure 7 (§4.5): collision entropy within and between classes by epoch, blocks 1 and 2."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from repsearch.jobs import FigureJob
from repsearch.results import trajectories
from repsearch.results.claims import Claim, verdict
from repsearch.results.runs import block_name, number_range, scale_text

COLUMNS = trajectories.COLUMNS
draw = trajectories.draw_entropies


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    return trajectories.build(job, inputs, trajectories.ENTROPIES, [1, 2])


def caption(frame: pd.DataFrame) -> str:
    return trajectories.caption_entropies(7, frame)


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """The trajectories of blocks 1 and 2 differ as well."""
    differ, texts = [], []
    for block, rows in frame.groupby("block"):
        gaps = trajectories.entropy_gaps(rows)
        if not gaps:
            return
        differ.append(True if gaps["search-all"].above(gaps["sgd"]) is not None else None)
        numbers = [f"{trajectories.series_name(series)} {gap.mean:.2f}" for series, gap in gaps.items()]
        texts.append(f"{block_name(block)} {', '.join(numbers)}")
    yield Claim(
        "§4.5, figure 7", "In blocks 1 and 2 the two differ as well", "differ (a drawing, no number)",
        f"between-class minus within-class entropy, last epoch: {'; '.join(texts)}", number_range(frame["n"]),
        f"{frame['label'].iloc[0]}: {scale_text(frame)}", verdict(*differ),
    )  # fmt: skip
