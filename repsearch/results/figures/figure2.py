"""Figure 2 (§3.2): the search's cross-entropy against population and generations, each block evolved alone."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import WELCH, Estimate
from repsearch.results.runs import dataset_name, read_csv
from repsearch.search.recipe import BLOCKS

PROBE = ["block", "population", "elitist", "generation", "mean", "std", "n", "recipe_digest", "code_version"]
COLUMNS = ["panel", "block", "x", "mean", "std", "n", "recipe_digest", "code_version"]
COLUMNS += ["population", "elitist", "generation", "recipe", "label"]
ELITIST = "parents survive with the fitness they had, so that the best candidate can't get worse"
WORTH = 0.05  # nats: the smallest further fall that counts
QUOTE = "loss decreases with more compute along both axes—population size and number of generations"
UNPAIRED = f"{WELCH}; all points are of the same images; the test ignores this pairing, and so errs towards undecided"


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Cross-entropy against population at the last generation, and against generations at `job.base_population`.

    inputs: the fitness probes' CSVs, one per population. Raises UserError where a point is not in the
    probes, or in two of them, or the probes end at different generations.
    """
    if not inputs:
        raise UserError("figure 2: no probes were given")
    probes = pd.concat([read_csv(path, PROBE)[PROBE].assign(path=str(path)) for path in inputs], ignore_index=True)
    repeated = probes[probes.duplicated(["block", "population", "generation"], keep=False)]
    if len(repeated):
        raise UserError(f"two probes of the same block and population: {' and '.join(repeated['path'].unique())}")
    last_generations = probes.groupby("path", sort=False)["generation"].max()
    if last_generations.min() < last_generations.max():
        differing = ", ".join(f"{path} at {end}" for path, end in last_generations.items())
        raise UserError(f"probes end at different generations ({differing}): run snakemake again")
    last = int(last_generations.iloc[0])
    rows = [("population", count, count, last) for count in job.populations]
    rows += [("generations", count, job.base_population, count) for count in job.generations]
    chosen = pd.DataFrame(rows, columns=["panel", "x", "population", "generation"])
    blocks = pd.DataFrame({"block": sorted(probes["block"].unique())})
    frame = chosen.merge(blocks, how="cross").merge(probes, on=["block", "population", "generation"], how="left")
    missing = frame[frame["path"].isna()]
    if len(missing):
        row = missing.iloc[0]
        raise UserError(
            f"figure 2: no probe has {row['block']} with population {row['population']} at generation "
            f"{row['generation']}: run snakemake to make it"
        )
    frame = frame.sort_values(["panel", "block", "x"], ascending=[False, True, True], ignore_index=True)
    names = [f"{job.recipe} with population {population}".strip() for population in frame["population"]]
    return frame.assign(recipe=names, label=dataset_name(job.datasets, job.dataset).label)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    figure, axes = style.panels(1, 2, 6.5, 2.9, share_y=True)
    for ax, (panel, name) in zip(axes, style.PANELS.items(), strict=True):
        part = frame[frame["panel"] == panel]
        for block, rows in part.groupby("block"):
            # The standard error, since images differ: ± 1 std would hide the other blocks.
            errors = rows.assign(std=rows["std"] / rows["n"] ** 0.5)
            style.line(ax, errors, "x", style.BLOCK_LOOKS[block], f"Block {block[-1]}")
        style.compute_axis(ax, part["x"])
        ax.set(title=f"Scaling {name.lower()}", xlabel=name)
    axes[0].set_ylabel("Cross-entropy (nats)")
    axes[0].set_ylim(bottom=max(0.0, axes[0].get_ylim()[0]))  # cross-entropy is never negative; a band may reach below
    return style.legend(figure, axes, title=frame["label"].iloc[0])


