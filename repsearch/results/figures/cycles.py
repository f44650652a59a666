"""Search and learning in turn (§6): accuracy by cycle, and how far a search of a learned network gets.

This figure is not the paper's (docs/beyond.md).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from repsearch.config import alternatives
from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import style
from repsearch.results.runs import COUNTS, RUN_FACTS, counts, dataset_name, percent, points, read, without_search
from repsearch.search.recipe import SEARCH_LAYERS
from repsearch.storage.files import read_json

ACCURACY, SEARCH = "accuracy", "search"
COLUMNS = ["kind", "chain", "cycle", "x", "mean", "std", *COUNTS, "error", "df", "candidates", *RUN_FACTS]


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Test accuracy (%) by chain and cycle, x; and the mean cross-entropy (nats) of the best candidates by generation,
    x, counted over all search layers, in the search whose targets that cycle learns.

    inputs: the runs' summaries and their targets' facts.json. Raises UserError for a run that is in no chain.
    """
    runs = read([path for path in inputs if path.name != "facts.json"], job.datasets)
    rows = [row for group in points(runs) for row in _accuracies(job, group)]
    facts = [read_json(path) for path in inputs if path.name == "facts.json"]
    rows += [row for chosen in _by_targets(facts) for row in _searches(job, chosen)]
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    text = ["augmentation", "code_version", "recipe_digest", "variant"]
    return frame.fillna(dict.fromkeys(text, "")).sort_values(["dataset", "chain", "kind", "cycle", "x"], kind="stable")


def _accuracies(job: FigureJob, group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A row for each chain that a run, whose number `group` is, belongs to."""
    first = group.iloc[0]
    facts = {"kind": ACCURACY, **percent(group, "test_accuracy"), **counts(group)}
    facts |= {**first[["candidates", *RUN_FACTS]]}
    for chain, cycle in _chains_and_cycles(job, first["recipe"], first["variant"]):
        yield {**facts, "chain": chain, "cycle": cycle, "x": cycle}


def _chains_and_cycles(job: FigureJob, recipe: str, variant: str | None = None) -> list[tuple[str, int]]:
    """(chain, cycle) of a run, or of targets (variant None): those of the untrained network are cycle 0 of every chain,
    to compare with.
    """
    named = alternatives.changes(recipe)
    if "chain" in named:
        return [(named["chain"], int(named["cycle"]))]
    found = [(name, 0) for name, chain in job.chains.items() if variant in (None, chain.first)]
    if not found:
        raise UserError(f"figure cycles: no chain begins with {variant}: give it the runs of its chains alone")
    return found


def _by_targets(facts: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The facts in groups: in each, targets that differ in nothing but the training seed of the network searched."""
    together: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for fact in facts:
        together.setdefault((fact["dataset"], without_search(fact["recipe"])), []).append(fact)
    return list(together.values())


def _searches(job: FigureJob, facts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Cross-entropy by generation, mean and std over the networks; none of a search without generations."""
    curves = np.array([_curve(fact["history"]) for fact in facts])
    first, networks = facts[0], len(facts)
    name = dataset_name(job.datasets, first["dataset"])
    shared = {"kind": SEARCH, "dataset": first["dataset"], "label": name.label, "n": networks, "seeds": networks}
    shared |= {"recipe": without_search(first["recipe"]), "recipe_digest": first["recipe_digest"], "searches": 1}
    shared |= {"code_version": first["code_version"]}
    for chain, cycle in _chains_and_cycles(job, first["recipe"]):
        for generation in range(curves.shape[1] if curves.shape[1] > 1 else 0):
            values = curves[:, generation]
            std = values.std(ddof=1) if networks > 1 else np.nan
            yield {**shared, "chain": chain, "cycle": cycle, "x": generation, "mean": values.mean(), "std": std}


def _curve(history: dict[str, list[float]]) -> list[float]:
    """One generation after the other, over all layers; of their first populations, block 0's alone."""
    return [history[SEARCH_LAYERS[0]][0], *(value for layer in SEARCH_LAYERS for value in history[layer][1:])]


def draw(frame: pd.DataFrame) -> Figure:
    datasets = list(dict.fromkeys(frame["dataset"]))
    searching = list(dict.fromkeys(frame.loc[(frame["kind"] == SEARCH) & (frame["cycle"] > 0), "chain"]))
    chains = list(dict.fromkeys([*searching, *frame["chain"]]))  # those in both panels get the first colours
    figure, axes = style.panels(2, len(datasets), max(4.0, 3.0 * len(datasets)), 4.8)
    looks = style.variant_looks(chains)
    for column, dataset in enumerate(datasets):
        accuracy, search = axes[column], axes[len(datasets) + column]
        part = frame[frame["dataset"] == dataset]
        for chain in chains:
            rows = part[(part["chain"] == chain) & (part["kind"] == ACCURACY)]
            style.errorbars(accuracy, rows, "x", looks[chain], chain)
            searches = part[(part["chain"] == chain) & (part["kind"] == SEARCH)]
            for cycle, curve in searches.groupby("cycle") if chain in searching else ():
                fade = 1.0 / (1 + int(str(cycle)))
                search.plot(curve["x"], curve["mean"], color=looks[chain]["color"], alpha=0.25 + 0.75 * fade)
                end = curve["x"].iloc[-1], curve["mean"].iloc[-1]
                beside = (3 + 7 * searching.index(chain), -3)  # chains may end alike
                colour = looks[chain]["color"]
                search.annotate(f"{cycle}", end, beside, textcoords="offset points", color=colour, fontsize=7)
        images = part.loc[part["kind"] == ACCURACY, "train_images"].iloc[0]
        accuracy.set(title=f"{part['label'].iloc[0]}, {images:,.0f} images", xlabel="Cycle")
        accuracy.set_xticks(sorted(set(part.loc[part["kind"] == ACCURACY, "x"])))
        search.set(xlabel="Generations, all search layers", yscale="log")
        search.yaxis.set_major_formatter("{x:g}")
        search.yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("Test accuracy (%)")
    axes[len(datasets)].set_ylabel("Cross-entropy of the best (nats)")
    return style.legend(figure, axes)


def caption(frame: pd.DataFrame) -> str:
    title = (
        "**Search and learning in turn.** Test accuracy (%) after each cycle (top): cycle 0 is learned from the "
        "labels, or from a search of the untrained network; each later one from a search of the network that was "
        "learned before. Cross-entropy of the best candidates in those searches (bottom; the number is the cycle that "
        "learns from it, 0 the search of the untrained network), mean over images."
    )
    accuracies = frame[frame["kind"] == ACCURACY].convert_dtypes()  # numbers of images are whole
    learned = "; ".join(
        f"{chain}: " + ", then ".join(dict.fromkeys(rows["variant"]))
        for chain, rows in accuracies.sort_values("cycle").groupby("chain")
    )
    return style.caption(f"{title} Variants by chain: {learned}.", accuracies, marks="Error bars")
