"""Figure 3 (§3.2): the effective number of solutions N_eff against the number of independent runs of the search."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import Estimate
from repsearch.results.runs import dataset_name, read_csv
from repsearch.search.recipe import BLOCKS

PROBE = ["block", "image", "runs", "accepted", "effective", "probability", "recipe_digest", "code_version"]
COLUMNS = [*PROBE, "recipe", "label"]
PROBABILITY = 0.5  # §3.2: of the correct class, above which a candidate counts
GROWTH = 0.1  # the smallest relative growth that counts
QUOTE = "N_eff steadily increases as we aggregate results from more independent evolutionary search runs"
FASTEST = "Early convolutional block representations show the strongest growth in N_eff, (…) while later blocks "
FASTEST += "exhibit slower growth"
PAIRED = "t-test of the differences of each image"


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """The diversity probe's CSV, with the names of the recipe and the data set."""
    if len(inputs) != 1:
        raise UserError(f"figure 3 is drawn from one probe, not {len(inputs)}")
    label = dataset_name(job.datasets, job.dataset).label
    return read_csv(inputs[0], PROBE).assign(recipe=job.recipe, label=label)[COLUMNS]


def curves(frame: pd.DataFrame) -> pd.DataFrame:
    """By block and runs: mean and std of N_eff over the n images of which at least one of these runs counts."""
    return frame.groupby(["block", "runs"])["effective"].agg(mean="mean", std="std", n="count").reset_index()


def draw(frame: pd.DataFrame) -> Figure:
    figure, (ax,) = style.panels(1, 1, 4.2, 3.3)
    numbers = curves(frame)
    numbers["std"] /= numbers["n"] ** 0.5  # the standard error, since images differ: ± 1 std would hide other blocks
    runs = [numbers["runs"].min(), numbers["runs"].max()]
    ax.plot(runs, runs, color="0.6", linewidth=0.8, label=r"$N_\mathrm{eff}$ = runs")
    for block, rows in numbers.groupby("block"):
        n = phrases.number_range(rows["n"]).replace(" to ", "–")
        style.line(ax, rows, "runs", style.BLOCK_LOOKS[block], f"Block {block[-1]} (n = {n})")
    top = (numbers["mean"] + numbers["std"].fillna(0)).max()
    if top > 1:  # the line N_eff = runs would leave the data only the lowest part
        ax.set_ylim(1 - 0.05 * (top - 1), top + 0.05 * (top - 1))
    ax.set(xlabel="Independent runs", ylabel=r"Effective number of solutions $N_\mathrm{eff}$")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    return style.legend(figure, [ax], title=frame["label"].iloc[0])


def caption(frame: pd.DataFrame) -> str:
    """n differs by block and along x: a run counts if its candidate classifies the image."""
    final = frame[frame["runs"] == frame["runs"].max()]
    by_block = (final["accepted"] / final["runs"]).groupby(final["block"]).mean()
    shares = ", ".join(f"block {block[-1]} {100 * share:.0f} %" for block, share in by_block.items())
    title = (
        f"**Figure 3.** Diversity of the candidates on {frame['label'].iloc[0]}: effective number of solutions N_eff "
        "against the number of independent runs; grey: each run adds a solution orthogonal to all others (cut where "
        "the data end). Share of runs that count, their candidate "
        f"giving the correct class a probability above {_threshold(frame)}: {shares}."
    )
    numbers = curves(frame)
    n = phrases.per_owner(
        (phrases.number_range(rows["n"]), f"block {block[-1]}") for block, rows in numbers.groupby("block")
    )
    described = frame.merge(numbers, on=["block", "runs"])
    n = f"{n} (images for which at least one of the runs counts)"
    return style.caption(title, described, n=n, deviation="standard error of the mean")


