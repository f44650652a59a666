"""Figures 2 to 7: a tidy CSV from probes or runs; then the drawing and its caption from that CSV alone."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from repsearch.errors import UserError
from repsearch.results import plots
from repsearch.results.runs import (
    AUGMENTATIONS,
    VARIANTS,
    grouped,
    points,
    provenance,
    read,
    read_csv,
    scale,
    several,
    spread,
)
from repsearch.storage.files import atomic, write_text

MADE = ["recipe_digest", "code_version"]
POINT = ["mean", "std", "n"]
RUN = ["variant", "depth", "dataset", "label", "augmentation", "recipe", "train_images", "validation_images"]
RUN += ["width", "epochs", *MADE]
COLUMNS = {  # what a figure's CSV must have
    2: ["panel", "block", "x", *POINT, *MADE, "population", "generation", "recipe", "label"],
    3: ["block", "runs", *POINT, "probability", "accepted", *MADE, "recipe", "label"],
    4: ["panel", "x", *POINT, *RUN],
}
TRACES = ["series", "block", "kind", "epoch", *POINT, *RUN]
COLUMNS |= dict.fromkeys((5, 6, 7), TRACES)
MEASURES = {
    "cosine_distance": {"": "cosine_distance"},
    "collision_entropy": {"within-class": "within_class", "between-class": "between_class"},
}


def build(number: int, inputs: Sequence[Path], **settings: Any) -> pd.DataFrame:
    """The CSV of figure `number`. settings: what its function takes beside its inputs."""
    match number:
        case 2:
            return fitness(inputs, **settings)
        case 3:
            return diversity(inputs, **settings)
        case 4:
            return scaling(inputs, **settings)
        case 5:
            return trajectories(inputs, "cosine_distance", [0, 1, 2], **settings)
        case 6:
            return trajectories(inputs, "collision_entropy", [0], **settings)
        case 7:
            return trajectories(inputs, "collision_entropy", [1, 2], **settings)
    raise UserError(f"there is no figure {number}: choose 2 to 7 (figure 1 of the paper is a sketch)")


def fitness(
    probes: Sequence[Path],
    populations: list[int],
    generations: list[int],
    base_population: int,
    recipe: str = "",
    label: str = "",
) -> pd.DataFrame:
    """Figure 2: cross-entropy against population at the last generation, and against generations at `base_population`.

    probes: CSVs of `repsearch fitness`, one a block and population. recipe: the name of
    the one whose population varies. label: the data set, for people. Raises UserError
    where a point is not in the probes, or in two of them, or the probes end at different generations.
    """
    wanted = ["block", "population", "generation", *POINT, *MADE]
    if not probes:
        raise UserError("figure 2: no probes were given")
    every = pd.concat([read_csv(path, wanted)[wanted].assign(path=str(path)) for path in probes], ignore_index=True)
    if every.duplicated(["block", "population", "generation"]).any():
        again = every[every.duplicated(["block", "population", "generation"], keep=False)]
        raise UserError(f"two probes of the same block and population: {' and '.join(again['path'].unique())}")
    ends = every.groupby("path", sort=False)["generation"].max()
    if ends.min() < ends.max():
        stated = ", ".join(f"{path} at {end}" for path, end in ends.items())
        raise UserError(f"probes end at different generations ({stated}): run snakemake again")
    last = int(ends.iloc[0])
    rows = [("population", count, count, last) for count in populations]
    rows += [("generations", count, base_population, count) for count in generations]
    chosen = pd.DataFrame(rows, columns=["panel", "x", "population", "generation"])
    blocks = pd.DataFrame({"block": sorted(every["block"].unique())})
    frame = chosen.merge(blocks, how="cross").merge(every, on=["block", "population", "generation"], how="left")
    missing = frame[frame["path"].isna()]
    if len(missing):
        row = missing.iloc[0]
        raise UserError(
            f"figure 2: no probe has {row['block']} with population {row['population']} at generation "
            f"{row['generation']}: run snakemake to make it"
        )
    frame = frame.sort_values(["panel", "block", "x"], ascending=[False, True, True], ignore_index=True)
    names = [f"{recipe} with population {population}".strip() for population in frame["population"]]
    return frame.assign(recipe=names, label=label)[COLUMNS[2]]


def diversity(probes: Sequence[Path], recipe: str = "", label: str = "") -> pd.DataFrame:
    """Figure 3: N_eff against the number of independent runs, by block; the probe's CSV, and names for people."""
    if len(probes) != 1:
        raise UserError(f"figure 3 is drawn from one probe, not {len(probes)}")
    return read_csv(probes[0], COLUMNS[3][:-2]).assign(recipe=recipe, label=label)[COLUMNS[3]]


def scaling(summaries: Sequence[Path], base: str) -> pd.DataFrame:
    """Figure 4: validation accuracy (%) of runs on recipes of other populations or layer-0 generations than `base`'s.

    A recipe is called `base` (which counts in both panels), `base-population-N` or `base-generations-N`.
    """
    rows = []
    for group in points(read(summaries)):
        first, numbers = group.iloc[0], spread(100 * group["validation_accuracy"])
        panels = [
            panel
            for panel in ("population", "generations")
            if re.fullmatch(rf"{re.escape(base)}(-{panel}-\d+)?", first["recipe"])
        ]
        if not panels:
            raise UserError(
                f"figure 4: {first['path']} used recipe {first['recipe']}, which is not {base}, "
                f"{base}-population-N or {base}-generations-N"
            )
        rows += [{"panel": p, "x": first[p], **numbers, "n": len(group), **first[RUN]} for p in panels]
    frame = _one_dataset(4, pd.DataFrame(rows))
    frame = frame.sort_values(["panel", "variant", "depth", "x"], ascending=[False, True, True, True])
    return frame[COLUMNS[4]].reset_index(drop=True)


