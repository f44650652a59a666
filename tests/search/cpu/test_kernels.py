"""The compiled arithmetic against torch's."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from repsearch.search.cpu import evolve as evolve_cpu
from repsearch.search.cpu import kernels
from repsearch.search.network import Tail
from repsearch.search.randomness import Purpose, Stream
from repsearch.search.recipe import Layer, Recipe


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**64 - 1),
    image=st.integers(0, 2**31),
    candidate=st.integers(0, 300),
    layer=st.integers(0, 3),
    channels=st.integers(1, 40),
    side=st.integers(1, 15),
)
def test_normals_are_those_of_the_stream(
    seed: int, image: int, candidate: int, layer: int, channels: int, side: int
) -> None:
    stream = Stream(seed, torch.tensor([image]), layer, 7)
    expected = stream.normals(range(candidate, candidate + 1), channels, side, side)[0, 0].flatten(1).T
    out = np.full((side * side + 3, channels), np.nan, np.float32)
    words = candidate * len(Purpose) + Purpose.NOISE, image, stream.time, seed & 0xFFFFFFFF, seed >> 32
    kernels.normals(out, side, side, *map(np.uint64, words))
    torch.testing.assert_close(torch.from_numpy(out[: side * side]), expected, rtol=0, atol=4e-6)
    blocks = -(-side // 4)
    counters = np.add.outer(np.arange(blocks), np.arange(channels) * side * blocks).ravel().astype(np.uint64)
    rows, drawn = np.empty((side, side * channels), np.float32), np.empty((4, len(counters)), np.float32)
    kernels.normals_by_row(rows, drawn, counters, side, *map(np.uint64, words))
    assert np.array_equal(rows.reshape(side * side, channels), out[: side * side])


def test_two_norms_and_gelus() -> None:
    x = torch.linspace(-12, 12, 5000).repeat(2, 1)
    scale, shift, again, later = torch.rand(4, 5000)
    expected = F.gelu(F.gelu(x.double() * scale + shift) * again + later)
    out = x.numpy().copy()
    kernels.norm_gelu_twice(out, 1, *(t.numpy() for t in (scale, shift, again, later)))
    torch.testing.assert_close(torch.from_numpy(out[0]).double(), expected[0], rtol=0, atol=4e-6)
    assert np.array_equal(out[1], x[1].numpy())  # beyond `count`


@pytest.mark.parametrize("side", [15, 13, 7, 6, 3, 2])
@pytest.mark.parametrize("passes", [1, 5])
@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("channels", [5, 70])
def test_smooth_is_repeated_average_pooling(side: int, passes: int, count_padding: bool, channels: int) -> None:
    maps = torch.randn(channels, side, side)
    expected = maps
    for _ in range(passes):
        expected = F.avg_pool2d(expected, 3, 1, 1, count_include_pad=count_padding)
    layer = Layer(1, 0.3, 1.0, passes)
    recipe = Recipe((layer,) * 4, count_padding=count_padding)  # type: ignore[arg-type]
    tail = Tail(torch.zeros(0, 2, 2, channels), torch.zeros(2, side * side, channels), torch.zeros(2))
    plan = evolve_cpu.plan_for(tail, recipe, 0, channels, side)
    x = maps.flatten(1).T.contiguous().numpy().reshape((side, -1) if plan.narrow else (-1, channels))
    edge = np.empty((side + len(plan.taps)) * channels, np.float32)
    kernels.smooth(x, x, np.empty_like(x), plan.matrix, plan.reach, plan.taps, edge)
    smoothed = torch.from_numpy(x).reshape(side, side, channels).permute(2, 0, 1)
    torch.testing.assert_close(smoothed, expected)


@pytest.mark.parametrize("side", [15, 13, 8, 7, 2])
def test_max_pool(side: int) -> None:
    maps = torch.randn(5, side, side)
    half = side // 2
    out = np.empty((half * half, 5), np.float32)
    kernels.max_pool(maps.flatten(1).T.contiguous().numpy(), side, out, half)
    assert torch.equal(torch.from_numpy(out).T.unflatten(1, (half, half)), F.max_pool2d(maps, 2))


@pytest.mark.parametrize("positions", [225, 169, 49, 36, 9, 4])
@pytest.mark.parametrize("by_row", [False, True])
def test_moments_keep_a_small_variance_around_a_large_mean(positions: int, by_row: bool) -> None:
    x = 100 + 1e-3 * torch.randn(positions, 20)
    rows = math.isqrt(positions) if by_row else positions
    (mean, variance), overwritten = np.empty((2, 20), np.float32), np.empty((3, positions // rows * 20), np.float32)
    kernels.moments(x.numpy().reshape(rows, -1), mean, variance, *overwritten)
    expected_variance, expected_mean = torch.var_mean(x.double(), 0, correction=0)
    torch.testing.assert_close(torch.from_numpy(mean).double(), expected_mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(torch.from_numpy(variance).double(), expected_variance, rtol=1e-3, atol=0)


def test_head_logits() -> None:
    features, weights = torch.randn(8, 37), torch.randn(3, 37)
    logits = np.empty((8, 3), np.float32)
    kernels.head_logits(features.numpy(), weights.numpy(), logits)
    torch.testing.assert_close(torch.from_numpy(logits), features @ weights.T)


def test_compiled_functions_are_stored_by_the_state_of_all_their_sources(tmp_path: Path) -> None:
    first, second = tmp_path / "one.py", tmp_path / "other.py"
    first.write_text("a = 1")
    second.write_text("b = 1")
    folder = kernels.cache_folder([first, second])
    assert folder == kernels.cache_folder([first, second]) and folder.is_dir()
    second.write_text("b = 2")
    assert kernels.cache_folder([first, second]) != folder
    assert kernels.cache_folder([first, second], str(tmp_path / "aside")).parent == tmp_path / "aside"
