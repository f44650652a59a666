"""The frozen BatchNorm statistics (R3) against a second, literal version."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from repsearch.network import Network
from repsearch.search import network as search_network
from repsearch.search.network import SearchNetwork
from repsearch.search.operators import normalise, smooth
from repsearch.search.statistics import initialise
from tests import small
from tests.search import calibration

NOISE, BLUR = small.CALIBRATION.noise, small.CALIBRATION.blur


def _noisy(count: int) -> Tensor:
    return calibration.noisy_inputs(small.images(count), seed=0, noise=NOISE)


@pytest.fixture
def net() -> SearchNetwork:
    return small.search_network(head_bias=True)


def test_frozen_statistics_are_those_of_the_reference() -> None:
    net = small.search_network().to("cpu", torch.float64)
    expected = calibration.calibrate(net.network, _noisy(20).double(), BLUR)
    assert {start: statistics.shape for start, statistics in net.statistics.items()} == {
        "input": (2, 2, 6),
        "block0": (4, 2, 6),
        "block1": (2, 2, 6),
    }
    for start, statistics in net.statistics.items():
        torch.testing.assert_close(statistics, expected[start], rtol=1e-4, atol=1e-5)  # taken in float32


@pytest.mark.parametrize("layer", [0, 1])
def test_on_the_calibration_set_each_batchnorm_gives_mean_0_and_variance_1(
    net: SearchNetwork, layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the layer's initial candidates, smoothed and normalised; shown by what enters each GELU."""
    maps = smooth(net.first_map(_noisy(20)[:, None], True)[:, 0], BLUR[0])
    if layer == 1:
        maps = smooth(net.next_map(normalise(maps)[:, None], 0, True)[:, 0], BLUR[1])
    monkeypatch.setattr(search_network, "CPU_CANDIDATES", 20)  # all at once
    seen, gelu = [], torch.nn.functional.gelu
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda x: seen.append(x) or gelu(x))
    net.logits(normalise(maps)[None], layer, True)
    assert len(seen) == 2 * (2 - layer)
    for x in seen:
        torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-4)
        torch.testing.assert_close(x.var((0, 2, 3), correction=0), torch.ones(6), rtol=0, atol=1e-2)


def test_only_the_calibration_images_calibrate() -> None:
    shape, images = small.network().shape, small.images(20)
    net = initialise(shape, images, 0, replace(small.CALIBRATION, images=10))
    network = Network(shape, net.network.whiten.weight, 0)
    expected = calibration.calibrate(network, calibration.noisy_inputs(images[:10], 0, NOISE), BLUR)
    for start, statistics in net.statistics.items():
        torch.testing.assert_close(statistics, expected[start], rtol=1e-4, atol=1e-5)


def test_a_channel_that_is_blank_in_every_image_is_calibrated_on_noise() -> None:
    """Without the noise its variance would be 0, and a candidate's divided by nearly nothing."""
    shape, images = small.network().shape, small.images(20).clone()
    images[:, 1:] = 0.3 * images[:, :1]  # three channels with the same content: two blank directions

    def smallest_variance(noise: float) -> float:
        net = initialise(shape, images, 0, replace(small.UNSMOOTHED, noise=noise))
        return min(float(statistics[:, 1].min()) for statistics in net.statistics.values())

    assert smallest_variance(NOISE) > 1e-4 and smallest_variance(NOISE) > smallest_variance(0.0)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be \[N, 3, 17, 17\] as the network's are"):
        initialise(small.network().shape, small.images(20, 18), 0, small.CALIBRATION)
