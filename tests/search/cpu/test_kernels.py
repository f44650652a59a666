"""The compiled arithmetic on blocks of sixteen channels against torch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from repsearch.search.cpu import kernels


def _block(maps: torch.Tensor, before: int = 0, after: int = 0) -> np.ndarray:
    """[16, side, side] → [before + positions + after, 16], nines around."""
    return np.pad(maps.flatten(1).T.contiguous().numpy(), ((before, after), (0, 0)), constant_values=9)


@pytest.mark.parametrize("side", [15, 13, 7, 6, 3, 2, 1])
@pytest.mark.parametrize("passes", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("count_padding", [False, True])
def test_smooth_is_repeated_average_pooling(side: int, passes: int, count_padding: bool) -> None:
    maps = expected = torch.randn(16, side, side)
    for _ in range(passes):
        expected = F.avg_pool2d(expected, 3, 1, 1, count_include_pad=count_padding)
    x = _block(maps, 5, 2)
    kernels.smooth(x, 5, 1, side, passes, np.float32(kernels.edge_weight(side, count_padding)))
    np.testing.assert_allclose(x, _block(expected, 5, 2), rtol=1e-5, atol=1e-6)


def test_mix_is_the_weighted_sum_and_its_moments() -> None:
    x, noise, small = (torch.randn(rows, 16).numpy() for rows in (40, 12, 4))
    mask, out = np.random.default_rng(0).random(9, np.float32), np.zeros((20, 16), np.float32)
    a, b, (strength, move) = np.float32(0.3), np.float32(0.6), small[:2].copy()
    kernels.mix(x, 5, 31, a, b, noise, small, mask, out, 2)
    expected = a * x[5:14] + b * x[31:40] + strength * noise[:9] + move * mask[:, None]
    np.testing.assert_allclose(out[2:11], expected, rtol=1e-5, atol=1e-6)
    assert not out[:2].any() and not out[11:].any()
    np.testing.assert_allclose(small[2:], [expected.mean(0), expected.var(0)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positions", [225, 169, 49, 36, 9, 1])
def test_moments_keep_a_small_variance_around_a_large_mean(positions: int) -> None:
    x = 100 + 1e-3 * torch.randn(positions, 16)
    small, nothing = np.zeros((4, 16), np.float32), np.zeros((positions, 16), np.float32)
    one, mask = np.float32(1), np.ones(positions, np.float32)
    kernels.mix(x.numpy(), 0, 0, one, np.float32(0), nothing, small, mask, nothing.copy(), 0)
    variance, mean = torch.var_mean(x.double(), 0, correction=0)
    np.testing.assert_allclose(small[2], mean, rtol=1e-7)
    np.testing.assert_allclose(small[3], variance, rtol=1e-3)


def test_normalise() -> None:
    x = np.random.default_rng(0).standard_normal((7, 16)).astype(np.float32)
    out = x.copy()
    kernels.normalise(out, np.float32(0.25), np.float32(3))
    np.testing.assert_allclose(out, (x - 0.25) * 3, rtol=1e-6)


@pytest.mark.parametrize("side", [15, 13, 8, 7, 2])
@pytest.mark.parametrize("in_place", [False, True])
def test_max_pool(side: int, in_place: bool) -> None:
    maps, half = torch.randn(16, side, side), side // 2
    x = _block(maps, 3)
    out, to = (x, 3) if in_place else (np.zeros((half * half + 1, 16), np.float32), 1)
    kernels.max_pool(x, 3, side, out, to, half)
    pooled = torch.from_numpy(out[to : to + half * half]).T.unflatten(1, (half, half))
    assert torch.equal(pooled, F.max_pool2d(maps, 2))


@pytest.mark.parametrize("sides", [[6, 3], [4, 2], [3], [1]])
def test_tail_is_the_rest_of_the_network(sides: list[int]) -> None:
    """From max-pooled maps; BatchNorms with shifts on both sides of -0.75, where GELU turns."""
    maps = torch.randn(16, sides[0], sides[0], dtype=torch.float64)
    norms = torch.stack([torch.rand(len(sides), 2, 16) + 0.5, torch.randn(len(sides), 2, 16)], 2)
    mean, rate = np.float32(0.3), np.float32(1.7)
    x = (maps - mean) * rate
    for block, (first, second) in enumerate(norms[..., None, None]):
        x = F.max_pool2d(x, 2) if block else x
        x = F.gelu(F.gelu(x * first[0] + first[1]) * second[0] + second[1])
    pooled, out = _block(maps.float(), 2), np.zeros((sides[-1] ** 2 + 1, 16), np.float32)
    table = np.pad(norms.reshape(-1, 16).numpy(), ((3, 0), (0, 0)))
    kernels.tail(pooled, 2, np.array(sides), len(sides), table, 3, mean, rate, out, 1)
    np.testing.assert_allclose(out[1:], x.flatten(1).T, rtol=0, atol=1e-5)
    assert not out[0].any()


def test_tail_of_the_last_block_normalises() -> None:
    x = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
    out, none = np.empty((9, 16), np.float32), np.empty((0, 16), np.float32)
    kernels.tail(x, 0, np.array([3]), 0, none, 0, np.float32(0.3), np.float32(1.7), out, 0)
    np.testing.assert_allclose(out, (x - 0.3) * 1.7, rtol=1e-5, atol=1e-6)


def test_head_logits() -> None:
    features, weights = torch.randn(8, 37), torch.randn(3, 37)
    logits = np.empty((8, 3), np.float32)
    kernels.head_logits(features.numpy(), weights.numpy(), logits)
    torch.testing.assert_close(torch.from_numpy(logits), features @ weights.T)
