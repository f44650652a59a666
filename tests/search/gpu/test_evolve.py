"""The Triton path against the dense one in double precision, in Triton's interpreter; its generations in a CUDA graph.

`test_in_the_interpreter` starts the others. By hand: TRITON_INTERPRET=1 pytest tests/search/gpu/test_evolve.py
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from repsearch.network import Shape
from repsearch.search.evolution import Evolution
from repsearch.search.network import SearchNetwork, initialise
from repsearch.search.randomness import philox
from repsearch.search.recipe import BLOCKS, Layer, Recipe
from repsearch.search.reference import Reference
from repsearch.search.statistics import Recorder, Statistics
from tests import small
from tests.search.gpu.arguments import empty
from tests.triton_without_gpu import INTERPRETED, interpreted

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")
if INTERPRETED and find_spec("triton"):
    import triton
    import triton.language as tl
    from triton.language.random import philox_impl

    from repsearch.search.gpu import channel, channel_kernels, element, element_kernels
    from repsearch.search.gpu import evolve as evolve_gpu


class Started(NamedTuple):
    """The arguments of `evolve`, and what the dense path makes of them in double precision."""

    arguments: tuple[Any, ...]
    best: Tensor
    history: Tensor
    statistics: Statistics
    opened: tuple[Tensor, Tensor]  # parents and their loss, in double precision


def network(size: int = small.SIZE, width: int = 6, channels: int = 3) -> SearchNetwork:
    shape = Shape(channels=channels, size=size, classes=small.CLASSES, width=width, head_bias=True)
    return initialise(shape, small.images(20, size, channels), 0)


def started(
    net: SearchNetwork,
    recipe: Recipe,
    layer: int,
    which: tuple[int, ...] = (0, 1),
    changed: Callable[[Statistics, int], Statistics] = lambda statistics, layer: statistics,
) -> Started:
    net.to("cpu", torch.float64)
    statistics = changed(small.statistics(net, recipe, layer), layer)
    members = torch.tensor(which)
    labels, indices = (3 * members + 1) % small.CLASSES, 7 + 40_000 * members
    images = small.images(4, net.shape.size, net.shape.channels)[members].double()
    evolution = Evolution(net, labels, recipe, indices, statistics, "dense")
    with torch.no_grad():
        parents, loss = evolution.open(images, layer)
    best, history = evolution.generations(parents, loss, layer)
    tail = net.tail(layer, statistics.generations(layer), recipe.reevaluates and layer < 2)
    arguments = (tail, labels, recipe, indices, layer, parents.float(), loss.float())
    return Started(arguments, best, history, statistics, (parents, loss))


def shaken(statistics: Statistics, layer: int) -> Statistics:
    """So different from generation to generation that parents overtake each other."""
    moments, generator = statistics.scorings[layer], torch.Generator().manual_seed(4)
    mean, variance = moments.unbind(2)
    first, second = torch.randn(2, *mean.shape, generator=generator, dtype=mean.dtype)
    moments = torch.stack([mean + first * variance.sqrt(), variance * (0.7 * second).exp()], 2)
    return Statistics(statistics.openings, {layer: moments})


def check(case: Started, dtype: torch.dtype | None = torch.float32, maps: float = 2e-5, losses: float = 2e-6) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(element, "MATES_DTYPE", dtype)
        patch.setattr(channel, "MAPS_DTYPE", dtype or channel.MAPS_DTYPE)
        best, history = evolve_gpu.evolve(*case.arguments)
    assert best.dtype == history.dtype == torch.float32
    torch.testing.assert_close(best.double(), case.best, rtol=0, atol=maps)
    torch.testing.assert_close(history.double(), case.history, rtol=0, atol=losses)


READINGS = [
    {},
    {"mutation": "element"},
    {"batch_norm": "frozen"},
    {"batch_norm": "frozen", "mutation": "element"},
    {"smooth": "noise"},
    {"smooth": "noise", "mutation": "element", "count_padding": False},
    {"count_padding": False, "refine_from": "parents"},
    {"mutation": "element", "explorers": 0},
    {"explorers": 6, "seed": 2**64 - 1},  # no refiners
    {"parents": 1, "explorers": 1, "population": 3},
]


class TestInterpreted:
    __test__ = INTERPRETED

    @pytest.mark.parametrize(
        ("layer", "reading"),
        [(0, each) for each in READINGS]
        + [(n, each) for n in (1, 2) for each in READINGS[:4]]
        + [pytest.param(n, each, marks=pytest.mark.slow) for n in (1, 2) for each in READINGS[4:]],
    )
    def test_generations_are_the_dense_path_s(self, layer: int, reading: dict) -> None:
        """Every reading in block 0; in the later ones those that take other kernels there, the others as slow tests."""
        layers = tuple(replace(layer, generations=2) for layer in small.recipe().layers)
        check(started(network(), small.recipe(layers=layers, **reading), layer, (0,)))

    @pytest.mark.parametrize("layer", [0, 1])
    @pytest.mark.parametrize("noise", ["channel", "element"])
    def test_parents_are_scored_anew_with_the_statistics_of_every_generation(self, noise: str, layer: int) -> None:
        """As in the reference. What a mistake would change is far above the tolerance."""
        layers, seed = (Layer(3, 0.05, 1.0, 0),) * 4, {"channel": (0, 8), "element": (3, 7)}[noise][layer]
        recipe = small.recipe(layers=layers, mutation=noise, population=6, parents=4, explorers=1, seed=seed)
        net = network()
        case = started(net, recipe, layer, (0, 1), shaken)
        tail, labels, _, indices, *_ = case.arguments
        reference = Reference(net.network, case.statistics, labels, recipe, indices)
        (population, loss), history = case.opened, []
        with torch.no_grad():
            for generation in (1, 2, 3):
                population, loss = reference.generation(population, loss, layer, generation)
                history.append(loss.min(1).values)
        which = loss.argmin(1)
        assert ((which > 0) & (which < 4)).any()  # a child of the first two, which was not the best, becomes it
        case = case._replace(best=population[torch.arange(2), which], history=torch.stack(history, 1))
        check(case, losses=1e-5)  # of losses up to 7
        for mistake in [tail._replace(reevaluate=False), tail._replace(norms=tail.norms.flip(0))] if layer else []:
            wrong = evolve_gpu.evolve(mistake, *case.arguments[1:])[1]
            assert ((wrong - case.history).abs().amax(1) > 1e-2).all()

    @pytest.mark.parametrize(
        ("layer", "size", "reading"),
        [(0, 15, {}), (0, 13, {"smooth": "noise"}), (1, small.SIZE, {"explorers": 0}), (2, small.SIZE, {})],
    )
    def test_statistics_are_recorded_as_on_the_dense_path(self, layer: int, size: int, reading: dict) -> None:
        """Of sides 7 and 6, some windows of which reach no head; block 2, after which there is no BatchNorm."""
        recipe, net, members = small.recipe(**reading), network(size), torch.arange(3)
        found = []
        for dtype in (torch.float64, torch.float32):
            net.to("cpu", dtype)
            recorder = Recorder()
            evolution = Evolution(net, members + 1, recipe, 7 + 40_000 * members, recorder, "dense")
            evolution.fused = evolve_gpu.evolve if dtype == torch.float32 else None
            with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
                patch.setattr(channel, "MAPS_DTYPE", torch.float32)
                opened = evolution.open(small.images(3, size).to(dtype), layer)
                best, history = evolution.evolve(*opened, layer)
            found.append((best.float(), history.float(), recorder.statistics().to("cpu").scorings[layer]))
        generations = recipe.layers[layer].generations + 1
        assert found[1][2].shape == (generations, 2 * (2 - layer), 2, 6)
        for expected, fused in zip(*found, strict=True):
            torch.testing.assert_close(fused, expected, rtol=2e-5, atol=2e-5)

    @pytest.mark.parametrize("noise", ["channel", "element"])
    def test_a_single_generation_of_parents_alone(self, noise: str) -> None:
        """One row of statistics, which is not the one that the parents were selected by."""
        recipe = small.recipe(layers=(Layer(1, 0.3, 3.0, 1),) * 4, mutation=noise, population=5, parents=5, explorers=0)
        case = started(network(), recipe, 0, (0, 1), shaken)
        assert len(case.arguments[0].norms) == 1 and ((case.history[:, 0] - case.opened[1][:, 0]).abs() > 1e-3).all()
        check(case, losses=1e-5)

    @pytest.mark.parametrize("layer", [0, 1, 2])
    @pytest.mark.parametrize(("size", "width", "channels"), [(28, 20, 1), (32, 6, 3), (9, 70, 3)])
    def test_any_side_and_width(self, size: int, width: int, channels: int, layer: int) -> None:
        """MNIST's sides 13, 6, 3, CIFAR's 15, 7, 3, the least, 4, 2, 1; widths of more than one tile of either kind."""
        layers = tuple(replace(layer, generations=1) for layer in small.recipe().layers)
        for noise in ("channel", "element"):
            recipe = small.recipe(layers=layers, mutation=noise, population=5, explorers=1)
            check(started(network(size, width, channels), recipe, layer, (0,)))

    @pytest.mark.parametrize("noise", ["channel", "element"])
    @pytest.mark.parametrize("alpha", [0.0, 0.3])
    def test_without_smoothing_or_mutation(self, noise: str, alpha: float) -> None:
        layers = (Layer(2, alpha, 2.0, 0),) * 4
        check(started(network(), small.recipe(layers=layers, mutation=noise), 1, (0,)))

    @pytest.mark.parametrize("noise", ["channel", "element"])
    def test_a_pool_in_half_precision(self, noise: str) -> None:
        layers = (Layer(1, 0.3, 5.0, 2),) * 4  # later, near ties may go the other way
        case = started(network(), small.recipe(layers=layers, mutation=noise), 0, (0,))
        check(case, None, maps=2e-3, losses=1e-3)
        if noise == "element":
            check(case, torch.bfloat16, maps=3e-2, losses=1e-2)

    @pytest.mark.parametrize("layer", [0, 2])
    @pytest.mark.parametrize("noise", ["channel", "element"])
    def test_a_child_that_is_not_finite_is_never_selected(self, noise: str, layer: int) -> None:
        """With R1 `channel` a parent that is not finite spoils all children of its image, and of no other."""
        frozen = small.recipe(mutation=noise, batch_norm="frozen", layers=(Layer(2, 0.3, 3.0, 1),) * 4)
        tail, labels, recipe, indices, layer, parents, loss = started(network(), frozen, layer).arguments
        expected = evolve_gpu.evolve(tail, labels, recipe, indices, layer, parents, loss)
        parents[1, -1], loss[1, -1] = float("nan"), float("inf")
        best, history = evolve_gpu.evolve(tail, labels, recipe, indices, layer, parents, loss)
        assert best.isfinite().all() and history.isfinite().all()
        assert (history.diff(dim=1) <= 0).all() and (history[:, 0] <= loss[:, 0]).all()
        assert torch.equal(best[0], expected[0][0]) and torch.equal(history[0], expected[1][0])
        if noise == "channel":
            torch.testing.assert_close(best[1], parents[1, 0])

    @pytest.mark.parametrize(("layer", "size", "number"), [(0, small.SIZE, float("nan")), (1, 32, float("inf"))])
    @pytest.mark.parametrize("noise", ["channel", "element"])
    def test_a_parent_that_is_not_finite_is_ranked_last(self, noise: str, layer: int, size: int, number: float) -> None:
        """Whatever its loss was, and even where its one number that is not finite reaches no head: the second case."""
        layers = (Layer(2, 0.3, 3.0, 1),) * 4
        arguments = started(network(size), small.recipe(layers=layers, mutation=noise), layer).arguments
        expected, parents = evolve_gpu.evolve(*arguments), arguments[5]
        parents[1, 0, 2, -1, -1] = number
        state = (channel.Channel if noise == "channel" else element.Element)(*arguments)
        state.generation()
        assert state.losses[1, 0].isnan() and state.losses[1, 1].isfinite() and state.losses[0].isfinite().all()
        state.generation()
        best, history = state.best.transpose(1, 2).unflatten(2, parents.shape[3:]), state.history
        assert best.isfinite().all() and history.isfinite().all()
        assert torch.equal(best[0], expected[0][0]) and torch.equal(history[0], expected[1][0])
        if noise == "channel":
            torch.testing.assert_close(best[1], parents[1, 1])

    @pytest.mark.parametrize("statistics", ["trajectory", "frozen"])
    def test_without_children_the_best_parent_is_kept(self, statistics: str) -> None:
        check(started(network(), small.recipe(parents=8, explorers=0, batch_norm=statistics), 0))

    @pytest.mark.parametrize("noise", ["channel", "element"])
    def test_targets_do_not_depend_on_the_batch(self, noise: str) -> None:
        recipe = small.recipe(mutation=noise, population=5, explorers=1)
        together = evolve_gpu.evolve(*started(network(), recipe, 1, (0, 1, 2)).arguments)
        for which in [(1,), (2, 0)]:
            part = evolve_gpu.evolve(*started(network(), recipe, 1, which).arguments)
            for alone, among_others in zip(part, together, strict=True):
                assert torch.equal(alone, among_others[list(which)])

    def test_the_history_ends_with_the_best_map_s_loss(self) -> None:
        net = network()
        case = started(net, small.recipe(), 1)
        best, history = evolve_gpu.evolve(*case.arguments)
        labels = case.arguments[1]
        last = case.statistics.scoring(1, history.shape[1])
        loss = torch.nn.functional.cross_entropy(net.logits(best[:, None].double(), 1, last)[:, 0], labels)
        torch.testing.assert_close(history[:, -1].double().mean(), loss, rtol=0, atol=5e-4)  # pooled in float16

    def test_philox_is_the_project_s(self) -> None:
        generator = torch.Generator().manual_seed(3)
        words = torch.randint(0, 2**32, (6, 16), generator=generator)
        words[:, 0], words[:, 1] = 0, 2**32 - 1
        for column in words.T:
            out = torch.zeros(4, dtype=torch.int64)
            _philox[(1,)](column.contiguous(), out)
            key = int(column[4]) | int(column[5]) << 32
            expected = philox(tuple(column[:4, None]), key)
            assert out.tolist() == [int(word) for word in expected]

    @pytest.mark.parametrize("spare", [True, False])
    def test_selection_is_stable(self, spare: bool) -> None:
        """Equal losses: the earlier candidate first; what is not a number comes last; no slot is lost.

        spare: new parents take slots that no parent had before (`element`), or those of parents that go (`channel`).
        """
        k, count, images = 3, 37, 8
        losses = torch.randint(0, 4, (images, k + count), generator=torch.Generator().manual_seed(2)).float()
        losses[:, :k] = losses[:, :k].sort(1).values
        losses[0], losses[1, k:], losses[2, k + 1] = 1, 5, float("nan")
        slots = 2 * k if spare else k
        state = torch.argsort(torch.rand(images, slots, generator=torch.Generator().manual_seed(3)), 1).int()
        following, chosen, best = torch.zeros_like(state), state[:, :k].clone(), losses[:, :k].clone()
        history, clock = torch.zeros(images, 4), torch.tensor([(2 << 24) | 3])
        select = (element_kernels if spare else channel_kernels).select
        select[(images,)](
            losses, state, following, chosen, best, history, clock, 4, count, k, BLOCK=64, PARENTS=4, CHUNK=16
        )
        order = torch.argsort(losses, dim=1, stable=True)[:, :k]
        assert torch.equal(chosen, torch.where(order < k, -1, order - k).int())
        assert torch.equal(best, losses.gather(1, order)) and torch.equal(history[:, 2], best[:, 0])
        survives = order < k
        assert torch.equal(following[:, :k][survives], state.gather(1, order.clamp(max=k - 1))[survives])
        if spare:
            assert not (following[:, :k, None] == state[:, None, :k]).any(2)[~survives].any()
        assert torch.equal(following.sort(1).values, torch.arange(slots).int().expand(images, -1))

    @pytest.mark.parametrize("statistics", ["trajectory", "frozen"])
    @pytest.mark.parametrize("noise", ["channel", "element"])
    def test_the_memory_is_what_is_promised(self, noise: str, statistics: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(channel.Channel, "_enter", lambda self, state: None)  # which takes long, but no memory
        shape = Shape(channels=3, size=32, classes=10, width=16)
        layers = (Layer(3, 0.3, 5.0, 1),) * 4
        changes = {"mutation": noise, "batch_norm": statistics, "population": 24, "parents": 4, "explorers": 10}
        recipe = small.recipe(layers=layers, **changes)
        assert max(taken(recipe, shape, layer) for layer in range(len(BLOCKS))) == evolve_gpu.bytes_per_image(
            shape, recipe
        )

    def test_a_mutation_that_float16_cannot_hold(self) -> None:
        recipe = small.recipe(layers=(Layer(1, 200.0, 5.0, 2),) * 4)
        assert element.mates_dtype(small.recipe(), 0, 57_600, 256) == torch.float16
        assert element.mates_dtype(recipe, 0, 57_600, 256) == torch.bfloat16


if INTERPRETED and find_spec("triton"):

    @triton.jit
    def _philox(words, out):  # type: ignore[no-untyped-def]
        c0, c1 = tl.load(words).to(tl.uint32), tl.load(words + 1).to(tl.uint32)
        c2, c3 = tl.load(words + 2).to(tl.uint32), tl.load(words + 3).to(tl.uint32)
        k0, k1 = tl.load(words + 4).to(tl.uint32), tl.load(words + 5).to(tl.uint32)
        c0, c1, c2, c3 = philox_impl(c0, c1, c2, c3, k0, k1)
        tl.store(out, c0.to(tl.int64))
        tl.store(out + 1, c1.to(tl.int64))
        tl.store(out + 2, c2.to(tl.int64))
        tl.store(out + 3, c3.to(tl.int64))


def taken(recipe: Recipe, shape: Shape, layer: int) -> int:
    """Bytes that one more image takes."""
    sizes = []
    for count in (2, 3):
        case = empty(recipe, shape, layer, count)
        state = (channel.Channel if recipe.mutation == "channel" else element.Element)(*case)
        held = [*vars(state).values(), case[5], state.best]
        if recipe.mutation == "element" and not case[0].reevaluate:
            held.append(case[5].clone())  # the parents, reordered
        sizes.append(sum({x.data_ptr(): x.nbytes for x in held if isinstance(x, Tensor)}.values()))
    return sizes[1] - sizes[0]


@pytest.mark.skipif(INTERPRETED, reason="this is the process that it starts")
def test_in_the_interpreter() -> None:
    interpreted(__file__)


@pytest.mark.skipif(INTERPRETED, reason="needs no Triton")
class TestGraph:
    """A generation is captured once and replayed; where it can't be, the log says why, and nothing is lost."""

    def steps(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[int]:
        from repsearch.search.gpu import evolve

        def fail(step: object) -> None:
            raise error

        monkeypatch.setattr(evolve, "_captured", fail)
        done: list[int] = []
        evolve._repeat(lambda: done.append(1), 5, True)
        return done

    def test_without_a_graph_every_step_is_launched(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        error = RuntimeError("operation not permitted when stream is capturing\nmore")
        assert len(self.steps(monkeypatch, error)) == 5
        assert "operation not permitted when stream is capturing" in caplog.text

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("x"), RuntimeError("CUDA error: out of memory\nmore")])
    def test_a_graph_that_memory_does_not_hold_makes_batches_smaller(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        with pytest.raises(torch.OutOfMemoryError):
            self.steps(monkeypatch, error)
