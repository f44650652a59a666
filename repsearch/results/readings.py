"""The readings study: accuracies and targets of every reading of the search and of the training, and SGD's."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.jobs import ReadingsJob
from repsearch.results import phrases, style
from repsearch.results.claims import Claim, Mean
from repsearch.results.runs import DIGESTS, SCALE, points, read, read_csv, spread, verify_inputs
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS
from repsearch.storage.files import write_csv, write_text
from repsearch.storage.manifest import read_manifest

CROSS_ENTROPIES = [f"cross_entropy_{layer}" for layer in SEARCH_LAYERS]
COSINES = [f"{kind}_class_{block}" for kind in ("within", "between") for block in BLOCKS]
RUN = [*SCALE, "population", "generations", *DIGESTS]
ACCURACIES = ["validation_mean", "validation_std", "test_mean", "test_std"]
COLUMNS = ["dataset", "label", "part", "reading", "variant", "depth", "recipe", "n", *ACCURACIES]
COLUMNS += [*CROSS_ENTROPIES, *COSINES, *RUN]
DEFAULT = "default"
PARTS = {"search": "Search", "training": "Learning", "baseline": "SGD"}


def make(job: ReadingsJob, inputs: Sequence[Path], out: Path) -> None:
    """Write the study's CSV to `out`; beside it, drawn from it alone, .md and .png.

    inputs: the runs' summary.json and each recipe's facts.json. Raises UserError where one was altered or is missing.
    """
    runs, targets = ([path for path in inputs if path.name == name] for name in ("summary.json", "facts.json"))
    verify_inputs(runs)
    write_csv(out, build(read(runs, job.datasets), targets))
    frame = read_csv(out, COLUMNS)
    style.save(out.with_suffix(".png"), draw, frame)
    write_text(out.with_suffix(".md"), to_markdown(frame))


def build(runs: pd.DataFrame, targets: Sequence[Path]) -> pd.DataFrame:
    """One row per data set, reading and variant: accuracies (%) over its seeds, and what its targets are like.

    part says what the reading is of: search, training, or the baseline's training. targets: the facts.json of each
    recipe. Raises UserError where a recipe's is missing or of another recipe of the same name.
    """
    facts = {(entry["dataset"], entry["recipe"]): entry for entry in map(read_manifest, targets)}
    rows: list[dict[str, Any]] = []
    bases = {(dataset, alternatives.family(recipe)) for dataset, recipe in facts if alternatives.setting(recipe)}
    for group in points(runs):
        first = group.iloc[0]
        variant, recipe = str(first["variant"]), str(first["recipe"])
        changed = alternatives.setting(variant)
        part = "baseline" if recipe == "none" else "training" if changed else "search"
        is_default = part == "baseline" or (first["dataset"], recipe) in bases
        reading = changed or alternatives.setting(recipe) or (DEFAULT if is_default else recipe)
        row = {**first[["dataset", "label", "depth", "recipe", *RUN]], "n": len(group), "part": part}
        row |= {"variant": alternatives.family(variant), "reading": reading}
        row |= spread(100 * group["validation_accuracy"], "validation_")
        row |= spread(100 * group["test_accuracy"], "test_")
        if part != "baseline":
            described = facts.get((first["dataset"], recipe), {})
            if described.get("recipe_digest") != first["recipe_digest"]:
                raise UserError(f"no facts of the targets of {first['dataset']}, {recipe}: run snakemake again")
            row |= {name: described[name] for name in (*CROSS_ENTROPIES, *COSINES)}
        rows.append(row)
    rows.sort(key=lambda row: list(PARTS).index(row["part"]))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def best_baseline(frame: pd.DataFrame) -> pd.Series:
    """The baseline's row with the best validation accuracy. frame: the rows of one data set."""
    rows = frame[frame["part"] == "baseline"]
    if rows.empty:
        raise UserError("the readings study has no baseline")
    return rows.loc[rows["validation_mean"].idxmax()]


