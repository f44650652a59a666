"""Figure 6 (§4.5): collision entropy within and between classes by epoch, block 0."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from repsearch.results import trajectories
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import Estimate

COLUMNS = trajectories.COLUMNS
build = partial(trajectories.build, metrics=trajectories.ENTROPIES, blocks=[0])
draw = trajectories.draw_entropies
caption = partial(trajectories.caption_entropies, 6)


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    yield from _separation(frame)
    yield from trajectories.difference_claim(frame, "§4.5, figure 6", "In block 0")


def _separation(frame: pd.DataFrame) -> Iterator[Claim]:
    """How much further apart the classes are than the images of one class, in search-based learning and in SGD."""
    gaps, at_first = _gaps(frame), _gaps(frame[frame["epoch"] == frame["epoch"].min()])
    runs = trajectories.difference(gaps["search-all"], gaps["sgd"])
    if runs.empty:
        return
    early = trajectories.difference(at_first["search-all"], at_first["sgd"])
    values = f"search-based {gaps['search-all'].mean(axis=None):.2f}, SGD {gaps['sgd'].mean(axis=None):.2f}"
    yield trajectories.claim_of_runs(
        frame, "§4.5, figure 6",
        "In block 0 search-based learning separates the classes more than SGD: by between-class minus within-class "
        "collision entropy",
        "representations from search-based training tend to form a more distinct separation in block 0 between classes",
        "search-based learning's minus SGD's gap of a run (between-class minus within-class entropy, nats, last "
        "epoch), which must be above 0. Neither variant is tuned",
        [Effect("", Estimate.of_runs(runs), values)], runs,
        ours=f"(after the first epoch: {early.mean(axis=None):+.2f})",
    )  # fmt: skip


def _gaps(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Between-class minus within-class entropy in the last epoch of `frame`, by variant."""
    return {
        series: trajectories.last_epoch(frame, series, "block0", "between-class")
        - trajectories.last_epoch(frame, series, "block0", "within-class")
        for series in ("search-all", "sgd")
    }
