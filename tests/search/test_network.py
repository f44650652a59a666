import pytest
import torch
from torch import Tensor

from repsearch.search import network
from repsearch.search.network import SearchNetwork, max_pool, moments_of
from repsearch.search.statistics import Statistics
from tests import small


@pytest.fixture
def net() -> SearchNetwork:
    return small.search_network(head_bias=True)


def _given(net: SearchNetwork) -> Statistics:
    statistics = small.statistics(net, small.recipe())
    assert statistics is not None
    return statistics


def test_all_convolutions_but_the_first_are_skipped(net: SearchNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped, they change nothing; and they are skipped."""
    maps, given = torch.randn(3, 2, 6, 8, 8), _given(net)

    def run() -> tuple[Tensor, Tensor, Tensor]:
        return (
            net.logits(maps, 0, given.scoring(0, 1)),
            net.next_map(maps, 0, given.opening(1)),
            net.logits(maps, 0, []),
        )

    skipped = run()
    monkeypatch.setattr(net, "_identities", set())
    for without, convolved in zip(skipped, run(), strict=True):
        torch.testing.assert_close(without, convolved)

    fresh, calls, convolve = small.search_network(), [], torch.nn.functional.conv2d
    monkeypatch.setattr(
        torch.nn.functional, "conv2d", lambda x, *more, **named: calls.append(x) or convolve(x, *more, **named)
    )
    fresh.logits(fresh.first_map(small.images(2)[None], given.opening(0)), 0, given.scoring(0, 0))
    assert [x.shape[1] for x in calls] == [3, 24]  # whitening and block 0's first


def test_a_changed_network_takes_the_dense_path() -> None:
    plain, changed = small.search_network(), small.shaken(small.search_network())
    maps, moments = torch.randn(3, 1, 6, 8, 8), _given(plain).scoring(0, 0)
    assert not torch.allclose(plain.logits(maps, 0, moments), changed.logits(maps, 0, moments), atol=1e-3)
    biased = small.search_network()
    biased.network.blocks[2][0].norm2.bias[0] = 0.1  # type: ignore[index, union-attr]
    assert plain.later_blocks_are_identities and not biased.later_blocks_are_identities


@pytest.mark.parametrize("learned", [False, True])
def test_batch_statistics_make_it_the_network_that_learns(net: SearchNetwork, learned: bool) -> None:
    images, net = small.images(5), small.shaken(net) if learned else net
    out = net.network.train()(images)
    first = net.first_map(images[:, None], [])[:, 0]
    torch.testing.assert_close(first, out.maps[0])
    torch.testing.assert_close(net.next_map(first[:, None], 0, [])[:, 0], out.maps[1])
    torch.testing.assert_close(net.logits(first[:, None], 0, [])[:, 0], out.logits)
    torch.testing.assert_close(net.logits(out.maps[2][:, None], 2, [])[:, 0], out.logits)


@pytest.mark.parametrize("convolutions", [2, 4])
def test_a_pass_with_the_moments_that_it_recorded_is_the_same_pass(convolutions: int) -> None:
    net = small.shaken(SearchNetwork(small.network(convolutions))).to("cpu", torch.float64)
    images, first, next_, rest = small.images(6).double().unflatten(0, (3, 2)), [], [], []
    maps = net.first_map(images, first)
    following, logits = net.next_map(maps, 0, next_), net.logits(maps, 0, rest)
    assert [len(moments) for moments in (first, next_, rest)] == [convolutions, convolutions, 2 * convolutions]
    assert all(torch.equal(one, other) for one, other in zip(next_, rest, strict=False))
    torch.testing.assert_close(net.first_map(images, torch.stack(first)), maps)
    torch.testing.assert_close(net.next_map(maps, 0, torch.stack(next_)), following)
    torch.testing.assert_close(net.logits(maps, 0, torch.stack(rest)), logits)


def test_a_few_convolutions_at_a_time_are_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the batch's own statistics, which are of all candidates nevertheless."""
    net, images = small.shaken(small.search_network()).to("cpu", torch.float64), small.images(6).double()[:, None]

    def run() -> tuple[Tensor, Tensor]:
        moments: list[Tensor] = []
        return net.logits(net.first_map(images, moments), 0, moments), torch.stack(moments)

    together = run()
    monkeypatch.setattr(network, "CPU_CANDIDATES", 1)
    for one, other in zip(run(), together, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen"])
def test_a_tail_has_the_scales_and_shifts_of_each_generation(net: SearchNetwork, layer: int, batch_norm: str) -> None:
    recipe = small.recipe(batch_norm=batch_norm)
    statistics = small.statistics(net, recipe)
    assert statistics is not None
    tail, generations = net.tail(layer, statistics.generations(layer)), recipe.layers[layer].generations
    assert tail.blocks == 2 - layer
    assert tail.norms.shape == (generations if batch_norm == "trajectory" else 1, 2 - layer, 2, 2, 6)
    x = torch.randn(6)
    for row, norms in enumerate(tail.norms):
        moments = statistics.scoring(layer, row + 1)
        for (scale, shift), (mean, variance) in zip(norms.flatten(0, 1), moments, strict=True):
            torch.testing.assert_close(scale * x + shift, (x - mean) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize("sizes", [(4,), (3, 1, 5)])
def test_moments_of_parts_are_those_of_the_whole(sizes: tuple[int, ...]) -> None:
    parts = [torch.randn(size, 6, 3, 2) * (size + 1) + size for size in sizes]
    variance, mean = torch.var_mean(torch.cat(parts).double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(moments_of(parts), (mean.float(), variance.float()))


@pytest.mark.parametrize("layer", [0, 1])
def test_logits_of_pooled_maps_are_those_of_the_maps(net: SearchNetwork, layer: int) -> None:
    maps, moments, others = torch.randn(2, 3, 6, 9, 9) if layer == 0 else torch.randn(2, 3, 6, 5, 5), [], []
    expected = net.logits(maps, layer, moments)
    pooled = max_pool(maps.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(net.logits_of_pooled(pooled, layer, others), expected)
    torch.testing.assert_close(torch.stack(others), torch.stack(moments))
    assert len(moments) == 2 * (2 - layer)


def test_it_does_not_learn(net: SearchNetwork) -> None:
    assert not any(parameter.requires_grad for parameter in net.network.parameters())


@pytest.mark.parametrize("side", [2, 3, 6, 7, 15])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_max_pool_is_torch_s(side: int, layout: torch.memory_format) -> None:
    x = torch.randn(3, 5, side, side + 1).to(memory_format=layout)
    assert torch.equal(max_pool(x), torch.nn.functional.max_pool2d(x, 2))
