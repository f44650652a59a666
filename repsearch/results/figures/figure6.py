"""Figure 6 (§4.5): collision entropy within and between classes by epoch, block 0."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from repsearch.jobs import FigureJob
from repsearch.results import trajectories
from repsearch.results.claims import Claim, verdict
from repsearch.results.runs import number_range, scale_text

COLUMNS = trajectories.COLUMNS
draw = trajectories.draw_entropies


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    return trajectories.build(job, inputs, trajectories.ENTROPIES, [0])


def caption(frame: pd.DataFrame) -> str:
    return trajectories.caption_entropies(6, frame)


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """A more distinct separation of the classes in block 0 than SGD's."""
    gaps = trajectories.entropy_gaps(frame)
    if gaps:
        texts = [f"{trajectories.series_name(series)} {gap.mean:.2f}" for series, gap in gaps.items()]
        yield Claim(
            "§4.5, figure 6", "In block 0 search-based learning separates the classes more than SGD", "more distinct",
            f"between-class minus within-class entropy, last epoch: {'; '.join(texts)}", number_range(frame["n"]),
            f"{frame['label'].iloc[0]}: {scale_text(frame)}", verdict(gaps["search-all"].above(gaps["sgd"])),
        )  # fmt: skip
