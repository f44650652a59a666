"""The figure of search and learning in turn."""

import re
from pathlib import Path

import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.jobs import ChainNames, DatasetName, FigureJob
from repsearch.results import figures
from repsearch.search.recipe import SEARCH_LAYERS
from repsearch.storage.manifest import write_manifest
from tests.results.made_up import NO_RECIPE, run

CHAINS = {
    "on": ChainNames("search-all", "search-on"),
    "born-again": ChainNames("sgd", "distil"),
}
JOB = FigureJob("cycles", {"toy": DatasetName("Toy")}, "", chains=CHAINS)


def _facts(folder: Path, recipe: str, history: dict[str, list[float]]) -> Path:
    facts = {"dataset": "toy", "recipe": recipe, "recipe_digest": "1" * 12, "code_version": "2" * 12}
    write_manifest(folder / recipe / "facts.json", {}, [], {**facts, "history": history})
    return folder / recipe / "facts.json"


def _inputs(folder: Path) -> list[Path]:
    """Two training seeds, two cycles: accuracy 0.5 + cycle / 10 + seed / 100; cross-entropies fall to 1, of learned
    networks to 0.1 (seed 0) and 0.3 (seed 1)."""
    inputs = []
    for seed in (0, 1):
        first = {"seed": seed, "test_accuracy": 0.5 + seed / 100}
        inputs += [run(folder, variant="search-all", **first), run(folder, variant="sgd", **NO_RECIPE, **first)]
        for cycle in (1, 2):
            later = {"seed": seed, "test_accuracy": 0.5 + cycle / 10 + seed / 100}
            for chain, names in CHAINS.items():
                recipe = f"again--chain-{chain}--cycle-{cycle}--network-{seed}"
                inputs.append(run(folder, variant=names.then, recipe=recipe, **later))
                evolved = [1.0, 0.1 + 0.2 * seed] if chain == "on" else [1.0]
                inputs.append(_facts(folder / "targets", recipe, dict.fromkeys(SEARCH_LAYERS, evolved)))
    untrained = {"block0": [3.0, 2.0, 1.5], **{layer: [2.0, 1.0] for layer in SEARCH_LAYERS[1:]}}
    return [*inputs, _facts(folder / "targets", "small", untrained)]


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return figures.find("cycles").build(JOB, _inputs(tmp_path))


def test_accuracies_are_means_over_the_training_seeds_of_a_chain(frame: pd.DataFrame) -> None:
    accuracy = frame[frame["kind"] == "accuracy"].set_index(["chain", "cycle"])
    assert accuracy["mean"].to_dict() == pytest.approx(
        {(chain, cycle): 50.5 + 10 * cycle for chain in CHAINS for cycle in range(3)}
    )
    assert (accuracy["n"] == 2).all()
    assert accuracy.loc[("on", 0), "variant"] == "search-all" and accuracy.loc[("on", 2), "variant"] == "search-on"
    assert accuracy.loc[("born-again", 0), "variant"] == "sgd"


def test_cross_entropies_go_on_from_layer_to_layer(frame: pd.DataFrame) -> None:
    search = frame[(frame["kind"] == "search") & (frame["chain"] == "on")]
    curves = {cycle: rows.sort_values("x") for cycle, rows in search.groupby("cycle")}
    assert curves[0]["mean"].tolist() == [3.0, 2.0, 1.5, 1.0, 1.0, 1.0]
    assert curves[1]["mean"].tolist() == pytest.approx([1.0, 0.2, 0.2, 0.2, 0.2])  # of two networks
    assert curves[1]["std"].tolist() == pytest.approx([0.0, *[0.2 / 2**0.5] * 4])
    assert not len(frame[(frame["kind"] == "search") & (frame["chain"] == "born-again") & (frame["cycle"] > 0)])


def test_it_is_drawn_and_captioned(frame: pd.DataFrame, tmp_path: Path) -> None:
    module = figures.find("cycles")
    figure = module.draw(frame)
    accuracy, search = figure.axes
    assert accuracy.get_title() == "Toy, 46,000 images"
    assert [list(line.lines[0].get_ydata()) for line in accuracy.containers] == [pytest.approx([50.5, 60.5, 70.5])] * 2
    assert len(search.lines) == 3  # the untrained network's and two cycles of the one chain that searches
    assert {label.get_text() for label in search.texts} == {"0", "1", "2"}
    text = module.caption(frame)
    assert re.search(r"Scale: [\d,]+ training images, .*width \d+, \d+ epochs, ", text), text  # whole numbers
    assert "born-again: sgd, then distil; on: search-all, then search-on." in text
    figures.make(JOB, _inputs(tmp_path / "again"), tmp_path / "cycles.csv")
    assert (tmp_path / "cycles.png").exists()


def test_a_run_of_no_chain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chain begins with search-skip0"):
        figures.find("cycles").build(JOB, [run(tmp_path, variant="search-skip0")])
