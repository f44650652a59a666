"""What figures 5, 6 and 7 share: a metric on the validation set by epoch, of the runs of several variants (§4.5)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import Estimate
from repsearch.results.runs import RUN_FACTS, by_search_and_seed, points, read, read_csv, require_one_dataset
from repsearch.results.style import caption, legend, line, panels, variant_looks

COLUMNS = ["series", "block", "kind", "epoch", "search", "seed", "value", *RUN_FACTS]
ENTROPIES = {"within-class": "within_class", "between-class": "between_class"}  # kind → metric in epochs.csv
PAIRED = "t-test of differences within a run, or between runs of the same search and training seed"
ALIKE = 0.1  # nats: entropies nearer to each other than this count as equal; a tenth more of mean squared cosine
TITLES = {"within-class": "within class", "between-class": "between classes"}


def build(job: FigureJob, summaries: Sequence[Path], metrics: Mapping[str, str], blocks: list[int]) -> pd.DataFrame:
    """The metrics of each run by epoch, from the epochs.csv beside each summary.

    metrics: kind → the metric's name there, without its block. Raises UserError where a run lacks the metric, or a
    variant comes with two depths or recipes.
    """
    columns = {(f"block{block}", kind): f"{name}_block{block}" for block in blocks for kind, name in metrics.items()}
    parts: list[pd.DataFrame] = []
    for group in points(read(summaries, job.datasets)):
        traces = [read_csv(path.parent / "epochs.csv", ["epoch", *columns.values()]) for path in group["path"]]
        for (block, kind), column in columns.items():
            for trace, (_, run) in zip(traces, group.iterrows(), strict=True):
                facts: dict[str, Any] = {"series": run["variant"], **run[["search", "seed", *RUN_FACTS]]}
                facts |= {"block": block, "kind": kind, "epoch": trace["epoch"], "value": trace[column]}
                parts.append(pd.DataFrame(facts))
    frame = pd.concat(parts, ignore_index=True)
    require_one_dataset(frame)
    mixed = frame.groupby("series")[["depth", "recipe"]].nunique().max(axis=1)
    if mixed.max() > 1:
        raise UserError(f"figures 5 to 7: give the runs of {mixed.idxmax()} at one depth and with one recipe only")
    return frame[COLUMNS]


def by_epoch(ax: Axes, frame: pd.DataFrame) -> None:
    """One line per variant: the mean over its runs. frame: one metric of one block."""
    looks = variant_looks(frame["series"])
    for series, look in looks.items():
        numbers = frame[frame["series"] == series].groupby("epoch")["value"].agg(mean="mean", std="std", n="count")
        line(ax, numbers.reset_index(), "epoch", look, phrases.VARIANTS.get(series, series))
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))


def draw_entropies(frame: pd.DataFrame) -> Figure:
    """One row of panels per block: within and between classes."""
    blocks = sorted(frame["block"].unique())
    figure, axes = panels(len(blocks), 2, 6.5, 0.5 + 2.3 * len(blocks), share_y="row")
    grid = [(block, kind) for block in blocks for kind in TITLES]
    for place, (ax, (block, kind)) in enumerate(zip(axes, grid, strict=True)):
        by_epoch(ax, frame[(frame["block"] == block) & (frame["kind"] == kind)])
        ax.set_title(f"Block {block[-1]}, {TITLES[kind]}")
        if place % 2 == 0:
            ax.set_ylabel("Collision entropy (nats)")
        if place < len(grid) - 2:
            ax.set_xlabel("")
    return legend(figure, axes, title=frame["label"].iloc[0])


def caption_entropies(number: int, frame: pd.DataFrame) -> str:
    blocks = " and ".join(f"block {block[-1]}" for block in frame["block"].unique())
    title = f"Collision entropy (nats) within and between classes by epoch on {frame['label'].iloc[0]}, {blocks}"
    return caption(f"**Figure {number}.** {title}, validation set.", counted(frame))


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the counts of each row's runs, as captions state them."""
    runs = frame.groupby("series")
    searches, seeds = (runs[name].transform("nunique") for name in ("search", "seed"))
    return frame.assign(n=searches * seeds, searches=searches, seeds=seeds)


def last_epoch(frame: pd.DataFrame, series: str, block: str, kind: str = "") -> pd.DataFrame:
    """A metric at the end of training: one row per search, one column per training seed. Empty without such runs."""
    rows = frame[(frame["series"] == series) & (frame["block"] == block) & (frame["kind"] == kind)]
    return by_search_and_seed(rows[rows["epoch"] == rows["epoch"].max()], "value")


def difference(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """First minus second, run by run of the same search and training seed, which start from the same weights and see
    the same batches. Runs of only one of the two are left out.
    """
    return (first - second).dropna(how="all").dropna(how="all", axis=1)


def difference_claim(frame: pd.DataFrame, section: str, where: str) -> Iterator[Claim]:
    """A claim that the curves of search-based learning and SGD differ, of which the paper gives no direction.

    Entropies that are equal, to within `ALIKE` nats, refute it. where: the blocks, in words. No claim where one of the
    two has no runs.
    """
    effects = []
    for block in sorted(frame["block"].unique()):
        for kind, title in TITLES.items():
            learned, sgd = (last_epoch(frame, series, block, kind) for series in ("search-all", "sgd"))
            runs = difference(learned, sgd)
            if runs.empty:
                return
            values = f"search-based {learned.mean(axis=None):.2f}, SGD {sgd.mean(axis=None):.2f}"
            effects.append(
                Effect(f"block {block[-1]}, {title}", Estimate.of_runs(runs), values, margin=ALIKE, either=True)
            )
    yield claim_of_runs(
        frame, section,
        f"{where} the collision entropies within and between classes differ between search-based learning and SGD, by "
        f"{ALIKE} nats or more (our threshold)",
        "The patterns differ noticeably between search-based training and SGD",
        f"search-based learning's entropy (nats, last epoch) minus SGD's, which must be above {ALIKE} or below "
        f"-{ALIKE} in each block, within and between classes; it is refuted where one is shown to be between the two. "
        "Neither variant is tuned",
        effects, runs,
    )  # fmt: skip


def claim_of_runs(
    frame: pd.DataFrame, section: str, text: str, quote: str, statistic: str, effects: Sequence[Effect],
    runs: pd.DataFrame, **more: str,
) -> Claim:  # fmt: skip
    """A claim whose effects are means over `runs`, a table of searches and training seeds. more: fields of `Claim`."""
    searches, seeds = runs.shape
    return Claim(
        section, text, quote, statistic, PAIRED, effects, phrases.averaged_text(searches, seeds),
        f"{frame['label'].iloc[0]}: {phrases.scale_text(frame)}, depth {phrases.number_range(frame['depth'])}",
        searches=searches, **more,
    )  # fmt: skip