def trajectories(
    summaries: Sequence[Path], measure: Literal["cosine_distance", "collision_entropy"], blocks: list[int]
) -> pd.DataFrame:
    """Figures 5, 6, 7: a measure on the validation set by epoch, from the epochs.csv beside each summary.

    n counts the runs. Raises UserError where a run was not traced, or a variant comes with two depths or recipes.
    """
    columns = {
        (f"block{block}", kind): f"{name}_block{block}" for block in blocks for kind, name in MEASURES[measure].items()
    }
    parts: list[pd.DataFrame] = []
    for group in points(read(summaries)):
        traces = [read_csv(path.parent / "epochs.csv", ["epoch", *columns.values()]) for path in group["path"]]
        every = pd.concat(traces, ignore_index=True)
        facts: dict[str, Any] = dict(group.iloc[0][RUN])
        for (block, kind), column in columns.items():
            by_epoch = every.groupby("epoch")[column]
            numbers = by_epoch.agg(mean="mean", std="std", n="count").reset_index()
            parts.append(numbers.assign(series=facts["variant"], block=block, kind=kind, **facts))
    frame = _one_dataset("5 to 7", pd.concat(parts, ignore_index=True))
    mixed = frame.groupby("series")[["depth", "recipe"]].nunique().max(axis=1)
    if mixed.max() > 1:
        raise UserError(f"figures 5 to 7: give the runs of {mixed.idxmax()} at one depth and with one recipe only")
    if measure == "cosine_distance" and len(set(frame["recipe_digest"])) > 1:
        raise UserError("figure 5: all runs must be traced against the targets of one recipe")
    return frame[TRACES]


def _one_dataset(number: int | str, frame: pd.DataFrame) -> pd.DataFrame:
    kinds = frame[["dataset", "augmentation"]].drop_duplicates()
    if len(kinds) > 1:
        found = ", ".join(" ".join(kind) for kind in kinds.itertuples(index=False))
        raise UserError(f"figure {number} shows one data set and augmentation, but runs of {found} were given")
    return frame


def draw(number: int, csv: Path, png: Path, caption: Path) -> None:
    """The drawing and its caption (Markdown) from the CSV alone."""
    if number not in COLUMNS:
        raise UserError(f"there is no figure {number}: choose 2 to 7")
    frame = read_csv(csv, COLUMNS[number])
    with plots.style(), atomic(png) as temporary:
        plots.plot(number, frame).savefig(temporary, dpi=200)
    write_text(caption, describe(number, frame))


def describe(number: int, frame: pd.DataFrame) -> str:
    """A caption: what is shown, its units, n, the data set, the scale, the recipe and the code."""
    parts = [f"**Figure {number}.** {_shown(number, frame)}"]
    runs = "variant" in frame
    banded = (frame["n"] > 1).any()
    mark = "Error bars" if number == 4 else "Bands"
    spread = "standard error of the mean (the CSV has the standard deviation)" if number == 2 else "standard deviation"
    parts.append((f"{mark}: ± 1 {spread} over n; " if banded else "") + _counted(number, frame))
    if runs:
        depths = frame[["variant", "depth"]].drop_duplicates()
        named = grouped((str(2 * depth), VARIANTS.get(name, name)) for name, depth in depths.itertuples(index=False))
        parts.append(f"Convolutions a block: {named}.")
        parts.append(f"Scale: {scale(frame)}, {AUGMENTATIONS.get(frame['augmentation'].iloc[0], '')}.")
    parts.append(provenance(frame))
    return " ".join(parts) + "\n"


def _counted(number: int, frame: pd.DataFrame) -> str:
    """What n is. In figure 3 it differs by block and along x."""
    if number != 3:
        return f"n = {several(frame['n'])} {'runs' if 'variant' in frame else 'images'}."
    by_block = grouped((several(rows["n"]), f"block {str(block)[-1]}") for block, rows in frame.groupby("block"))
    return f"n = {by_block} (images for which at least one of the runs counts)."


def _shown(number: int, frame: pd.DataFrame) -> str:
    label = frame["label"].iloc[0]
    on = f" on {label}" if label else ""
    if number == 2:
        by = {panel: rows for panel, rows in frame.groupby("panel")}
        last = several(by["population"]["generation"]) if "population" in by else "–"
        base = several(by["generations"]["population"]) if "generations" in by else "–"
        return (
            f"Fitness scales with compute{on}: mean cross-entropy (nats) of the best candidate of an image when one "
            f"block alone evolves, against population after {last} generations (left) and against generations with "
            f"population {base} (right)."
        )
    if number == 3:
        final = frame[frame["runs"] == frame["runs"].max()]
        shares = ", ".join(f"block {row.block[-1]} {100 * row.accepted:.0f} %" for row in final.itertuples())
        return (
            f"Diversity grows with compute{on}: effective number of solutions N_eff against the number of independent "
            "runs; grey: each run adds a solution orthogonal to all others (cut where the data end; "
            "the bands are cut at 1, the least that N_eff can be). "
            "Share of runs that count, their candidate "
            f"giving the correct class a probability above {several(final['probability'])}: {shares}."
        )
    if number == 4:
        return (
            f"Accuracy scales with search compute{on}: validation accuracy (%) against population (left) and against "
            "block-0 generations (right), of networks trained on the searched representations."
        )
    blocks = " and ".join(block.replace("block", "block ") for block in frame["block"].unique())
    if number == 5:
        return f"Cosine distance (0 to 2, no unit) to the searched representations by epoch{on}, validation set."
    return f"Collision entropy (nats) within and between classes by epoch{on}, {blocks}, validation set."
