"""The BatchNorm statistics that a search is given (R3) against a second, literal version."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from repsearch.network import Shape
from repsearch.search import evolution
from repsearch.search import network as search_network
from repsearch.search.backends import choose
from repsearch.search.calibration import calibrate
from repsearch.search.evolution import search, search_one_layer
from repsearch.search.network import SearchNetwork, initialise
from repsearch.search.operators import normalise, smooth
from repsearch.search.recipe import Recipe
from repsearch.search.statistics import Statistics
from tests import small
from tests.search import literal

IMAGES, LABELS, INDICES = small.images(5).double(), small.labels(5), torch.tensor([3, 0, 70_000, 8, 9])
FROZEN = small.recipe(batch_norm="frozen")


def _networks() -> dict[str, SearchNetwork]:
    deep = SearchNetwork(small.network(convolutions=4))
    nets = {"plain": small.search_network(head_bias=True), "dense": small.shaken(small.search_network()), "deep": deep}
    return {name: net.to("cpu", torch.float64) for name, net in nets.items()}


NETWORKS = _networks()
NET = NETWORKS["dense"]


def _calibrated(recipe: Recipe, layer: int | None = None, net: SearchNetwork = NET) -> Statistics:
    return calibrate(net, IMAGES, LABELS, recipe, INDICES, layer)


def _assert_equal(one: Statistics, other: Statistics) -> None:
    for tables, others in ((one.openings, other.openings), (one.scorings, other.scorings)):
        assert sorted(tables) == sorted(others)
        for layer, table in tables.items():
            torch.testing.assert_close(table, others[layer], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_a_trajectory_is_that_of_the_pseudocode(net: str, layer: int | None) -> None:
    statistics = _calibrated(small.recipe(), layer, NETWORKS[net])
    _assert_equal(statistics, literal.trajectory(NETWORKS[net].network, IMAGES, LABELS, small.recipe(), INDICES, layer))
    count, generations = NETWORKS[net].shape.convolutions, [x.generations for x in small.recipe().layers]
    for opened, table in statistics.openings.items():
        assert table.shape == (count, 2, 6), opened
    for scored, table in statistics.scorings.items():
        assert table.shape == (generations[scored] + 1, count * (2 - scored), 2, 6), scored
        assert all(not torch.allclose(a, b, rtol=1e-3) for a, b in pairwise(table) if len(a))


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize(
    "reading",
    [{"start": "population"}, {"normalise_start": False}, {"refine_from": "parents"}, {"parents": 3, "seed": 2**40}],
    ids=str,
)
def test_a_trajectory_follows_the_recipe(reading: dict, layer: int | None) -> None:
    recipe = small.recipe(**reading)
    _assert_equal(_calibrated(recipe, layer), literal.trajectory(NET.network, IMAGES, LABELS, recipe, INDICES, layer))


FOLLOWED = [{}, {"start": "population"}, {"normalise_start": False}, {"refine_from": "parents", "count_padding": False}]
FOLLOWED += [{"parents": 3, "explorers": 0, "seed": 2**40}, {"population": 40, "parents": 5, "explorers": 20}]


@pytest.mark.parametrize("reading", FOLLOWED, ids=str)
@pytest.mark.parametrize(("size", "width", "layer"), [(28, 20, None), (32, 6, None), (32, 16, 0), (28, 6, 1)])
def test_the_fused_path_records_the_same_trajectory(reading: dict, size: int, width: int, layer: int | None) -> None:
    """In single precision; where some windows of block 0's maps, with 13 or 15 positions a side, reach no head."""
    shape, images, recipe = Shape(3, size, small.CLASSES, width), small.images(5, size), small.recipe(**reading)
    net = initialise(shape, small.images(20, size), 0)
    assert choose(net, recipe, "fused", together=True)
    fused = calibrate(net, images, LABELS, recipe, INDICES, layer, "fused")
    network = initialise(shape, small.images(20, size), 0).to("cpu", torch.float64).network
    expected = literal.trajectory(network, images.double(), LABELS, recipe, INDICES, layer)
    for tables, others in ((fused.openings, expected.openings), (fused.scorings, expected.scorings)):
        assert sorted(tables) == sorted(others)
        for block, table in tables.items():
            torch.testing.assert_close(table.double(), others[block], rtol=2e-5, atol=2e-5)


REPLAYED = [{}, {"mutation": "element"}, {"smooth": "noise"}, {"start": "population"}, {"normalise_start": False}]


