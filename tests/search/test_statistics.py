"""Which rows of a search's BatchNorm statistics (R3) it uses, and statistics that don't fit it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from repsearch.search.evolution import search, search_one_layer
from repsearch.search.recipe import SEARCH_LAYERS, Recipe
from repsearch.search.statistics import Statistics
from tests import small

NET, RECIPE = small.search_network(), small.recipe()
FROZEN, BATCH = (replace(RECIPE, batch_norm=name) for name in ("frozen", "batch"))
LONGER = replace(RECIPE, layers=(replace(RECIPE.layers[0], generations=4), *RECIPE.layers[1:]))
WHOLE, ALONE = small.statistics(NET, RECIPE), small.statistics(NET, RECIPE, 1)
assert WHOLE is not None and ALONE is not None


def _changed(table: Tensor, row: int | None = None) -> Tensor:
    changed = table.clone()
    changed[row if row is not None else slice(None)] *= 1.5
    return changed


def _history(statistics: Statistics, recipe: Recipe = RECIPE) -> dict[str, Tensor]:
    return search(NET, small.images(3), small.labels(3), recipe, torch.arange(3), statistics).history


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_row_counts_from_its_own_generation_on(layer: int, row: int) -> None:
    """And changes every loss of that generation, since the parents are scored anew, too."""
    changed = Statistics(WHOLE.openings, WHOLE.scorings | {layer: _changed(WHOLE.scorings[layer], row)})
    before, after = (_history(statistics)[SEARCH_LAYERS[layer]] for statistics in (WHOLE, changed))
    assert torch.equal(before[:, :row], after[:, :row])
    assert not torch.isclose(before[:, row], after[:, row], rtol=1e-4).any()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_opening_counts_from_its_own_layer_on(layer: int) -> None:
    changed = Statistics(WHOLE.openings | {layer: _changed(WHOLE.openings[layer])}, WHOLE.scorings)
    before, after = _history(WHOLE), _history(changed)
    for earlier in SEARCH_LAYERS[:layer]:
        assert torch.equal(before[earlier], after[earlier])
    assert not torch.isclose(before[SEARCH_LAYERS[layer]][:, 0], after[SEARCH_LAYERS[layer]][:, 0], rtol=1e-4).any()


def test_the_untouched_images_are_scored_by_the_first_row() -> None:
    images, labels = small.images(3), small.labels(3)
    result = search(NET, images, labels, RECIPE, torch.arange(3), WHOLE)
    maps = torch.nn.functional.layer_norm(NET.first_map(images[:, None], WHOLE.opening(0)), (6, 8, 8))
    logits = NET.logits(maps, 0, WHOLE.scorings[0][0])[:, 0]
    torch.testing.assert_close(result.initial, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))


def test_one_row_serves_all_generations() -> None:
    frozen = small.statistics(NET, FROZEN)
    assert frozen is not None
    assert all(len(table) == 1 for table in frozen.scorings.values())
    for generation in range(4):
        assert torch.equal(frozen.scoring(0, generation), frozen.scorings[0][0])
        assert torch.equal(WHOLE.scoring(0, generation), WHOLE.scorings[0][generation])
    assert torch.equal(frozen.generations(0), frozen.scorings[0])
    assert torch.equal(WHOLE.generations(0), WHOLE.scorings[0][1:])


def test_statistics_move_to_another_type() -> None:
    moved = WHOLE.to("cpu", torch.float64)
    for tables, others in ((moved.openings, WHOLE.openings), (moved.scorings, WHOLE.scorings)):
        assert all(table.dtype == torch.float64 for table in tables.values())
        assert all(torch.equal(tables[layer].float(), table) for layer, table in others.items())


REMEDY = r"repsearch\.search\.calibration\.calibrate makes those of this network, recipe and search"
OTHER_NETWORKS = [small.search_network(7), type(NET)(small.network(convolutions=4))]


@pytest.mark.parametrize(
    ("recipe", "statistics", "message"),
    [
        (RECIPE, None, f"statistics must be given for batch_norm 'trajectory': {REMEDY}"),
        (FROZEN, None, f"statistics must be given for batch_norm 'frozen': {REMEDY}"),
        (BATCH, WHOLE, "statistics must be left out for batch_norm 'batch', where they are those of the batch itself"),
        (RECIPE, ALONE, f"are those of a search of block1, not of all blocks: {REMEDY}"),
        (RECIPE, Statistics({}, {}), "are those of a search of no block, not of all blocks"),
        (
            RECIPE,
            small.statistics(NET, FROZEN),
            r"after block0 are \[1, 4, 2, 6\], not \[4, 4, 2, 6\], with .*trajectory",
        ),
        (FROZEN, WHOLE, rf"after block0 are \[4, 4, 2, 6\], not \[1, 4, 2, 6\], with batch_norm 'frozen': {REMEDY}"),
        (
            LONGER,
            WHOLE,
            rf"after block0 are \[4, 4, 2, 6\], not \[5, 4, 2, 6\], with batch_norm 'trajectory': {REMEDY}",
        ),
        (RECIPE, small.statistics(OTHER_NETWORKS[0], RECIPE), r"to block0 are \[2, 2, 7\], not \[2, 2, 6\]"),
        (RECIPE, small.statistics(OTHER_NETWORKS[1], RECIPE), r"to block0 are \[4, 2, 6\], not \[2, 2, 6\]"),
        (RECIPE, WHOLE.to("meta"), "statistics must be on the network's device, cpu, not on meta"),
    ],
)
def test_statistics_that_do_not_fit_the_search_are_refused(recipe: Recipe, statistics: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(NET, small.images(2), small.labels(2), recipe, torch.arange(2), statistics)


@pytest.mark.parametrize(
    ("layer", "statistics", "message"),
    [
        (1, None, "statistics must be given for batch_norm 'trajectory'"),
        (1, WHOLE, f"are those of a search of block0, block1, block2, not of block1 alone: {REMEDY}"),
        (0, ALONE, f"are those of a search of block1, not of block0 alone: {REMEDY}"),
        (2, ALONE, f"are those of a search of block1, not of block2 alone: {REMEDY}"),
        (1, small.statistics(OTHER_NETWORKS[0], RECIPE, 1), r"to block0 are \[2, 2, 7\], not \[2, 2, 6\]"),
    ],
)
def test_statistics_that_do_not_fit_the_search_of_one_layer_are_refused(
    layer: int, statistics: Any, message: str
) -> None:
    images, labels, indices = small.images(2), small.labels(2), torch.arange(2)
    search_one_layer(NET, images, labels, RECIPE, indices, 1, ALONE)
    with pytest.raises(ValueError, match=message):
        search_one_layer(NET, images, labels, RECIPE, indices, layer, statistics)
