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
    """The trajectories of blocks 1 and 2 differ as well."""
    gaps = {block: trajectories.entropy_gaps(rows) for block, rows in frame.groupby("block")}
    if all(gaps.values()):
        texts = [f"block {block[-1]} {', '.join(trajectories.gap_texts(means))}" for block, means in gaps.items()]
        larger = [means["search-all"].above(means["sgd"]) for means in gaps.values()]
        yield Claim.of(
            frame, "§4.5, figure 7", "In blocks 1 and 2 the two differ as well", "differ (a drawing, no number)",
            f"{trajectories.GAP}: {'; '.join(texts)}", *(None if part is None else True for part in larger),
        )  # fmt: skip
