"""Figure 7 (§4.5): collision entropy within and between classes by epoch, blocks 1 and 2."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from repsearch.results import trajectories
from repsearch.results.claims import Claim

COLUMNS = trajectories.COLUMNS
build = partial(trajectories.build, metrics=trajectories.ENTROPIES, blocks=[1, 2])
draw = trajectories.draw_entropies
caption = partial(trajectories.caption_entropies, 7)
ALIKE = 0.1  # nats: gaps nearer to each other than this count as equal; a tenth in the ratio of mean squared cosines


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """The paper gives no direction: only a difference between the two, which equal gaps would refute."""
    yield from trajectories.gap_claim(
        frame, "§4.5, figure 7",
        "In blocks 1 and 2, as the paper says of block 0, between-class minus within-class collision entropy differs "
        "between search-based learning and SGD",
        "The patterns differ noticeably between search-based training and SGD",
        f"above {ALIKE} or below -{ALIKE} in each block; it is refuted where it is shown to be between the two",
        margin=ALIKE, either=True,
    )  # fmt: skip
