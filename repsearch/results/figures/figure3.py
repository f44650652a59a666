"""Figure 3 (§3.2): the effective number of solutions N_eff against the number of independent runs of the search."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style
from repsearch.results.claims import Claim, ends
from repsearch.results.runs import dataset_name, read_csv

PROBE = ["block", "runs", "mean", "std", "n", "probability", "accepted", "recipe_digest", "code_version"]
COLUMNS = [*PROBE, "recipe", "label"]


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """The diversity probe's CSV, with the names of the recipe and the data set."""
    if len(inputs) != 1:
        raise UserError(f"figure 3 is drawn from one probe, not {len(inputs)}")
    label = dataset_name(job.datasets, job.dataset).label
    return read_csv(inputs[0], PROBE).assign(recipe=job.recipe, label=label)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    figure, (ax,) = style.panels(1, 1, 4.2, 3.3)
    runs = [frame["runs"].min(), frame["runs"].max()]
    ax.plot(runs, runs, color="0.6", linewidth=0.8, label=r"$N_\mathrm{eff}$ = runs")
    for block, rows in frame.groupby("block"):
        n = phrases.number_range(rows["n"]).replace(" to ", "–")
        style.line(ax, rows, "runs", style.BLOCK_LOOKS[block], f"Block {block[-1]} (n = {n})", low=1)
    top = (frame["mean"] + frame["std"].fillna(0)).max()
    if top > 1:  # the line N_eff = runs would leave the data only the lowest part
        ax.set_ylim(1 - 0.05 * (top - 1), top + 0.05 * (top - 1))
    ax.set(xlabel="Independent runs", ylabel=r"Effective number of solutions $N_\mathrm{eff}$")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    return style.legend(figure, [ax])


def caption(frame: pd.DataFrame) -> str:
    """n differs by block and along x: a run counts if its candidate classifies the image."""
    final = frame[frame["runs"] == frame["runs"].max()]
    shares = ", ".join(f"block {row.block[-1]} {100 * row.accepted:.0f} %" for row in final.itertuples())
    title = (
        f"**Figure 3.** Diversity grows with compute on {frame['label'].iloc[0]}: effective number of solutions N_eff "
        "against the number of independent runs; grey: each run adds a solution orthogonal to all others (cut where "
        "the data end; the bands are cut at 1, the least that N_eff can be). Share of runs that count, their candidate "
        f"giving the correct class a probability above {phrases.number_range(final['probability'])}: {shares}."
    )
    n = phrases.per_owner(
        (phrases.number_range(rows["n"]), f"block {block[-1]}") for block, rows in frame.groupby("block")
    )
    return style.caption(title, frame, n=f"{n} (images for which at least one of the runs counts)")


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    means = ends(frame, "runs")
    texts = [f"block {block[-1]} {last.mean:.2f}" for block, (_, last) in means.items()]
    ours = f"N_eff after {frame['runs'].max()} runs (1 after one): {'; '.join(texts)}"
    yield Claim.of(
        frame, "§3.2, figure 3", "N_eff grows with independent runs", "grows, each block", ours,
        *(last.above(first) for first, last in means.values()),
    )  # fmt: skip
    yield Claim.of(
        frame, "§3.2, figure 3", "N_eff grows fastest for block 0, later blocks slower", "block 0 > 1 > 2", ours,
        *(means[faster][1].above(means[slower][1]) for faster, slower in (("block0", "block1"), ("block1", "block2"))),
    )  # fmt: skip
