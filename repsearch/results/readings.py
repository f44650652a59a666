"""The readings study: accuracies and targets of every reading of the search and of the training, beside SGD's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.results import plots
from repsearch.results.runs import (
    VARIANTS,
    in_words,
    markdown,
    points,
    provenance,
    read,
    read_csv,
    scale,
    several,
    spread,
)
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS
from repsearch.storage.files import atomic, write_text
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


def table(summaries: Sequence[Path], targets: Sequence[Path]) -> pd.DataFrame:
    """One row a data set, reading and variant: accuracies in per cent over its seeds, and its targets' facts.

    part says what the reading is of: search, training, or the baseline's training. targets: the facts.json of each
    recipe. Raises UserError where a recipe's is missing or of another recipe of the same name.
    """
    facts = {(each["dataset"], each["recipe"]): each for each in map(read_manifest, targets)}
    rows: list[dict[str, Any]] = []
    bases = {(dataset, alternatives.family(recipe)) for dataset, recipe in facts if alternatives.setting(recipe)}
    for group in points(read(summaries)):
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
            found = facts.get((first["dataset"], recipe), {})
            if found.get("recipe_digest") != first["recipe_digest"]:
                raise UserError(f"no facts of the targets of {first['dataset']}, {recipe}: run snakemake again")
            row |= {name: found[name] for name in (*CROSS_ENTROPIES, *COSINES)}
        else:
            row["reading"] = changed or DEFAULT
        rows.append(row)
    if not rows:
        raise UserError("the readings study has no runs")
    parts = list(PARTS)
    rows.sort(key=lambda row: parts.index(row["part"]))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def draw(csv: Path, png: Path, text: Path) -> None:
    """The picture and the Markdown tables, from the CSV alone."""
    frame = read_csv(csv, COLUMNS)
    with plots.style(), atomic(png) as temporary:
        picture(frame).savefig(temporary, dpi=200)
    write_text(text, to_markdown(frame))


def best_baseline(frame: pd.DataFrame) -> pd.Series:
    """Of one data set's rows, the baseline's that validation prefers."""
    rows = frame[frame["part"] == "baseline"]
    if rows.empty:
        raise UserError("the readings study has no baseline")
    return rows.loc[rows["validation_mean"].idxmax()]


def to_markdown(frame: pd.DataFrame) -> str:
    """For each data set a table of the readings: the targets, then the accuracies of each variant."""
    variants = [
        v for v in dict.fromkeys(frame["variant"]) if v not in set(frame.loc[_is(frame, "baseline"), "variant"])
    ]
    header = ["", "reading", "cross-entropy after block 0, 1, 2, logits"]
    header += ["cosine within a class, block 0, 1, 2", "between classes"]
    for variant in variants:
        header += [f"{VARIANTS.get(variant, variant)}: validation", "test"]
    parts = [f"**Readings.** {_caption(frame)}"]
    for label, own in frame.groupby("label", sort=False):
        lines: list[list[str]] = []
        for (part, reading), rows in own[~_is(own, "baseline")].groupby(["part", "reading"], sort=False):
            lines.append([PARTS[part], str(reading), *_targets(rows.iloc[0])])
            for variant in variants:
                lines[-1] += _accuracies(rows[rows["variant"] == variant])
        for _, row in own[_is(own, "baseline")].iterrows():
            lines.append([PARTS["baseline"], row["reading"], "–", "–", "–", *_accuracies(own.loc[[row.name]])])
            lines[-1] += [""] * (len(header) - len(lines[-1]))
        body = markdown(header, lines, left=2)
        parts.append(
            f"**{label}** ({scale(own)}; SGD's accuracies stand in the first two columns of accuracies)\n\n{body}"
        )
    return "\n\n".join([*parts, provenance(frame)]) + "\n"


def picture(frame: pd.DataFrame) -> Figure:
    """Validation accuracy of each reading; a line and a band: SGD, as validation chose it."""
    labels = list(dict.fromkeys(frame["label"]))
    shown = frame[~_is(frame, "baseline")]
    order = list(dict.fromkeys(zip(shown["part"], shown["reading"], strict=True)))
    order.sort(key=lambda each: list(PARTS).index(each[0]))
    height = 1.2 + 0.2 * len(order)
    figure = Figure(figsize=(2.6 + 2.3 * len(labels), height), layout="constrained")
    axes = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    variants = list(dict.fromkeys(shown["variant"]))
    for ax, label in zip(axes, labels, strict=True):
        own = frame[frame["label"] == label]
        sgd = best_baseline(own)
        ax.axvline(sgd["validation_mean"], color="0.4", linewidth=1, label="SGD, chosen on validation")
        spread_of_sgd = 0 if pd.isna(sgd["validation_std"]) else sgd["validation_std"]
        band = (sgd["validation_mean"] - spread_of_sgd, sgd["validation_mean"] + spread_of_sgd)
        ax.axvspan(*band, color="0.4", alpha=0.15, linewidth=0)
        for place, variant in enumerate(variants):
            rows = own[(own["variant"] == variant) & ~_is(own, "baseline")]
            y = [
                order.index(each) + 0.16 * (place - (len(variants) - 1) / 2) * 2
                for each in zip(rows["part"], rows["reading"], strict=True)
            ]
            look = plots.KNOWN.get(variant, plots.LOOKS[3 + place])
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
        f"Accuracies in per cent, mean ± sample standard deviation over n = {several(frame['n'])} runs that differ in "
        "their seed; one search a row. Cross-entropies in nats, of the kept candidate. No augmentation; a block has "
        f"{several(2 * frame['depth'])} convolutions."
    )


def _targets(row: pd.Series) -> list[str]:
    cells = [", ".join(f"{row[name]:.2f}" for name in CROSS_ENTROPIES)]
    for kind in ("within", "between"):
        cells.append(", ".join(f"{row[f'{kind}_class_{block}']:z.2f}" for block in BLOCKS))
    return cells


def _accuracies(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return ["–", "–"]
    return [in_words(rows.iloc[0], f"{kind}_") for kind in ("validation", "test")]