def caption(frame: pd.DataFrame) -> str:
    panels = {panel: rows for panel, rows in frame.groupby("panel")}
    last = phrases.number_range(panels["population"]["generation"]) if "population" in panels else "–"
    base = phrases.number_range(panels["generations"]["population"]) if "generations" in panels else "–"
    title = (
        f"**Figure 2.** Cross-entropy against search compute on {frame['label'].iloc[0]}: mean cross-entropy (nats) of "
        "the best candidate of an image when one block alone evolves, against population after "
        f"{last} generations (left) and against generations with population {base} (right)."
    )
    return style.caption(title, frame, deviation="standard error of the mean (the CSV has the standard deviation)")


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """Where parents keep their fitness, a fall with generations says nothing; that the last ones still pay can be
    refuted.
    """
    images = f"{phrases.number_range(frame['n'])} images, one search network"
    claim = partial(Claim, "§3.2, figure 2", test=UNPAIRED, n=images, scale=frame["label"].iloc[0])
    panels = {panel: rows.sort_values("x") for panel, rows in frame.groupby("panel", sort=False)}
    if "population" in panels:
        rows = panels["population"]
        yield claim(
            "The search's cross-entropy falls with population",
            QUOTE,
            "cross-entropy (nats) with the smallest population minus that with the largest, which must be above 0",
            effects=[_fall(of_block, 0, -1) for _, of_block in rows.groupby("block")],
            ours=f"population {rows['x'].min()} → {rows['x'].max()}",
        )
        yield claim(
            "In the end block 2 has a lower cross-entropy than blocks 0 and 1",
            "the later layer (Block 2) optimizes more easily than the earlier ones (Blocks 0 and 1)",
            "cross-entropy (nats) of the other block minus that of block 2, with the largest population and the most "
            "generations, which are as many for each block, whatever the recipe, and which must be above 0",
            effects=_above_block_2(rows[rows["x"] == rows["x"].max()].set_index("block")),
            ours=_with_fewer(panels["generations"]) if "generations" in panels else "",
        )
    if "generations" in panels:
        rows = panels["generations"]
        points, blocks = sorted(rows["x"].unique()), [of_block for _, of_block in rows.groupby("block")]
        can_rise = [of_block for of_block in blocks if not _is_elitist(of_block)]
        yield claim(
            "The search's cross-entropy falls with generations",
            QUOTE,
            "cross-entropy (nats) with the fewest generations minus that with the most, which must be above 0; of the "
            "blocks in which parents are evaluated anew, so that it could rise",
            effects=[_fall(of_block, 0, -1) for of_block in can_rise or blocks],
            ours=f"generations {points[0]} → {points[-1]}",
            by_construction="" if can_rise else ELITIST,
        )
        if len(points) > 1:
            yield claim(
                f"In every block the last generations still lower the cross-entropy by {WORTH} nats or more "
                "(our threshold)",
                QUOTE,
                "cross-entropy (nats) at the last but one number of generations minus that at the last, which must be "
                f"above {WORTH}: about 5 % more probability of the correct class",
                effects=[_fall(of_block, -2, -1, margin=WORTH) for of_block in blocks],
                ours=f"generations {points[-2]} → {points[-1]}",
            )


def _is_elitist(of_block: pd.DataFrame) -> bool:
    """Whether its parents keep their fitness: those of the last block do under every recipe, since no BatchNorm, whose
    statistics could change, comes after it (R3).
    """
    return bool(of_block["elitist"].all() or of_block["block"].iloc[0] == BLOCKS[-1])


def _with_fewer(rows: pd.DataFrame) -> str:
    """What the claim leaves out: it may be the other way round with fewer generations. The fewest, and the last but
    one number of them.
    """
    points = sorted(rows["x"].unique())
    texts = []
    for point in dict.fromkeys([*points[:1], *points[-2:-1]]):
        of_point = rows[rows["x"] == point].sort_values("block").iterrows()
        means = ", ".join(f"block {row['block'][-1]} {row['mean']:.2f}" for _, row in of_point)
        texts.append(f"with {point} generations: {means}")
    return f"({'; '.join(texts)})"


def _above_block_2(rows: pd.DataFrame) -> list[Effect]:
    """By how much the other blocks' cross-entropies are above block 2's. rows: one per block."""
    estimates = {block: Estimate.of_spread(row) for block, row in rows.iterrows()}
    return [
        Effect(
            f"block {block[-1]} {estimates[block].mean:.2f}, block 2 {estimates['block2'].mean:.2f}",
            estimates[block] - estimates["block2"],
        )
        for block in ("block0", "block1")
    ]


def _fall(rows: pd.DataFrame, first: int, last: int, margin: float = 0.0) -> Effect:
    """By how much one block's cross-entropy falls between two of its points."""
    start, end = rows.iloc[first], rows.iloc[last]
    estimate = Estimate.of_spread(start) - Estimate.of_spread(end)
    return Effect(f"block {start['block'][-1]}", estimate, f"{start['mean']:.2f} → {end['mean']:.2f}", margin)