def to_markdown(frame: pd.DataFrame) -> str:
    """For each data set a table of the readings: the targets, then the accuracies of each variant."""
    variants = frame.loc[frame["part"] != "baseline", "variant"].unique()
    header = ["", "reading", "cross-entropy after block 0, 1, 2, logits"]
    header += ["cosine within a class, block 0, 1, 2", "between classes"]
    for variant in variants:
        header += [f"{phrases.VARIANTS.get(variant, variant)}: validation", "test"]
    parts = [f"**Readings.** {_caption(frame)}"]
    for label, dataset_rows in frame.groupby("label", sort=False):
        lines: list[list[str]] = []
        is_baseline = dataset_rows["part"] == "baseline"
        for (part, reading), rows in dataset_rows[~is_baseline].groupby(["part", "reading"], sort=False):
            lines.append([PARTS[part], reading, *_targets(rows.iloc[0])])
            for variant in variants:
                of_variant = rows[rows["variant"] == variant]
                lines[-1] += _accuracies(of_variant.iloc[0]) if len(of_variant) else ["–", "–"]
        for _, row in dataset_rows[is_baseline].iterrows():
            lines.append([PARTS["baseline"], row["reading"], "–", "–", "–", *_accuracies(row)])
            lines[-1] += [""] * (len(header) - len(lines[-1]))
        scale = phrases.scale_text(dataset_rows)
        parts.append(f"**{label}** ({scale}; SGD's accuracies stand in the first two columns of accuracies)")
        parts.append(phrases.markdown(header, lines, left=2))
    return "\n\n".join([*parts, phrases.provenance_text(frame)]) + "\n"


def draw(frame: pd.DataFrame) -> Figure:
    """Validation accuracy of each reading; the line and its band are SGD's, as validation chose it."""
    labels = list(dict.fromkeys(frame["label"]))
    studied = frame[frame["part"] != "baseline"]
    order = list(dict.fromkeys(zip(studied["part"], studied["reading"], strict=True)))
    width, height = 2.6 + 2.3 * len(labels), 1.2 + 0.2 * len(order)
    figure, axes = style.panels(1, len(labels), width, height, share_y=True)
    variants = list(dict.fromkeys(studied["variant"]))
    for ax, label in zip(axes, labels, strict=True):
        sgd = best_baseline(frame[frame["label"] == label])
        mean, std = sgd["validation_mean"], 0 if pd.isna(sgd["validation_std"]) else sgd["validation_std"]
        ax.axvline(mean, color="0.4", linewidth=1, label="SGD, chosen on validation")
        ax.axvspan(mean - std, mean + std, color="0.4", alpha=0.15, linewidth=0)
        for place, variant in enumerate(variants):
            rows = studied[(studied["label"] == label) & (studied["variant"] == variant)]
            shift = 0.16 * (place - (len(variants) - 1) / 2) * 2
            y = [order.index(reading) + shift for reading in zip(rows["part"], rows["reading"], strict=True)]
            look = {**style.VARIANT_LOOKS.get(variant, style.LOOKS[3 + place]), "linestyle": "none", "elinewidth": 1}
            bars, name = rows["validation_std"].fillna(0), phrases.VARIANTS.get(variant, variant)
            ax.errorbar(rows["validation_mean"], y, xerr=bars, label=name, **look)
        ax.set(title=label, xlabel="Validation accuracy (%)")
    axes[0].set_yticks(range(len(order)), [f"{PARTS[part]}: {reading}" for part, reading in order])
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _caption(frame: pd.DataFrame) -> str:
    n, convolutions = phrases.number_range(frame["n"]), phrases.number_range(2 * frame["depth"])
    return (
        "Each row changes one or more settings of the default and nothing else (docs/readings.md says what they mean). "
        f"Accuracies in per cent, mean ± sample standard deviation over n = {n} runs that differ in their seed; one "
        "search per row. Cross-entropies in nats, of the kept candidate. No augmentation; a block has "
        f"{convolutions} convolutions."
    )


def _targets(row: pd.Series) -> list[str]:
    cells = [", ".join(f"{row[name]:.2f}" for name in CROSS_ENTROPIES)]
    for kind in ("within", "between"):
        cells.append(", ".join(f"{row[f'{kind}_class_{block}']:z.2f}" for block in BLOCKS))
    return cells


def _accuracies(row: pd.Series) -> list[str]:
    return [phrases.mean_and_std(row, f"{kind}_") for kind in ("validation", "test")]


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """§3.1, "crucial for learnability": the default recipe against one without blur, by validation accuracy.

    The recipe without blur is recognised by its name, which ends in "-unsmoothed" (workflow/presets/readings.yaml).
    """
    studied = frame[(frame["part"] == "search") & (frame["variant"] == "search-all")]
    for _, rows in studied.groupby("label", sort=False):
        rows = rows.set_index("reading")
        without = [name for name in rows.index if name.endswith("-unsmoothed") and " " not in name]
        if DEFAULT in rows.index and without:
            compared = rows.loc[[DEFAULT, without[0]]]
            smooth, rough = (row for _, row in compared.iterrows())
            better = Mean.of(smooth, "validation_").above(Mean.of(rough, "validation_"))
            with_blur, without_blur = (phrases.mean_and_std(row, "validation_") for row in (smooth, rough))
            yield Claim.of(
                compared, "§3.1", "Smoothing is crucial for learning from the targets", "no number",
                f"validation accuracy {with_blur} with, {without_blur} without", better,
            )  # fmt: skip
