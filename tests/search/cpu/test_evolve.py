"""The fused CPU path against the paper's pseudocode in double precision."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from repsearch.network import Shape
from repsearch.search.cpu.evolve import evolve
from repsearch.search.evolution import SearchResult, search, search_one_layer
from repsearch.search.network import SearchNetwork, Tail, initialise
from repsearch.search.recipe import SEARCH_LAYERS, Layer, Recipe
from repsearch.search.reference import Reference
from repsearch.search.statistics import Statistics
from tests import small
from tests.search.test_evolution import READINGS, _assert_equal

FUSED = [reading for reading in READINGS if reading.get("batch_norm") != "batch" and "crossover" not in reading]
FUSED += [
    {"parents": 1},
    {"parents": 1, "explorers": 0},
    {"mutation": "element", "smooth": "noise"},
    {"mutation": "element", "refine_from": "parents"},
    {"population": 24, "parents": 6, "explorers": 8, "start": "population"},
    {"population": 24, "parents": 6, "explorers": 8, "start": "population", "mutation": "element"},
    {"population": 6, "parents": 6, "explorers": 0, "start": "population"},  # parents alone: scored again, and sorted
    {"population": 6, "parents": 6, "explorers": 0, "start": "population", "mutation": "element"},
    {"batch_norm": "frozen"},
    {"batch_norm": "frozen", "mutation": "element"},
]


def networks(size: int, width: int, classes: int = small.CLASSES) -> tuple[SearchNetwork, SearchNetwork]:
    """The same one in single and in double precision."""
    shape = Shape(channels=3, size=size, classes=classes, width=width, head_bias=True)
    net, exact = (initialise(shape, small.images(20, size), 0) for _ in range(2))
    return net, exact.to("cpu", torch.float64)


def changing(statistics: Statistics) -> Statistics:
    """BatchNorms that differ so much from one generation to the next that other parents are the best."""
    generator = torch.Generator().manual_seed(3)

    def change(rows: torch.Tensor) -> torch.Tensor:
        mean, variance = rows.unbind(-2)
        shift, factor = torch.randn(2, *mean.shape, generator=generator, dtype=rows.dtype)
        return torch.stack([mean + shift * variance.sqrt(), variance * factor.exp()], -2)

    return replace(statistics, scorings={layer: change(rows) for layer, rows in statistics.scorings.items()})


@pytest.mark.parametrize("reading", FUSED, ids=str)
@pytest.mark.parametrize(("size", "width"), [(17, 5), (28, 20), (32, 20), (17, 64), (28, 70)])
def test_it_is_the_papers_pseudocode(reading: dict, size: int, width: int) -> None:
    """For every layer; small maps, MNIST's (13, 6, 3) and CIFAR's (15, 7, 3); narrow maps and wide ones."""
    agrees(*networks(size, width), small.recipe(**reading))


@pytest.mark.parametrize("reading", [{}, {"mutation": "element"}, {"smooth": "noise"}, {"parents": 5}], ids=str)
def test_a_hundred_classes(reading: dict) -> None:
    agrees(*networks(28, 20, 100), small.recipe(**reading))


def agrees(net: SearchNetwork, exact: SearchNetwork, recipe: Recipe) -> None:
    """Asserts that the fused path finds what the pseudocode does, with statistics that change, if they may."""
    statistics = small.statistics(exact, recipe)
    assert statistics is not None
    if recipe.reevaluates:
        statistics = changing(statistics)
    images, labels, indices = small.images(2, net.shape.size), torch.tensor([1, 3]), torch.tensor([7, 40_000])
    expected = Reference(exact.network, statistics, labels, recipe, indices).search(images.double())
    single = statistics.to("cpu", torch.float32)
    _assert_equal(search(net, images, labels, recipe, indices, single, "fused"), expected, 2e-5)


@pytest.mark.parametrize("reading", [{}, {"mutation": "element"}, {"smooth": "noise"}], ids=str)
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("wrong", ["another generation's statistics", "parents that keep their losses"])
def test_each_generation_scores_parents_and_children_by_its_own_statistics(
    reading: dict, layer: int, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That such a mistake would show in the comparisons with the pseudocode: for most images, in the history."""
    (net, _), recipe = networks(17, 20), small.recipe(**reading)
    statistics = small.statistics(net, recipe, layer)
    assert statistics is not None
    statistics, images, labels = changing(statistics), small.images(4), small.labels(4)

    def run() -> torch.Tensor:
        return search_one_layer(net, images, labels, recipe, torch.arange(4), layer, statistics, "fused")

    right, tail = run(), SearchNetwork.tail

    def mistaken(*args: Any) -> Tail:
        made = tail(*args)
        assert made.reevaluate and len(made.norms) == recipe.layers[layer].generations
        return made._replace(reevaluate=False) if "parents" in wrong else made._replace(norms=made.norms.roll(1, 0))

    monkeypatch.setattr(SearchNetwork, "tail", mistaken)
    assert ((run() - right).abs().amax(1) > 1e-3).sum() >= 3


@pytest.mark.parametrize("change", [{"blur": 0}, {"alpha": 0.0}, {"generations": 1}, {"generations": 0}], ids=str)
@pytest.mark.parametrize("mutation", ["channel", "element"])
def test_layers_at_their_limits(change: dict, mutation: str) -> None:
    *blocks, logits = small.recipe().layers
    recipe = small.recipe(layers=(*(replace(layer, **change) for layer in blocks), logits), mutation=mutation)
    agrees(*networks(17, 6), recipe)


