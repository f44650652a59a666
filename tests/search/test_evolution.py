"""`search` against the literal pseudocode, and what must hold of any search."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from repsearch.search import evolution
from repsearch.search import operators as op
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import SearchResult, search, search_one_layer
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import SEARCH_LAYERS, Layer
from repsearch.search.reference import Reference
from tests import small

READINGS = [
    {},
    {"mutation": "element"},
    {"smooth": "noise"},
    {"smooth": "noise", "mutation": "element", "count_padding": False},
    {"batch_norm": "frozen"},
    {"batch_norm": "frozen-unsmoothed"},
    {"batch_norm": "frozen", "start": "population"},
    {"batch_norm": "batch"},
    {"batch_norm": "batch", "start": "population"},
    {"count_padding": False},
    {"crossover": "uniform"},
    {"refine_from": "parents"},
    {"start": "population"},
    {"normalise_start": False},
    {"normalise_start": False, "start": "population"},
    {"explorers": 0},
    {"explorers": 6},  # no refiners
    {"initial_noise": 0.7, "seed": 2**64 - 1},
]


@pytest.fixture(scope="module")
def net() -> SearchNetwork:
    return small.search_network()


@pytest.mark.parametrize("dense", [False, True], ids=["identities", "dense"])
@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_search_is_the_papers_pseudocode(reading: dict, dense: bool) -> None:
    net = small.search_network(head_bias=dense)
    net = (small.shaken(net) if dense else net).to("cpu", torch.float64)
    images, labels, indices = small.images(2).double(), torch.tensor([1, 3]), torch.tensor([7, 40_000])
    recipe = small.recipe(**reading)
    statistics = small.statistics(net, recipe)
    result = search(net, images, labels, recipe, indices, statistics)
    _assert_equal(result, Reference(net.network, statistics, labels, recipe, indices).search(images), 1e-9)


def _assert_equal(result: SearchResult, expected: tuple[dict, dict, Tensor], tolerance: float) -> None:
    targets, history, initial = expected
    assert list(result.targets) == list(result.history) == list(SEARCH_LAYERS)
    for name in SEARCH_LAYERS:
        torch.testing.assert_close(result.targets[name].double(), targets[name], rtol=0, atol=tolerance)
        torch.testing.assert_close(result.history[name].double(), history[name], rtol=0, atol=tolerance)
    torch.testing.assert_close(result.initial.double(), initial, rtol=0, atol=tolerance)
    torch.testing.assert_close(result.final.double(), history["logits"][:, -1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("reading", READINGS[1:], ids=str)
def test_each_reading_changes_the_targets(net: SearchNetwork, reading: dict) -> None:
    default, changed = (_run(net, [0, 1], r) for r in ({}, reading))
    assert not torch.allclose(default.targets["logits"], changed.targets["logits"])


def _run(net: SearchNetwork, which: list[int], reading: dict) -> SearchResult:
    members, recipe = torch.tensor(which), small.recipe(**reading)
    images, labels, statistics = small.images(9)[members], small.labels(9)[members], small.statistics(net, recipe)
    return search(net, images, labels, recipe, 100 + members, statistics)


INDEPENDENT = [
    {},
    {"mutation": "element"},
    {"smooth": "noise"},
    {"start": "population"},
    {"count_padding": False},
    {"batch_norm": "frozen"},
    {"batch_norm": "frozen-unsmoothed", "mutation": "element"},
]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    which=st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True),
    reading=st.sampled_from(INDEPENDENT),
    wide=st.booleans(),
)
def test_targets_do_not_depend_on_the_batch(which: list[int], reading: dict, wide: bool) -> None:
    """Design, §3: the same image gives the same target, bit by bit, in a batch of any size and order."""
    net = small.search_network(32 if wide else 5)
    together, part = _run(net, list(range(9)), reading), _run(net, which, reading)
    for name in SEARCH_LAYERS:
        assert torch.equal(part.targets[name], together.targets[name][which]), name
        assert torch.equal(part.history[name], together.history[name][which]), name
    assert torch.equal(part.initial, together.initial[which])


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen"])
@pytest.mark.parametrize("dense", [False, True], ids=["identities", "dense"])
def test_one_image_alone_is_searched_as_in_company(dense: bool, batch_norm: str) -> None:
    """A convolution may round differently if its batch is one map (the untouched image, the best candidate)."""
    net = small.search_network()
    net = small.shaken(net) if dense else net
    together = _run(net, list(range(9)), {"batch_norm": batch_norm})
    for which in range(9):
        part = _run(net, [which], {"batch_norm": batch_norm})
        for name in SEARCH_LAYERS:
            assert torch.equal(part.targets[name][0], together.targets[name][which]), name
        assert torch.equal(part.initial[0], together.initial[which]), "initial"


def test_batch_statistics_do_depend_on_the_batch(net: SearchNetwork) -> None:
    alone, together = _run(net, [0], {"batch_norm": "batch"}), _run(net, [0, 1], {"batch_norm": "batch"})
    assert not torch.equal(alone.targets["block0"][0], together.targets["block0"][0])


@pytest.mark.parametrize("reading", [*INDEPENDENT, {"batch_norm": "batch"}], ids=str)
def test_a_few_images_at_a_time_give_the_same_targets(reading: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    net = small.shaken(small.search_network())
    before = _run(net, [0, 1, 2], reading)
    monkeypatch.setitem(evolution.PART_NUMBERS, "cpu", 1)
    after = _run(net, [0, 1, 2], reading)
    for name in SEARCH_LAYERS:
        assert torch.equal(after.targets[name], before.targets[name]), name
        assert torch.equal(after.history[name], before.history[name]), name
    assert torch.equal(after.initial, before.initial)


@pytest.mark.parametrize("change", [{"seed": 1}, {"index": 1}])
def test_seed_and_index_choose_the_random_numbers(net: SearchNetwork, change: dict) -> None:
    images, labels, statistics = small.images(1), torch.tensor([2]), small.statistics(net, small.recipe())
    default = search(net, images, labels, small.recipe(), torch.tensor([0]), statistics)
    recipe, indices = small.recipe(seed=change.get("seed", 0)), torch.tensor([change.get("index", 0)])
    changed = search(net, images, labels, recipe, indices, statistics)
    assert not torch.equal(default.targets["block0"], changed.targets["block0"])


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_history_never_rises_where_the_statistics_stay(net: SearchNetwork, reading: dict) -> None:
    """Parents are retained, with their loss. Where their statistics change (R3), so does their loss."""
    result, recipe = _run(net, [0, 1, 2], reading), small.recipe(**reading)
    for layer, name in enumerate(SEARCH_LAYERS):
        assert result.history[name].shape == (3, recipe.layers[layer].generations + 1)
        if layer >= 2 or not recipe.reevaluates:  # no BatchNorm comes after block 2
            assert (result.history[name].diff(dim=1) <= 0).all(), name
    assert (result.final < result.initial).all()


@pytest.mark.parametrize("dense", [False, True], ids=["identities", "dense"])
@pytest.mark.parametrize("reading", [*INDEPENDENT, {"batch_norm": "batch"}], ids=str)
def test_each_generation_is_scored_by_its_own_statistics(
    reading: dict, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parents included: history is the least loss of the whole population with that generation's statistics."""
    net = small.search_network()
    net = (small.shaken(net) if dense else net).to("cpu", torch.float64)
    images, labels, recipe = small.images(4).double(), small.labels(4), small.recipe(**reading)
    populations: list[tuple[Tensor, Tensor]] = []
    select = op.select
    monkeypatch.setattr(op, "select", lambda *given: populations.append(given[:2]) or select(*given))
    statistics = small.statistics(net, recipe)
    populations.clear()
    history = search(net, images, labels, recipe, torch.arange(4), statistics, "dense").history
    selected = iter(populations)
    for layer, name in enumerate(SEARCH_LAYERS[:3]):
        for generation in range(recipe.layers[layer].generations + 1):
            population, loss = next(selected)
            assert generation == 0 or population.shape[1] == recipe.population
            moments = statistics.scoring(layer, generation) if statistics else []
            logits = net.logits(population, layer, moments)
            expected = -logits.log_softmax(-1)[torch.arange(4), :, labels]
            torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
            torch.testing.assert_close(history[name][:, generation], expected.min(1).values, rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen"])
def test_the_kept_targets_have_the_loss_that_history_ends_with(net: SearchNetwork, batch_norm: str) -> None:
    result, recipe = _run(net, [0, 1, 2], {"batch_norm": batch_norm}), small.recipe(batch_norm=batch_norm)
    statistics = small.statistics(net, recipe)
    assert statistics is not None
    torch.testing.assert_close(result.final, cross_entropy(result.targets["logits"], small.labels(3), reduction="none"))
    for layer, name in enumerate(SEARCH_LAYERS[:3]):
        last = statistics.scoring(layer, recipe.layers[layer].generations)
        logits = net.logits(result.targets[name][:, None], layer, last)[:, 0]
        loss = cross_entropy(logits, small.labels(3), reduction="none")
        torch.testing.assert_close(result.history[name][:, -1], loss)


def test_targets_have_the_paper_s_form(net: SearchNetwork) -> None:
    targets = _run(net, [0, 1, 2], {}).targets
    for name, shape in net.shape.layer_shapes.items():
        assert targets[name].shape == (3, *shape)
    for name in SEARCH_LAYERS[:3]:
        torch.testing.assert_close(targets[name].mean((1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
        torch.testing.assert_close(targets[name].var((1, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen"])
def test_without_children_or_generations_the_best_of_the_start_is_kept(net: SearchNetwork, batch_norm: str) -> None:
    none = tuple(replace(layer, generations=0) for layer in small.recipe().layers)
    started = _run(net, [0, 1], {"layers": none, "batch_norm": batch_norm})
    childless = _run(net, [0, 1], {"parents": 8, "explorers": 0, "batch_norm": batch_norm})
    assert started.history["block0"].shape == (2, 1)
    for name in SEARCH_LAYERS:  # a trajectory's rows differ by the rounding of sums in another order
        tolerance = 0 if batch_norm == "frozen" else 1e-5
        torch.testing.assert_close(started.targets[name], childless.targets[name], rtol=0, atol=tolerance)


def _one_layer(net: SearchNetwork, layer: int, **changes: Any) -> Tensor:
    recipe = small.recipe(**changes)
    statistics = small.statistics(net, recipe, layer)
    return search_one_layer(net, small.images(3), small.labels(3), recipe, torch.arange(3), layer, statistics)


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen", "batch"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_one_layer_runs_hold_their_shorter_runs(net: SearchNetwork, layer: int, batch_norm: str) -> None:
    def run(generations: int) -> Tensor:
        return _one_layer(net, layer, layers=(Layer(generations, 0.3, 5.0, 2),) * 4, batch_norm=batch_norm)

    longest = run(4)
    assert longest.shape == (3, 5)
    assert batch_norm != "frozen" or (longest.diff(dim=1) <= 0).all()
    assert longest[:, -1].mean() < longest[:, 0].mean()
    for generations in range(4):
        assert torch.equal(run(generations), longest[:, : generations + 1])


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen", "batch"])
def test_one_layer_at_block_0_is_the_search_s_first_layer(net: SearchNetwork, batch_norm: str) -> None:
    recipe = small.recipe(batch_norm=batch_norm)
    statistics = small.statistics(net, recipe)  # of the whole search
    result = search(net, small.images(3), small.labels(3), recipe, torch.arange(3), statistics)
    assert torch.equal(_one_layer(net, 0, batch_norm=batch_norm), result.history["block0"])


def test_a_larger_population_s_start_holds_the_smaller_s(net: SearchNetwork) -> None:
    """So that figure 2's curves over the population share their candidates: the start can only be better.

    Scored by the same statistics, that is: a trajectory's first row is of as many candidates as there are.
    """
    starts = [_one_layer(net, 1, population=n, batch_norm="frozen")[:, 0] for n in (6, 12, 24)]
    assert (starts[0] >= starts[1]).all() and (starts[1] >= starts[2]).all()


def test_select_is_by_image_best_first_with_earlier_ties_first() -> None:
    population = torch.arange(8.0).reshape(2, 4, 1)
    loss = torch.tensor([[3.0, 1.0, 1.0, 2.0], [0.0, 5.0, -1.0, 4.0]])
    chosen, best_loss = op.select(population, loss, 3)
    assert chosen[..., 0].tolist() == [[1.0, 2.0, 3.0], [6.0, 4.0, 7.0]]
    assert best_loss.tolist() == [[1.0, 1.0, 2.0], [-1.0, 0.0, 4.0]]


def test_select_repeats_a_population_that_is_too_small() -> None:
    chosen, best_loss = op.select(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[0.5, 0.1]]), 5)
    assert chosen[0, :, 0].tolist() == [2.0, 1.0, 2.0, 1.0, 2.0]
    torch.testing.assert_close(best_loss, torch.tensor([[0.1, 0.5, 0.1, 0.5, 0.1]]))


def test_search_leaves_no_gradient_and_no_global_state(net: SearchNetwork) -> None:
    before = torch.random.get_rng_state()
    weights = {name: value.clone() for name, value in net.network.state_dict().items()}
    result = _run(net, [0], {})
    assert not any(target.requires_grad for target in result.targets.values())
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(value, weights[name]) for name, value in net.network.state_dict().items())


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen", "batch"])
def test_runs_are_searches_of_their_own_with_the_same_statistics(net: SearchNetwork, batch_norm: str) -> None:
    """Run 0 is the search of one run; the others are those of other seeds, and differ."""
    images, labels, indices = small.images(3), small.labels(3), torch.arange(3)
    recipe = small.recipe(batch_norm=batch_norm, seed=5)
    statistics = small.statistics(net, recipe)
    together = search(net, images, labels, replace(recipe, runs=3), indices, statistics)
    apart = [
        search(net, images, labels, replace(recipe, seed=5 + run * 2**32), indices, statistics) for run in range(3)
    ]
    for layer in SEARCH_LAYERS:
        assert torch.equal(together.targets[layer], torch.stack([run.targets[layer] for run in apart], 1))
        assert torch.equal(together.history[layer], torch.stack([run.history[layer] for run in apart], 1))
        assert not torch.equal(apart[0].targets[layer], apart[1].targets[layer])
    assert torch.equal(together.final, together.history["logits"][:, :, -1])
    assert torch.equal(together.initial, apart[0].initial)


@pytest.mark.parametrize("path", ["fused", "dense"])
def test_progress_is_reported(net: SearchNetwork, path: SearchPath) -> None:
    """After every generation (there are 3, 2, 2 and 2) on the dense path, after a block's last on the fused one."""
    reported: list[tuple[str, int, int]] = []
    images, labels, recipe = small.images(2), small.labels(2), small.recipe(batch_norm="frozen")
    statistics = small.statistics(net, recipe)
    search(net, images, labels, recipe, torch.arange(2), statistics, path, lambda *given: reported.append(given))
    every = [
        (name, generation, layer.generations)
        for name, layer in zip(SEARCH_LAYERS, recipe.layers, strict=True)
        for generation in range(1, layer.generations + 1)
    ]
    assert reported == [(*x,) for x in every if path == "dense" or x[0] == "logits" or x[1] == x[2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": small.images(2, 18)},
            r"images must be \[B, 3, 17, 17\] as .* not \[2, 3, 18, 18\]",
        ),
        ({"images": small.images(2)[:, :1]}, r"images must be .* not \[2, 1, 17, 17\]"),
        ({"images": small.images(2)[0]}, r"images must be .* not \[3, 17, 17\]"),
        ({"images": small.images(0), "labels": torch.arange(0), "indices": torch.arange(0)}, "images must be .* B ≥ 1"),
        ({"images": small.images(2).double()}, "images must be torch.float32"),
        ({"images": small.images(2).to("meta")}, "images must be on the network's device, cpu, not on meta"),
        ({"labels": torch.arange(3)}, r"labels must be one int64 per image, \[2\], not \[3\] torch.int64"),
        ({"labels": torch.arange(2.0)}, r"labels must be one int64 per image, \[2\], not \[2\] torch.float32"),
        ({"labels": torch.tensor([0, 4])}, "labels must be from 0 to 3, not 4"),
        ({"labels": torch.tensor([-1, 3])}, "labels must be from 0 to 3, not -1"),
        ({"indices": torch.arange(1)}, "indices must be one int64 per image"),
        ({"indices": torch.tensor([0, 2**32])}, "indices must be from 0 to 4294967295, not 4294967296"),
        ({"path": "turbo"}, "path must be 'auto', 'dense', 'fused', not 'turbo'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(net: SearchNetwork, change: dict, message: str) -> None:
    good = {"images": small.images(2), "labels": small.labels(2), "indices": torch.arange(2), "recipe": small.recipe()}
    good["statistics"] = small.statistics(net, good["recipe"])
    search(net, **good)
    with pytest.raises(ValueError, match=message):
        search(net, **{**good, **change})
    with pytest.raises(ValueError, match=message):
        search_one_layer(net, **{**good, **change}, layer=0)
    with pytest.raises(ValueError, match="layer must be from 0 to 2, not 3"):
        search_one_layer(net, **good, layer=3)
