"""The readings study: accuracies and targets of every reading of the search and of the training, beside SGD's."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.jobs import ReadingsJob
from repsearch.results import style
from repsearch.results.claims import Claim, Mean, verdict
from repsearch.results.runs import (
    VARIANTS,
    markdown,
    mean_and_std,
    number_range,
    points,
    provenance_text,
    read,
    read_csv,
    scale_text,
    spread,
    verify_inputs,
)
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS
from repsearch.storage.files import write_csv, write_text
from repsearch.storage.manifest import read_manifest

CROSS_ENTROPIES = [f"cross_entropy_{layer}" for layer in SEARCH_LAYERS]
COSINES = [f"{kind}_class_{block}" for kind in ("within", "between") for block in BLOCKS]
RUN = ["train_images", "validation_images", "test_images", "width", "epochs", "population", "generations"]
DIGESTS = ["recipe_digest", "code_version", "settings_digest"]
ACCURACIES = ["validation_mean", "validation_std", "test_mean", "test_std"]
COLUMNS = ["dataset", "label", "part", "reading", "variant", "depth", "recipe", "n", *ACCURACIES]
COLUMNS += [*CROSS_ENTROPIES, *COSINES, *RUN, *DIGESTS]
DEFAULT = "default"
PARTS = {"search": "Search", "training": "Learning", "baseline": "SGD"}


def make(job: ReadingsJob, inputs: Sequence[Path], out: Path) -> None:
    """Write the study's CSV to `out`; beside it, drawn from it alone, .md and .png.

    inputs: the runs' summary.json and each recipe's facts.json. Raises UserError where one was altered or is missing.
    """
    runs, targets = ([path for path in inputs if path.name == name] for name in ("summary.json", "facts.json"))
    verify_inputs(runs)
    write_csv(out, build(read(runs, job.datasets), targets))
    redraw(out)


def redraw(csv: Path) -> None:
    """Write the study of a CSV beside it, as Markdown and as a picture."""
    frame = read_csv(csv, COLUMNS)
    style.save(csv.with_suffix(".png"), draw, frame)
    write_text(csv.with_suffix(".md"), to_markdown(frame))


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
        of_recipe = alternatives.setting(recipe) or (DEFAULT if (first["dataset"], recipe) in bases else recipe)
        row = {**first[["dataset", "label", "depth", "recipe", *RUN, *DIGESTS]], "n": len(group), "part": part}
        row |= {"variant": alternatives.family(variant), "reading": changed or of_recipe}
        row |= spread(100 * group["validation_accuracy"], "validation_")
        row |= spread(100 * group["test_accuracy"], "test_")
        if part != "baseline":
            described = facts.get((first["dataset"], recipe), {})
            if described.get("recipe_digest") != first["recipe_digest"]:
                raise UserError(f"no facts of the targets of {first['dataset']}, {recipe}: run snakemake again")
            row |= {name: described[name] for name in (*CROSS_ENTROPIES, *COSINES)}
        else:
            row["reading"] = changed or DEFAULT
        rows.append(row)
    parts = list(PARTS)
    rows.sort(key=lambda row: parts.index(row["part"]))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def best_baseline(frame: pd.DataFrame) -> pd.Series:
    """Of one data set's rows, the baseline's row that validation prefers."""
    rows = frame[frame["part"] == "baseline"]
    if rows.empty:
        raise UserError("the readings study has no baseline")
    return rows.loc[rows["validation_mean"].idxmax()]


def to_markdown(frame: pd.DataFrame) -> str:
    """For each data set a table of the readings: the targets, then the accuracies of each variant."""
    baselines = set(frame.loc[_is(frame, "baseline"), "variant"])
    variants = [variant for variant in frame["variant"].unique() if variant not in baselines]
    header = ["", "reading", "cross-entropy after block 0, 1, 2, logits"]
    header += ["cosine within a class, block 0, 1, 2", "between classes"]
    for variant in variants:
        header += [f"{VARIANTS.get(variant, variant)}: validation", "test"]
    parts = [f"**Readings.** {_caption(frame)}"]
    for label, dataset_rows in frame.groupby("label", sort=False):
        lines: list[list[str]] = []
        studied = dataset_rows[~_is(dataset_rows, "baseline")]
        for (part, reading), rows in studied.groupby(["part", "reading"], sort=False):
            lines.append([PARTS[part], str(reading), *_targets(rows.iloc[0])])
            for variant in variants:
                lines[-1] += _accuracies(rows[rows["variant"] == variant])
        for _, row in dataset_rows[_is(dataset_rows, "baseline")].iterrows():
            lines.append([PARTS["baseline"], row["reading"], "–", "–", "–", *_accuracies(dataset_rows.loc[[row.name]])])
            lines[-1] += [""] * (len(header) - len(lines[-1]))
        body = markdown(header, lines, left=2)
        parts.append(
            f"**{label}** ({scale_text(dataset_rows)}; SGD's accuracies stand in the first two columns of accuracies)"
            f"\n\n{body}"
        )
    return "\n\n".join([*parts, provenance_text(frame)]) + "\n"


def draw(frame: pd.DataFrame) -> Figure:
    """Validation accuracy of each reading; the line and its band are SGD's, as validation chose it."""
    labels = list(dict.fromkeys(frame["label"]))
    shown = frame[~_is(frame, "baseline")]
    order = list(dict.fromkeys(zip(shown["part"], shown["reading"], strict=True)))
    order.sort(key=lambda reading: list(PARTS).index(reading[0]))
    height = 1.2 + 0.2 * len(order)
    figure = Figure(figsize=(2.6 + 2.3 * len(labels), height), layout="constrained")
    axes = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    variants = list(dict.fromkeys(shown["variant"]))
    for ax, label in zip(axes, labels, strict=True):
        dataset_rows = frame[frame["label"] == label]
        sgd = best_baseline(dataset_rows)
        ax.axvline(sgd["validation_mean"], color="0.4", linewidth=1, label="SGD, chosen on validation")
        spread_of_sgd = 0 if pd.isna(sgd["validation_std"]) else sgd["validation_std"]
        band = (sgd["validation_mean"] - spread_of_sgd, sgd["validation_mean"] + spread_of_sgd)
        ax.axvspan(*band, color="0.4", alpha=0.15, linewidth=0)
        for place, variant in enumerate(variants):
            rows = dataset_rows[(dataset_rows["variant"] == variant) & ~_is(dataset_rows, "baseline")]
            y = [
                order.index(reading) + 0.16 * (place - (len(variants) - 1) / 2) * 2
                for reading in zip(rows["part"], rows["reading"], strict=True)
            ]
            look = style.VARIANT_LOOKS.get(variant, style.LOOKS[3 + place])
            ax.errorbar(
                rows["validation_mean"],
                y,
                xerr=rows["validation_std"].fillna(0),
                linestyle="none",
                color=look["color"],
                marker=look["marker"],
                label=VARIANTS.get(variant, variant),
                elinewidth=1,
            )
        ax.set(title=label, xlabel="Validation accuracy (%)")
    axes[0].set_yticks(range(len(order)), [f"{PARTS[part]}: {reading}" for part, reading in order])
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _is(frame: pd.DataFrame, part: str) -> "pd.Series[bool]":
    return frame["part"] == part


