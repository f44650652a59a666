"""Figure 3 (§3.2): the effective number of solutions N_eff against the number of independent runs of the search."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import style
from repsearch.results.claims import Claim, Mean, verdict
from repsearch.results.runs import block_name, dataset_name, number_range, per_owner, read_csv

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
    ends = [frame["runs"].min(), frame["runs"].max()]
    ax.plot(ends, ends, color="0.6", linewidth=0.8, label=r"$N_\mathrm{eff}$ = runs")
    for block, rows in frame.groupby("block"):
        n = number_range(rows["n"]).replace(" to ", "–")
        style.line(ax, rows, "runs", style.BLOCK_LOOKS[str(block)], f"Block {str(block)[-1]} (n = {n})", low=1)
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
        f"giving the correct class a probability above {number_range(final['probability'])}: {shares}."
    )
    n = per_owner((number_range(rows["n"]), f"block {str(block)[-1]}") for block, rows in frame.groupby("block"))
    return style.caption(title, frame, n=f"{n} (images for which at least one of the runs counts)")


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    label, n = frame["label"].iloc[0], number_range(frame["n"])
    last, grows, texts = {}, [], []
    for block, rows in frame.groupby("block"):
        rows = rows.sort_values("runs")
        first, end = rows[rows["runs"] == rows["runs"].min()].iloc[0], rows.iloc[-1]
        last[block] = Mean.of(end)
        grows.append(last[block].above(Mean.of(first)))
        texts.append(f"{block_name(block)} {end['mean']:.2f}")
    ours = f"N_eff after {frame['runs'].max()} runs (1 after one): {'; '.join(texts)}"
    yield Claim(
        "§3.2, figure 3", "N_eff grows with independent runs", "grows, each block", ours, n, label, verdict(*grows)
    )
    fastest = [last["block0"].above(last["block1"]), last["block1"].above(last["block2"])]
    yield Claim(
        "§3.2, figure 3", "N_eff grows fastest for block 0, later blocks slower", "block 0 > 1 > 2", ours, n, label,
        verdict(*fastest),
    )  # fmt: skip
