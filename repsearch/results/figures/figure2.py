"""Figure 2 (§3.2): the search's cross-entropy against population and generations, each block evolved alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style
from repsearch.results.claims import Claim, ends
from repsearch.results.runs import dataset_name, read_csv

PROBE = ["block", "population", "generation", "mean", "std", "n", "recipe_digest", "code_version"]
COLUMNS = ["panel", "block", "x", "mean", "std", "n", "recipe_digest", "code_version"]
COLUMNS += ["population", "generation", "recipe", "label"]


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Cross-entropy against population at the last generation, and against generations at `job.base_population`.

    inputs: the fitness probes' CSVs, one per block and population. Raises UserError where a point is not in the
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
    return style.legend(figure, axes)


def caption(frame: pd.DataFrame) -> str:
    panels = {panel: rows for panel, rows in frame.groupby("panel")}
    last = phrases.number_range(panels["population"]["generation"]) if "population" in panels else "–"
    base = phrases.number_range(panels["generations"]["population"]) if "generations" in panels else "–"
    title = (
        f"**Figure 2.** Fitness scales with compute on {frame['label'].iloc[0]}: mean cross-entropy (nats) of the best "
        f"candidate of an image when one block alone evolves, against population after {last} generations (left) and "
        f"against generations with population {base} (right)."
    )
    return style.caption(title, frame, deviation="standard error of the mean (the CSV has the standard deviation)")


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    for panel, rows in frame.groupby("panel", sort=False):
        means = ends(rows, "x")
        texts = [f"block {block[-1]} {first.mean:.2f} → {last.mean:.2f}" for block, (first, last) in means.items()]
        yield Claim.of(
            frame, "§3.2, figure 2", f"The search's cross-entropy falls with {panel}", "falls, each block",
            f"{panel} {rows['x'].min()} → {rows['x'].max()}: {'; '.join(texts)}",
            *(first.above(last) for first, last in means.values()),
        )  # fmt: skip
    largest = {block: last for block, (_, last) in ends(frame[frame["panel"] == "population"], "x").items()}
    yield Claim.of(
        frame, "§3.2, figure 2", "Block 2 optimises more easily than blocks 0 and 1", "block 2 lowest",
        "; ".join(f"block {block[-1]} {mean.mean:.2f}" for block, mean in largest.items()),
        *(largest[block].above(largest["block2"]) for block in ("block0", "block1")),
    )  # fmt: skip
