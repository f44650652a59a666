"""The readings study: accuracies and targets of every reading of the search and of the training, and SGD's."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.jobs import ReadingsJob
from repsearch.results import latex, phrases, style
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import WELCH, Estimate
from repsearch.results.runs import (
    COUNTS,
    DIGESTS,
    SCALE,
    counts,
    percent,
    points,
    read,
    read_csv,
    recipe_of,
    verify_inputs,
    without_search,
)
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS
from repsearch.storage.files import digest, read_json, write_csv, write_text
from repsearch.storage.manifest import read_manifest

CROSS_ENTROPIES = [f"cross_entropy_{layer}" for layer in SEARCH_LAYERS]
COSINES = [f"{kind}_class_{block}" for kind in ("within", "between") for block in BLOCKS]
RUN = [*SCALE, "population", "generations", *DIGESTS]
ACCURACIES = [f"{kind}_{name}" for kind in ("validation", "test") for name in ("mean", "std", "error", "df")]
SEARCH = ["mutation", "blur", "but_blur"]  # mutation noise; passes of the blocks, summed; digest of all other settings
COLUMNS = ["dataset", "label", "part", "reading", "variant", "depth", "recipe", *SEARCH, *COUNTS, *ACCURACIES]
COLUMNS += [*CROSS_ENTROPIES, *COSINES, *RUN]
DEFAULT = "default"
NOISES = {
    "channel": "noise per channel, which has no high frequencies to remove",
    "element": "noise per element, which has high frequencies",
}
PARTS = {"search": "Search", "training": "Learning", "baseline": "SGD"}


def make(job: ReadingsJob, inputs: Sequence[Path], out: Path, formats: Sequence[str] = ()) -> None:
    """Write the study's CSV to `out`; beside it, drawn from it alone, .md, .png and, with the format latex, .tex.

    inputs: the runs' summary.json and each recipe's facts.json. Raises UserError where one was altered or is missing.
    """
    runs, targets = ([path for path in inputs if path.name == name] for name in ("summary.json", "facts.json"))
    verify_inputs(runs)
    write_csv(out, build(read(runs, job.datasets), targets))
    frame = read_csv(out, COLUMNS)
    style.save(out, draw, frame)
    write_text(out.with_suffix(".md"), to_markdown(frame))
    if "latex" in formats:
        latex.write(out, to_latex(frame))


def build(runs: pd.DataFrame, targets: Sequence[Path]) -> pd.DataFrame:
    """One row per data set, reading and variant: accuracies (%) over its searches and seeds, and what its targets are
    like (the mean over the searches).

    part says what the reading is of: search, training, or the baseline's training. targets: the facts.json of each
    search of each recipe. Raises UserError where one is missing or of another recipe of the same name.
    """
    facts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in map(read_manifest, targets):
        facts.setdefault((entry["dataset"], without_search(entry["recipe"])), []).append(entry)
    rows: list[dict[str, Any]] = []
    bases = {(dataset, alternatives.family(recipe)) for dataset, recipe in facts if alternatives.setting(recipe)}
    for group in points(runs):
        first = group.iloc[0]
        variant, recipe = str(first["variant"]), str(first["recipe"])
        changed = alternatives.setting(variant)
        part = "baseline" if recipe == "none" else "training" if changed else "search"
        is_default = part == "baseline" or (first["dataset"], recipe) in bases
        reading = changed or alternatives.setting(recipe) or (DEFAULT if is_default else recipe)
        row = {**first[["dataset", "label", "depth", "recipe", *RUN]], **counts(group), "part": part}
        row |= {"variant": alternatives.family(variant), "reading": reading}
        row |= percent(group, "validation_accuracy", "validation_") | percent(group, "test_accuracy", "test_")
        if part != "baseline":
            described = facts.get((first["dataset"], recipe), [])
            if {entry["recipe_digest"] for entry in described} != set(first["recipe_digest"].split("+")):
                raise UserError(f"no facts of the targets of {first['dataset']}, {recipe}: run snakemake again")
            row |= dict(pd.DataFrame(described)[[*CROSS_ENTROPIES, *COSINES]].mean())
            row |= _search(first["path"])
        rows.append(row)
    rows.sort(key=lambda row: list(PARTS).index(row["part"]))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _search(summary: Path) -> dict[str, Any]:
    """What the claim on smoothing compares: a recipe's noise, its blur, and all else."""
    recipe = recipe_of(read_json(summary)) or {}
    rest = {name: value for name, value in recipe.items() if name not in ("seed", "layers")}
    layers = [{name: value for name, value in layer.items() if name != "blur"} for layer in recipe["layers"]]
    blur = sum(layer["blur"] for layer in recipe["layers"])
    return {"mutation": recipe["mutation"], "blur": blur, "but_blur": digest([rest, layers])}