def _threshold(frame: pd.DataFrame) -> str:
    probability = float(frame["probability"].iloc[0])
    return f"{probability:g}" + ("" if probability == PROBABILITY else f" (the paper's is {PROBABILITY:g})")


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """N_eff of one candidate is 1, the least that it can be; that it goes on growing can be refuted. Blocks are
    compared as in the paper, at equal numbers of runs, where the one in which most candidates count may look most
    diverse, and at equal numbers of candidates that count.
    """
    threshold = _threshold(frame)
    setting = "" if frame["probability"].eq(PROBABILITY).all() else f"at a probability of {threshold}"
    claim = partial(Claim, "§3.2, figure 3", test=PAIRED, scale=frame["label"].iloc[0], setting=setting)
    last = int(frame["runs"].max())
    half = max(1, last // 2)
    means = curves(frame).pivot_table(index="block", columns="runs", values="mean")
    texts = [f"block {block[-1]} {row[half]:.2f} → {row[last]:.2f}" for block, row in means.iterrows()]
    counting = f"a candidate counts with a probability above {threshold}"
    what = f"{half} → {last} runs; {counting}"
    yield claim(
        "N_eff of several runs is above that of one",
        QUOTE,
        "N_eff of the candidates of all runs, which must be above that of one candidate",
        effects=[],
        n="–",
        ours=f"{what}\n{'; '.join(texts)}",
        by_construction="N_eff is exactly 1 for one candidate, and above 1 for several unless all maps are parallel",
    )
    images = f"of {frame['image'].nunique()} images"
    growths = _growths(frame, half, last)
    n = phrases.number_range(map(len, growths.values()))
    yield claim(
        f"N_eff still grows in the second half of the runs, by {100 * GROWTH:g} % or more (our threshold)",
        QUOTE,
        f"relative growth of an image's N_eff from half of the runs to all, which must be above {GROWTH:g}, so that it "
        "counts (0: the later runs find nothing else; 1: as much as the earlier ones)",
        effects=[Effect(f"block {b[-1]}", Estimate.of(g), margin=GROWTH) for b, g in growths.items() if len(g)],
        n=f"{n} {images}: those that have a run that counts in the first half",
        ours=what,
        problem="" if all(map(len, growths.values())) else "in one block or more, no run of any image counts",
    )
    at_last = frame[frame["runs"] == last].pivot_table(index="image", columns="block", values="effective")
    same_runs = at_last.reindex(columns=BLOCKS).dropna()
    yield claim(
        "N_eff grows fastest for block 0, later blocks slower: at equal numbers of runs, as in the paper's figure",
        FASTEST,
        "an image's N_eff in the earlier block minus that in the later one, each of all runs that count, which must be "
        "above 0",
        effects=_falls(same_runs),
        n=f"{len(same_runs)} {images}: those that have a run that counts in each block",
        ours=f"{last} runs; {counting}",
        problem="" if len(same_runs) else "no image has a run that counts in every block",
    )
    alike, counts = _at_equal_counts(frame)
    yield claim(
        "N_eff grows fastest for block 0, later blocks slower: at equal numbers of candidates that count (our "
        "comparison)",
        FASTEST,
        "an image's N_eff in the earlier block minus that in the later one, each of as many candidates as count in the "
        "block where the fewest do, which must be above 0",
        effects=_falls(alike),
        n=f"{len(alike)} {images}: those that have two or more runs that count in each block",
        ours=f"{counts:.1f} candidates of an image on average; {counting}",
        problem="" if len(alike) else "no image has two runs that count in every block",
    )


def _falls(alike: pd.DataFrame) -> list[Effect]:
    """By how much N_eff is lower in block 1 than in block 0, and in block 2 than in block 1. alike: a row per image, a
    column per block.
    """
    return [
        Effect(
            f"block {first[-1]} {alike[first].mean():.2f}, block {second[-1]} {alike[second].mean():.2f}",
            Estimate.of(alike[first] - alike[second]),
        )
        for first, second in pairwise(BLOCKS)
        if len(alike)
    ]


def _growths(frame: pd.DataFrame, half: int, last: int) -> dict[str, pd.Series]:
    """By block: the relative growth of each image's N_eff; of images of which one of the first `half` runs counts."""
    growths = {}
    for block, rows in frame.groupby("block"):
        start, end = (rows[rows["runs"] == runs].set_index("image")["effective"] for runs in (half, last))
        growths[str(block)] = (end / start - 1).dropna()
    return growths


def _at_equal_counts(frame: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """N_eff by image and block of as many candidates of the image in each block, those of the earliest runs, as count
    in the block where the fewest do; of images with two or more (N_eff of one is 1). And that number's mean.
    """
    totals = frame.groupby(["image", "block"])["accepted"].max()
    fewest = totals.groupby("image").min().rename("fewest")
    rows = frame.merge(fewest[fewest > 1], on="image")
    rows = rows[rows["accepted"] == rows["fewest"]]  # N_eff stays until the next one counts
    alike = rows.pivot_table(index="image", columns="block", values="effective", aggfunc="first")
    return alike, float(fewest[fewest > 1].mean())
