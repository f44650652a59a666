"""Figure 6 (§4.5): collision entropy within and between classes by epoch, block 0."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from repsearch.results import trajectories
from repsearch.results.claims import Claim

COLUMNS = trajectories.COLUMNS
build = partial(trajectories.build, metrics=trajectories.ENTROPIES, blocks=[0])
draw = trajectories.draw_entropies
caption = partial(trajectories.caption_entropies, 6)


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    yield from trajectories.gap_claim(
        frame, "§4.5, figure 6",
        "In block 0 search-based learning separates the classes more than SGD: by between-class minus within-class "
        "collision entropy",
        "representations from search-based training tend to form a more distinct separation in block 0 between classes",
        "above 0",
    )  # fmt: skip
    yield from trajectories.difference_claim(frame, "§4.5, figure 6", "In block 0")