def best_baseline(frame: pd.DataFrame) -> pd.Series:
    """The baseline's row with the best validation accuracy. frame: the rows of one data set."""
    rows = frame[frame["part"] == "baseline"]
    if rows.empty:
        raise UserError("the readings study has no baseline")
    return rows.loc[rows["validation_mean"].idxmax()]


def smallest_difference(frame: pd.DataFrame) -> float:
    """About the smallest difference of two rows' validation accuracies (points) that would be seen with 80 % power, if
    all rows have the same error, that of their mean over searches and training seeds (pooled; a row whose runs collapse
    makes it too large). 0 where no row has an error. frame: the rows of one data set.
    """
    rows = frame[frame["validation_df"] > 0]
    if rows.empty:
        return 0.0
    error = float((2 * (rows["validation_error"] ** 2).mean()) ** 0.5)
    return Estimate(0.0, error, float(rows["validation_df"].sum())).smallest_effect()


def to_markdown(frame: pd.DataFrame) -> str:
    """For each data set a table of the readings."""
    parts = [f"**Readings.** {_caption(frame)}"]
    for label, said, header, lines in _tables(frame):
        parts += [f"**{label}** ({said})", phrases.markdown(header, lines, left=2)]
    return "\n\n".join([*parts, phrases.provenance_text(frame)]) + "\n"


def to_latex(frame: pd.DataFrame) -> Iterator[str]:
    """The same tables in LaTeX."""
    below = f"{_caption(frame)} {phrases.provenance_text(frame)}"
    for number, (label, said, header, lines) in enumerate(_tables(frame), start=1):
        yield latex.table(f"readings{number}", f"Readings: {label} ({said}).", header, lines, below, left=2)


def _tables(frame: pd.DataFrame) -> Iterator[tuple[str, str, list[str], list[list[str]]]]:
    """By data set: its label, its scale, header and rows: the targets, then the accuracies of each variant."""
    variants = frame.loc[frame["part"] != "baseline", "variant"].unique()
    header = ["", "reading", "cross-entropy after block 0, 1, 2, logits"]
    header += ["cosine within a class, block 0, 1, 2", "between classes"]
    for variant in variants:
        header += [f"{phrases.VARIANTS.get(variant, variant)}: validation", "test"]
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
        said = f"{phrases.scale_text(dataset_rows)}; SGD's accuracies stand in the first two columns of accuracies"
        visible = smallest_difference(dataset_rows[~is_baseline])
        said += f"; a difference of {visible:.1f} points in validation accuracy would be seen" if visible else ""
        yield str(label), said, header, lines


def draw(frame: pd.DataFrame) -> Figure:
    """Validation accuracy of each reading; the line and its band are SGD's, as validation chose it."""
    labels = list(dict.fromkeys(frame["label"]))
    studied = frame[frame["part"] != "baseline"]
    order = list(dict.fromkeys(zip(studied["part"], studied["reading"], strict=True)))
    width, height = 2.6 + 2.3 * max(2, len(labels)), 1.2 + 0.2 * len(order)  # the legend needs the width of two
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
    convolutions = phrases.number_range(2 * frame["depth"])
    searched = frame[frame["part"] != "baseline"].iloc[0]
    return (
        "Each row changes one or more settings of the default and nothing else (docs/readings.md says what they mean). "
        "Accuracies in per cent, mean ± sample standard deviation over runs, of each row: "
        f"{phrases.averaged_text(searched['searches'], searched['seeds'])}. "
        "The smallest difference that would be seen is that of a t-test with 80 % power whose error is pooled over all "
        "rows. Cross-entropies in nats, of the kept candidate. No augmentation; a block has "
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
    """§3.1, "crucial for learnability", of which only the direction can be tested: by validation accuracy, a recipe
    against the same one without blur, for each noise of which both were run.
    """
    studied = frame[(frame["part"] == "search") & (frame["variant"] == "search-all")]
    for (_, mutation, _), rows in studied.groupby(["label", "mutation", "but_blur"], sort=False):
        smooth, rough = rows[rows["blur"] > 0], rows[rows["blur"] == 0]
        if smooth.empty or rough.empty:
            continue
        first, second = smooth.iloc[0], rough.iloc[0]
        with_blur, without_blur = (phrases.mean_and_std(row, "validation_") for row in (first, second))
        difference = Estimate.read(first, "validation_") - Estimate.read(second, "validation_")
        yield Claim(
            "§3.1", f"Smoothing helps learning from the targets, by any amount: {NOISES.get(mutation, mutation)}",
            "We found spatial smoothing to be crucial for learnability of these representations with gradient descent",
            "validation accuracy (%), which also chose the epoch, with blur minus that without, which must be above 0. "
            "How much would be crucial the paper does not say. By default the whole child is smoothed (R2)",
            f"{WELCH}; each recipe has searches of its own",
            [Effect("", difference, f"{with_blur} and {without_blur}")],
            phrases.averaged_text(first["searches"], first["seeds"]) + " each",
            f"{first['label']}: {phrases.scale_text(rows)}", searches=int(rows["searches"].min()),
        )  # fmt: skip
