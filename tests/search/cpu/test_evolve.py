"""The fused CPU path against the paper's pseudocode in double precision."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from repsearch.network import Shape
from repsearch.search.evolution import SearchResult, search, search_one_layer
from repsearch.search.recipe import SEARCH_LAYERS, Layer, Recipe
from repsearch.search.reference import Reference
from repsearch.search.statistics import initialise
from tests import small
from tests.search.test_evolution import READINGS, _assert_equal

FUSED = [reading for reading in READINGS if reading.get("batch_norm") != "batch" and "crossover" not in reading]
FUSED += [
    {"parents": 1},
    {"parents": 1, "explorers": 0},
    {"mutation": "element", "smooth": "noise"},
    {"mutation": "element", "refine_from": "parents"},
]


@pytest.mark.parametrize("reading", FUSED, ids=str)
@pytest.mark.parametrize(("size", "width"), [(17, 5), (28, 20), (32, 20), (17, 64), (28, 70)])
def test_it_is_the_papers_pseudocode(reading: dict, size: int, width: int) -> None:
    """For every layer; small maps, MNIST's (13, 6, 3) and CIFAR's (15, 7, 3); narrow maps and wide ones."""
    shape = Shape(channels=3, size=size, classes=small.CLASSES, width=width, head_bias=True)
    net, exact = (initialise(shape, small.images(20, size), 0, small.UNSMOOTHED) for _ in range(2))
    exact.to("cpu", torch.float64)
    images, labels, indices = small.images(2, size), torch.tensor([1, 3]), torch.tensor([7, 40_000])
    recipe = small.recipe(**reading)
    expected = Reference(exact.network, exact.statistics, labels, recipe, indices).search(images.double())
    _assert_equal(search(net, images, labels, recipe, indices, "fused"), expected, 2e-5)


@pytest.mark.parametrize("change", [{"blur": 0}, {"alpha": 0.0}, {"generations": 1}, {"generations": 0}], ids=str)
def test_layers_at_their_limits(change: dict) -> None:
    *blocks, logits = small.recipe().layers
    recipe = small.recipe(layers=(*(replace(layer, **change) for layer in blocks), logits))
    net, exact = small.search_network(), small.search_network().to("cpu", torch.float64)
    images, labels, indices = small.images(2), torch.tensor([1, 3]), torch.arange(2)
    expected = Reference(exact.network, exact.statistics, labels, recipe, indices).search(images.double())
    _assert_equal(search(net, images, labels, recipe, indices, "fused"), expected, 2e-5)


@pytest.mark.parametrize("reading", [{}, {"mutation": "element"}, {"smooth": "noise"}], ids=str)
def test_an_image_s_targets_do_not_depend_on_its_company_or_on_threads(reading: dict) -> None:
    net, images, labels = small.search_network(), small.images(9), small.labels(9)
    recipe = small.recipe(**reading)

    def run(which: list[int]) -> SearchResult:
        members = torch.tensor(which)
        return search(net, images[members], labels[members], recipe, 100 + members, "fused")

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
        fused.append(search(net, images, labels, recipe, indices, "fused").final)
        other_seed = replace(recipe, seed=1000 + seed)
        reference = Reference(net.network, net.statistics, labels, other_seed, indices)
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
    net, exact = (
        initialise(Shape(1, size, classes, width), small.images(8, size, 1), 0, small.UNSMOOTHED) for _ in range(2)
    )
    exact.to("cpu", torch.float64)
    images, labels = small.images(2, size, 1), torch.arange(2) % classes
    for layer in range(3):
        fused = search_one_layer(net, images, labels, recipe, torch.arange(2), layer, "fused")
        dense = search_one_layer(exact, images.double(), labels, recipe, torch.arange(2), layer, "dense")
        torch.testing.assert_close(fused.double(), dense, rtol=0, atol=1e-4)