@pytest.mark.parametrize("reading", [*REPLAYED, {"crossover": "uniform"}, {"explorers": 0}], ids=str)
def test_the_calibration_images_repeat_the_search_of_them_together(reading: dict) -> None:
    """Replaying a trajectory on the images that it was recorded from, each by itself, is `batch` of all of them."""
    recipe = small.recipe(**reading)
    statistics, batch = _calibrated(recipe), replace(recipe, batch_norm="batch")
    together = search(NET, IMAGES, LABELS, batch, INDICES)
    for part in (slice(0, 5), slice(2, 3)):
        alone = search(NET, IMAGES[part], LABELS[part], recipe, INDICES[part], statistics)
        for name, target in alone.targets.items():
            torch.testing.assert_close(target, together.targets[name][part], rtol=0, atol=1e-10)
            torch.testing.assert_close(alone.history[name], together.history[name][part], rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_so_they_do_for_one_layer_alone(layer: int) -> None:
    recipe = small.recipe()
    alone = search_one_layer(NET, IMAGES, LABELS, recipe, INDICES, layer, _calibrated(recipe, layer))
    together = search_one_layer(NET, IMAGES, LABELS, replace(recipe, batch_norm="batch"), INDICES, layer)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-10)


@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("batch_norm", ["frozen", "frozen-unsmoothed"])
@pytest.mark.parametrize("reading", [{}, {"count_padding": False, "seed": 4}, {"smooth": "noise"}], ids=str)
def test_frozen_statistics_are_those_of_the_first_candidates(net: str, batch_norm: str, reading: dict) -> None:
    recipe = small.recipe(batch_norm=batch_norm, **reading)
    blur = (2, 1) if batch_norm == "frozen" and recipe.smooth == "child" else (0, 0)
    noisy = literal.noisy_inputs(IMAGES, recipe.seed, recipe.initial_noise)
    expected = literal.frozen(NETWORKS[net].network, noisy, blur, recipe.count_padding)
    _assert_equal(_calibrated(recipe, None, NETWORKS[net]), expected)
    _assert_equal(_calibrated(recipe, 1, NETWORKS[net]), expected)  # of any layer alone, too


@pytest.mark.parametrize("layer", [0, 1])
def test_on_the_frozen_candidates_each_batchnorm_gives_its_bias_as_mean_and_variance_1(
    layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the candidates that the statistics are of, smoothed and normalised; shown by what enters each GELU."""
    statistics = _calibrated(FROZEN)
    maps = smooth(NET.first_map(literal.noisy_inputs(IMAGES, 0, 0.3)[None], statistics.opening(0))[0], 2)
    if layer == 1:
        maps = smooth(NET.next_map(normalise(maps)[None], 0, statistics.opening(1))[0], 1)
    seen, gelu = [], torch.nn.functional.gelu
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda x: seen.append(x) or gelu(x))
    NET.logits(normalise(maps)[None], layer, statistics.scoring(layer, 0))
    norms = [norm for norm in NET.network.blocks[layer + 1 :].modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    assert len(seen) == len(norms) == 2 * (2 - layer)
    for x, norm in zip(seen, norms, strict=True):
        torch.testing.assert_close(x.mean((0, 2, 3)), norm.bias, rtol=0, atol=1e-9)
        torch.testing.assert_close(x.var((0, 2, 3), correction=0), torch.ones(6).double(), rtol=0, atol=1e-2)


def test_a_channel_that_is_blank_in_every_image_is_frozen_on_noise() -> None:
    """Without the noise its variance would be 0, and a candidate's divided by nearly nothing."""
    images = small.images(20)
    images[:, 1:] = 0.3 * images[:, :1]  # three channels with the same content: two blank directions
    net = initialise(Shape(3, small.SIZE, small.CLASSES, 6), images, 0)

    def smallest_variance(noise: float) -> float:
        recipe = small.recipe(batch_norm="frozen-unsmoothed", initial_noise=noise)
        statistics = calibrate(net, images, small.labels(20), recipe, torch.arange(20))
        return min(float(table[:, 1].min()) for table in statistics.openings.values())

    assert smallest_variance(0.3) > 1e-4 and smallest_variance(0.3) > smallest_variance(0.0)


@pytest.mark.parametrize("layer", [None, 1])
def test_a_few_candidates_at_a_time_give_the_same_statistics(
    layer: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _calibrated(small.recipe(), layer)
    monkeypatch.setattr(search_network, "CPU_CANDIDATES", 1)
    monkeypatch.setitem(search_network.PART_NUMBERS, "cpu", 1)
    monkeypatch.setitem(evolution.PART_NUMBERS, "cpu", 1)
    _assert_equal(_calibrated(small.recipe(), layer), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": small.recipe(batch_norm="batch")}, "'batch' has no statistics before its search"),
        ({"images": IMAGES[:, :1]}, r"images must be \[B, 3, 17, 17\] as the network's are"),
        ({"labels": LABELS[:2]}, "labels must be one int64 per image"),
        ({"layer": 3}, "layer must be from 0 to 2, not 3"),
        ({"layer": 3, "recipe": FROZEN}, "layer must be from 0 to 2, not 3"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    good = {"images": IMAGES, "labels": LABELS, "recipe": small.recipe(), "indices": INDICES}
    with pytest.raises(ValueError, match=message):
        calibrate(NET, **{**good, **change})
