"""The fused CPU path against the paper's pseudocode in double precision."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import wilcoxon

from repsearch import fused
from repsearch.errors import UserError
from repsearch.network import Shape
from repsearch.recipe import SEARCH_LAYERS, Layer
from repsearch.reference import Reference
from repsearch.search import Found, search, search_one_layer
from repsearch.search_network import initialise

from . import small
from .test_search import READINGS, _assert_equal

FUSED = [reading for reading in READINGS if reading.get("batch_norm") != "batch"]
FUSED += [
    {"parents": 1},
    {"parents": 1, "explorers": 0},
    {"noise": "element", "smooth": "noise"},
    {"noise": "element", "refine_from": "parents"},
]


@pytest.mark.parametrize("reading", FUSED, ids=str)
@pytest.mark.parametrize("size", [17, 28, 32])
def test_it_is_the_papers_pseudocode(reading: dict, size: int) -> None:
    """For every layer, on small maps, MNIST's (13, 6, 3) and CIFAR's (15, 7, 3)."""
    shape = Shape(channels=3, size=size, classes=small.CLASSES, width=20, head_bias=True)
    net, exact = (initialise(shape, small.images(20, size), 0, 20, small.NOISE) for _ in range(2))
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


@pytest.mark.parametrize("reading", [{}, {"noise": "element"}, {"smooth": "noise"}], ids=str)
def test_an_image_s_targets_do_not_depend_on_its_company_or_on_threads(reading: dict) -> None:
    net, images, labels = small.search_network(), small.images(9), small.labels(9)
    recipe = small.recipe(**reading)

    def run(which: list[int]) -> Found:
        members = torch.tensor(which)
        return search(net, images[members], labels[members], recipe, 100 + members, "fused")

    whole = run(list(range(9)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        parts = {tuple(which): run(which) for which in ([4], [8, 0], [3, 2, 1, 7])}
    finally:
        torch.set_num_threads(threads)
    for which, part in parts.items():
        for name in SEARCH_LAYERS:
            assert torch.equal(part.targets[name], whole.targets[name][list(which)]), name
            assert torch.equal(part.history[name], whole.history[name][list(which)]), name


@pytest.mark.parametrize("reading", [{}, {"noise": "element"}], ids=str)
def test_its_search_is_as_good_as_the_pseudocode_s(reading: dict) -> None:
    """Over 30 images, with other seeds: 3 for each path; paired Wilcoxon test of the final cross-entropies."""
    layers = (Layer(12, 0.3, 5.0, 2), Layer(6, 0.2, 3.0, 1), Layer(6, 0.1, 3.0, 1), Layer(3, 0.1, 1.0, 0))
    net, images, labels, indices = small.search_network(), small.images(30), small.labels(30), torch.arange(30)
    found, expected = [], []
    for seed in range(3):
        recipe = small.recipe(layers=layers, population=16, seed=seed, **reading)
        found.append(search(net, images, labels, recipe, indices, "fused").final)
        plain = replace(recipe, seed=1000 + seed)
        reference = Reference(net.network, net.statistics, labels, plain, indices)
        expected.append(reference.search(images)[1]["logits"][:, -1])
    ours, theirs = torch.stack(found).mean(0), torch.stack(expected).mean(0)
    assert wilcoxon(ours, theirs).pvalue > 0.01
    assert ours.mean() == pytest.approx(float(theirs.mean()), rel=0.1)


def test_one_layer_alone_is_the_same_on_both_paths() -> None:
    net, images, labels = small.search_network(), small.images(3), small.labels(3)
    for layer in range(3):
        fast, plain = (
            search_one_layer(net, images, labels, small.recipe(), torch.arange(3), layer, path)  # type: ignore[arg-type]
            for path in ("fused", "dense")
        )
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)


def test_the_path_is_chosen_by_what_it_can_do() -> None:
    plain, shaken, recipe = small.search_network(), small.shaken(small.search_network()), small.recipe()
    assert fused.choose(plain, recipe, "auto") is not None
    assert fused.choose(plain, recipe, "dense") is None
    assert fused.choose(shaken, recipe, "auto") is None
    assert fused.choose(plain, small.recipe(batch_norm="batch"), "auto") is None
    with pytest.raises(UserError, match="convolutions are not identities"):
        fused.choose(shaken, recipe, "fused")
    with pytest.raises(UserError, match="batch_norm: batch"):
        fused.choose(plain, small.recipe(batch_norm="batch"), "fused")
