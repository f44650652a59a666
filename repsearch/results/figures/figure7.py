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


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """That the patterns differ, which the paper says of block 0 alone."""
    where = "In blocks 1 and 2, which the paper shows without comment,"
    yield from trajectories.difference_claim(frame, "§4.5, figure 7", where)
