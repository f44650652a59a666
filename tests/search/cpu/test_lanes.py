"""Sixteen lanes against NumPy, and GELU against its definition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit
from numba.core.errors import TypingError

from repsearch.search.cpu import lanes
from repsearch.search.cpu.lanes import broadcast, fill, larger, load, magnitude, root, smaller, store, total


@njit
def _arithmetic(x, y, number, out):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            a, b = load(x, (i, j)), load(y, (i, j))
            store(out, (0, i, j), a + b * number - number)
            store(out, (1, i, j), number * a - (number - b))
            store(out, (2, i, j), larger(a, b))
            store(out, (3, i, j), smaller(a, b))
            store(out, (4, i, j), root(magnitude(a)))
            store(out, (5, i, j), broadcast(y, (i, j, 3)) + fill(number))


def test_lanes_compute_what_numpy_computes() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 3, 5, 16)).astype(np.float32)
    number, out = np.float32(0.7), np.full((7, 3, 5, 16), 9, np.float32)
    _arithmetic(x, y, number, out)
    expected = [
        x + y * number - number,
        number * x - (number - y),
        np.maximum(x, y),
        np.minimum(x, y),
        np.sqrt(np.abs(x)),
        np.broadcast_to(y[..., 3:4] + number, x.shape),
        np.full_like(x, 9),  # nothing else is written
    ]
    np.testing.assert_allclose(out, np.stack(expected), rtol=1e-6, atol=1e-6)


@njit
def _sums(x, out):
    for i in range(len(x)):
        out[i] = total(load(x, i))


def test_total_is_the_sum_of_the_lanes() -> None:
    x, out = np.random.default_rng(1).standard_normal((40, 16)).astype(np.float32), np.empty(40, np.float32)
    _sums(x, out)
    np.testing.assert_allclose(out, x.sum(1, dtype=np.float64), rtol=0, atol=2e-6)


@njit
def _gelu(x, out):
    for i in range(len(x)):
        store(out, i, lanes.gelu(load(x, i)))


def test_gelu_is_within_1e_6() -> None:
    """Between the largest numbers of float32, densely where GELU bends."""
    x = torch.cat([torch.linspace(-8, 8, 2**18), torch.logspace(-38, 38, 2**14), -torch.logspace(-38, 38, 2**14)])
    x, out = x.view(-1, 16), np.empty((len(x) // 16, 16), np.float32)
    _gelu(x.numpy(), out)
    torch.testing.assert_close(torch.from_numpy(out).double(), F.gelu(x.double()), rtol=2e-7, atol=1e-6)


def test_gelu_is_zero_at_zero_and_for_very_negative_numbers_almost() -> None:
    x, out = np.repeat(np.float32([0, -3e38]), 8)[None], np.empty((1, 16), np.float32)
    _gelu(x, out)
    assert np.abs(out[0, :8]).max() == 0 and np.abs(out[0, 8:]).max() < 1e-6


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 16)), np.zeros((4, 32), np.float32)[:, ::2], np.zeros((4, 4, 16), np.float32)],
    ids=["float64", "strided", "another axis"],
)
def test_an_array_that_is_not_of_lanes_is_refused_when_compiled(wrong: np.ndarray) -> None:
    with pytest.raises(TypingError):
        _sums(wrong, np.empty(4, np.float32))
