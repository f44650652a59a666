import pytest
import torch
from torch import Tensor

from repsearch.network import Network
from repsearch.search.network import SearchNetwork, initialise, max_pool
from repsearch.search.operators import normalise, smooth
from tests import small
from tests.search import calibration


def _noisy(count: int) -> Tensor:
    return calibration.noisy_inputs(small.images(count), seed=0, noise=small.NOISE)


@pytest.fixture
def net() -> SearchNetwork:
    return small.search_network(head_bias=True)


def test_all_convolutions_but_the_first_are_skipped(net: SearchNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped, they change nothing; and they are skipped."""
    maps = torch.randn(3, 2, 6, 8, 8)
    skipped = net.logits(maps, 0, True), net.next_map(maps, 0, True)
    monkeypatch.setattr(net, "_identities", set())
    monkeypatch.setattr(net, "_folded", {})
    dense = net.logits(maps, 0, True), net.next_map(maps, 0, True)
    for one, other in zip(skipped, dense, strict=True):
        torch.testing.assert_close(one, other)

    fresh, calls, convolve = small.search_network(), [], torch.nn.functional.conv2d
    monkeypatch.setattr(
        torch.nn.functional, "conv2d", lambda x, *rest, **more: calls.append(x) or convolve(x, *rest, **more)
    )
    fresh.logits(fresh.first_map(small.images(2)[None], True), 0, True)
    assert [x.shape[1] for x in calls] == [3, 24]  # whitening and block 0's first


def test_a_changed_network_takes_the_dense_path() -> None:
    plain, changed = small.search_network(), small.shaken(small.search_network())
    maps = torch.randn(3, 1, 6, 8, 8)
    assert not torch.allclose(plain.logits(maps, 0, True), changed.logits(maps, 0, True), atol=1e-3)


def test_batch_statistics_make_it_the_network_that_learns(net: SearchNetwork) -> None:
    images = small.images(5)
    out = net.network.train()(images)
    first = net.first_map(images[:, None], False)[:, 0]
    torch.testing.assert_close(first, out.maps[0])
    torch.testing.assert_close(net.next_map(first[:, None], 0, False)[:, 0], out.maps[1])
    torch.testing.assert_close(net.logits(first[:, None], 0, False)[:, 0], out.logits)
    torch.testing.assert_close(net.logits(out.maps[2][:, None], 2, False)[:, 0], out.logits)


def test_frozen_statistics_are_those_of_the_reference() -> None:
    net = small.search_network().to("cpu", torch.float64)
    expected = calibration.calibrate(net.network, _noisy(20).double(), small.BLUR)
    assert {name: kept.shape for name, kept in net.statistics.items()} == {
        "input": (2, 2, 6),
        "block0": (4, 2, 6),
        "block1": (2, 2, 6),
    }
    for name, kept in net.statistics.items():
        torch.testing.assert_close(kept, expected[name], rtol=1e-4, atol=1e-5)  # taken in float32


@pytest.mark.parametrize("layer", [0, 1])
def test_on_the_calibration_set_each_batchnorm_gives_mean_0_and_variance_1(
    net: SearchNetwork, layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For candidates of the layer's own kind, smoothed and normalised; shown by what enters each GELU."""
    maps = smooth(net.first_map(_noisy(20)[:, None], True)[:, 0], small.BLUR[0])
    if layer == 1:
        maps = smooth(net.next_map(normalise(maps)[:, None], 0, True)[:, 0], small.BLUR[1])
    seen, gelu = [], torch.nn.functional.gelu
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda x: seen.append(x) or gelu(x))
    net.logits(normalise(maps)[:, None], layer, True)
    assert len(seen) == 2 * (2 - layer)
    for x in seen:
        torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-4)
        torch.testing.assert_close(x.var((0, 2, 3), correction=0), torch.ones(6), rtol=0, atol=1e-2)


def test_only_the_calibration_images_calibrate() -> None:
    shape, images = small.network().shape, small.images(20)
    some = initialise(shape, images, seed=0, calibration=10, noise=small.NOISE, blur=small.BLUR)
    network = Network(shape, some.network.whiten.weight, 0)
    expected = calibration.calibrate(network, calibration.noisy_inputs(images[:10], 0, small.NOISE), small.BLUR)
    for name, kept in some.statistics.items():
        torch.testing.assert_close(kept, expected[name], rtol=1e-4, atol=1e-5)


def test_a_channel_that_is_blank_in_every_image_is_calibrated_on_noise() -> None:
    """Without the noise its variance would be 0, and a candidate's divided by nearly nothing."""
    shape, images = small.network().shape, small.images(20).clone()
    images[:, 1:] = 0.3 * images[:, :1]  # three channels that say the same: two blank directions
    least = [
        min(float(kept[:, 1].min()) for kept in initialise(shape, images, 0, 20, noise).statistics.values())
        for noise in (0.0, small.NOISE)
    ]
    assert least[1] > 1e-4 and least[1] > least[0]


def test_it_does_not_learn(net: SearchNetwork) -> None:
    assert not any(parameter.requires_grad for parameter in net.network.parameters())


@pytest.mark.parametrize("side", [2, 3, 6, 7, 15])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_max_pool_is_torch_s(side: int, layout: torch.memory_format) -> None:
    x = torch.randn(3, 5, side, side + 1).to(memory_format=layout)
    assert torch.equal(max_pool(x), torch.nn.functional.max_pool2d(x, 2))