@pytest.mark.parametrize("reading", [{}, {"mutation": "element"}, {"smooth": "noise"}], ids=str)
def test_an_image_s_targets_do_not_depend_on_its_company_or_on_threads(reading: dict) -> None:
    net, images, labels = small.search_network(), small.images(9), small.labels(9)
    recipe = small.recipe(**reading)
    statistics = small.statistics(net, recipe)

    def run(which: list[int]) -> SearchResult:
        members = torch.tensor(which)
        return search(net, images[members], labels[members], recipe, 100 + members, statistics, "fused")

    together = run(list(range(9)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        parts = {tuple(which): run(which) for which in ([4], [8, 0], [3, 2, 1, 7])}
    finally:
        torch.set_num_threads(threads)
    for which, part in parts.items():
        for name in SEARCH_LAYERS:
            assert torch.equal(part.targets[name], together.targets[name][list(which)]), name
            assert torch.equal(part.history[name], together.history[name][list(which)]), name


@pytest.mark.parametrize("reading", [{}, {"mutation": "element"}], ids=str)
def test_its_search_is_as_good_as_the_pseudocode_s(reading: dict) -> None:
    """Over 30 images, with other seeds: 3 for each path; paired Wilcoxon test of the final cross-entropies."""
    layers = (Layer(12, 0.3, 5.0, 2), Layer(6, 0.2, 3.0, 1), Layer(6, 0.1, 3.0, 1), Layer(3, 0.1, 1.0, 0))
    net, images, labels, indices = small.search_network(), small.images(30), small.labels(30), torch.arange(30)
    fused, expected = [], []
    for seed in range(3):
        recipe = small.recipe(layers=layers, population=16, seed=seed, **reading)
        statistics = small.statistics(net, recipe)
        fused.append(search(net, images, labels, recipe, indices, statistics, "fused").final)
        other_seed = replace(recipe, seed=1000 + seed)
        reference = Reference(net.network, statistics, labels, other_seed, indices)
        expected.append(reference.search(images)[1]["logits"][:, -1])
    losses, expected_losses = torch.stack(fused).mean(0), torch.stack(expected).mean(0)
    assert wilcoxon(losses, expected_losses).pvalue > 0.01
    assert losses.mean() == pytest.approx(float(expected_losses.mean()), rel=0.1)


SHAPES = st.tuples(st.integers(9, 36), st.sampled_from([1, 3, 15, 16, 17, 63, 64, 65]), st.integers(2, 7))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=SHAPES,
    parts=st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 4)),
    blur=st.integers(0, 40),
    mutation=st.sampled_from(["channel", "element"]),
    smooth=st.sampled_from(["child", "noise"]),
    count_padding=st.booleans(),
    refine_from=st.sampled_from(["parents+explorers", "parents"]),
    batch_norm=st.sampled_from(["trajectory", "frozen"]),
)
def test_any_shape_and_recipe_is_the_same_on_both_paths(shape: tuple, parts: tuple, blur: int, **readings: Any) -> None:
    """Each layer alone, from 1 × 1 maps up, with and without explorers, refiners and children."""
    size, width, classes = shape
    parents, explorers, refiners = parts
    recipe = Recipe(
        layers=(Layer(2, 0.3, 3.0, blur),) * 4,  # type: ignore[arg-type]
        population=parents + explorers + refiners,
        parents=parents,
        explorers=explorers,
        **readings,
    )
    net, exact = (initialise(Shape(1, size, classes, width), small.images(8, size, 1), 0) for _ in range(2))
    exact.to("cpu", torch.float64)
    images, labels = small.images(2, size, 1), torch.arange(2) % classes
    for layer in range(3):
        statistics = small.statistics(exact, recipe, layer)
        assert statistics is not None
        single = statistics.to("cpu", torch.float32)
        fused = search_one_layer(net, images, labels, recipe, torch.arange(2), layer, single, "fused")
        dense = search_one_layer(exact, images.double(), labels, recipe, torch.arange(2), layer, statistics, "dense")
        torch.testing.assert_close(fused.double(), dense, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen"])
def test_children_that_are_not_finite_are_never_selected(bad: float, layer: int, batch_norm: str) -> None:
    """Those of a parent with one such number; the best parent is sound and stays until a sound child is better."""
    net, recipe = small.search_network(), small.recipe(mutation="element", batch_norm=batch_norm)
    shape = net.shape.layer_shapes[SEARCH_LAYERS[layer]]
    parents = torch.randn(1, recipe.parents, *shape)
    parents[0, -1, 2, 0, 0] = bad
    loss = torch.full((1, recipe.parents), 9.0)
    loss[0, -1] = 9.0 if math.isfinite(bad) else math.nan
    labels, indices = torch.tensor([1]), torch.tensor([7])
    best, history = evolve(tail_of(net, recipe, layer), labels, recipe, indices, layer, parents, loss)
    assert best.isfinite().all() and history.isfinite().all() and (history <= 9).all()


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen"])
def test_a_network_that_is_not_finite_makes_no_child_better(batch_norm: str) -> None:
    """Parents that are scored again have no losses by it either."""
    net, recipe = small.search_network(), small.recipe(mutation="element", batch_norm=batch_norm)
    tail = tail_of(net, recipe, 0)
    tail.norms[0, 0, 1, 1, 3] = math.nan
    parents = torch.randn(1, recipe.parents, *net.shape.layer_shapes["block0"])
    loss = torch.full((1, recipe.parents), 9.0)
    best, history = evolve(tail, torch.tensor([1]), recipe, torch.tensor([7]), 0, parents, loss)
    assert torch.equal(best[0], parents[0, 0])
    assert history.isnan().all() if recipe.reevaluates else (history == 9).all()


def tail_of(net: SearchNetwork, recipe: Recipe, layer: int) -> Tail:
    statistics = small.statistics(net, recipe, layer)
    assert statistics is not None
    return net.tail(layer, statistics.generations(layer), recipe.reevaluates and layer < 2)
