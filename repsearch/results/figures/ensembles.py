"""Ensembles of learned networks (§6): what their members' diversity is worth.

This figure is not the paper's (docs/beyond.md).
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import style
from repsearch.results.estimates import Estimate
from repsearch.results.phrases import number_range, scale_text
from repsearch.results.runs import dataset_name, read_csv

READ = ["measure", "value", "dataset", "kind", "repeat", "members", "train_images", "validation_images", "test_images"]
READ += ["width", "depth", "epochs", "recipe_digest", "precision", "code_version", "evaluated_by"]
ALIKE = ["members", "train_images", "width", "depth", "epochs", "precision", "code_version", "evaluated_by"]
ACCURACIES = {"member": "Mean member", "ensemble": "Ensemble", "weighted": "Weighted", "picked": "Picked members"}
PER_CENT = [*ACCURACIES, "best", "gain", "disagreement"]
COLUMNS = [
    "label",
    "measure",
    "mean",
    "std",
    "n",
    "error",
    "df",
    *(name for name in READ if name not in ("measure", "value", "repeat")),
]


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Means over the ensembles of a kind: accuracies, gain (of the ensemble over its mean member) and disagreement in
    per cent, distances, and compute per ensemble.
    """
    frames = [read_csv(path, READ) for path in inputs]
    rows = []
    for frame in frames:
        values = frame.set_index("measure")["value"]
        gain = frame.iloc[:1].assign(measure="gain", value=values["ensemble"] - values["member"])
        rows.append(pd.concat([frame, gain]))
    measured = pd.concat(rows, ignore_index=True)
    measured.loc[measured["measure"].isin(PER_CENT), "value"] *= 100
    summary = []
    for (dataset, kind, measure), group in measured.groupby(["dataset", "kind", "measure"], sort=False):
        for column in ALIKE:
            if len(set(group[column])) > 1:
                values = ", ".join(map(str, dict.fromkeys(group[column])))
                raise UserError(
                    f"figure ensembles: can't average ensembles of {kind} that differ in {column}: {values}"
                )
        first = {name: group[name].iloc[0] for name in READ if name not in ("value", "repeat")}
        estimate, std = Estimate.of(group["value"]), group["value"].std() if len(group) > 1 else np.nan
        first |= {"recipe_digest": "+".join(dict.fromkeys(group["recipe_digest"])), "n": len(group), "std": std}
        name = dataset_name(job.datasets, str(dataset))
        summary.append({**first, "label": name.label, **asdict(estimate), "kind": kind, "measure": measure})
    return pd.DataFrame(summary)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    datasets, kinds = list(dict.fromkeys(frame["dataset"])), list(dict.fromkeys(frame["kind"]))
    figure, axes = style.panels(2, len(datasets), max(4.0, 3.2 * len(datasets)), 5.4)
    places, looks = pd.Series(range(len(kinds)), index=kinds), style.variant_looks(kinds)
    for column, dataset in enumerate(datasets):
        accuracy, spread = axes[column], axes[len(datasets) + column]
        part = frame[frame["dataset"] == dataset]
        for number, (measure, name) in enumerate(ACCURACIES.items()):
            rows = part[part["measure"] == measure]
            look = {**style.LOOKS[number], "linestyle": "none"}
            places_of = rows["kind"].map(places) + 0.15 * (number - 1.5)
            bars = rows["std"].where(rows["n"] > 1)
            accuracy.errorbar(places_of, rows["mean"], bars, capsize=2, elinewidth=0.9, label=name, **look)
        gain, differ = (part[part["measure"] == name].set_index("kind") for name in ("gain", "disagreement"))
        for kind in differ.index:
            place = differ.loc[kind, "mean"], gain.loc[kind, "mean"]
            bars = gain.loc[kind, "std"], differ.loc[kind, "std"]
            mark = {"marker": looks[kind]["marker"], "markersize": 4, "color": "0.2"}  # colours are measures
            spread.errorbar(*place, *bars, capsize=2, elinewidth=0.9, linestyle="none", label=kind, **mark)
        accuracy.set_title(f"{part['label'].iloc[0]}, {part['train_images'].iloc[0]:,} images")
        accuracy.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right")
        spread.set(xlabel="Disagreement of two members (%)")
    axes[0].set_ylabel("Test accuracy (%)")
    axes[len(datasets)].set_ylabel("Gain of the ensemble (points)")
    axes[len(datasets)].legend(fontsize=7)
    return style.legend(figure, axes[: len(datasets)])


def caption(frame: pd.DataFrame) -> str:
    members, ensembles = (number_range(frame[name]) for name in ("members", "n"))
    return (
        "**Ensembles.** Test accuracy (%) of the mean member, of the mean of all members' probabilities, and of the "
        "weights and the members that are best on held-out images (top); the ensemble's gain over its mean member, "
        f"against the share of test images that two members classify differently (bottom). {members} members. Bars: "
        f"± 1 standard deviation over {ensembles} ensembles that share neither a training seed nor a search. "
        f"Scale: {scale_text(frame)}. "
        f"Code version: {', '.join(dict.fromkeys(frame['code_version']))}.\n"
    )