def _caption(frame: pd.DataFrame) -> str:
    return (
        "Each row changes one or more settings of the default and nothing else (docs/readings.md says what they mean). "
        "Accuracies in per cent, mean ± sample standard deviation over "
        f"n = {number_range(frame['n'])} runs that differ in their seed; one search per row. Cross-entropies in nats, "
        f"of the kept candidate. No augmentation; a block has {number_range(2 * frame['depth'])} convolutions."
    )


def _targets(row: pd.Series) -> list[str]:
    cells = [", ".join(f"{row[name]:.2f}" for name in CROSS_ENTROPIES)]
    for kind in ("within", "between"):
        cells.append(", ".join(f"{row[f'{kind}_class_{block}']:z.2f}" for block in BLOCKS))
    return cells


def _accuracies(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return ["–", "–"]
    return [mean_and_std(rows.iloc[0], f"{kind}_") for kind in ("validation", "test")]


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """§3.1, "crucial for learnability": the default recipe against one without blur, by validation accuracy.

    The recipe without blur is recognised by its name, which ends in "-unsmoothed" (workflow/presets/readings.yaml).
    """
    for label, rows in frame.groupby("label", sort=False):
        chosen = rows[(rows["part"] == "search") & (rows["variant"] == "search-all")].set_index("reading")
        without = [name for name in chosen.index if str(name).endswith("-unsmoothed") and " " not in str(name)]
        if DEFAULT not in chosen.index or not without:
            continue
        smooth, rough = chosen.loc[DEFAULT], chosen.loc[without[0]]
        better = Mean.of(smooth, "validation_").above(Mean.of(rough, "validation_"))
        accuracies = [mean_and_std(row, "validation_") for row in (smooth, rough)]
        yield Claim(
            "§3.1", "Smoothing is crucial for learning from the targets", "no number",
            f"validation accuracy {accuracies[0]} with, {accuracies[1]} without",
            number_range([smooth["n"], rough["n"]]), f"{label}: {scale_text(rows)}", verdict(better),
        )  # fmt: skip
