"""Children that are scored without being made, against the path that makes them."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numba import njit
from torch import Tensor

from repsearch.search.cpu import channel, compiling
from repsearch.search.cpu import evolve as general
from repsearch.search.cpu.tiles import order_of_positions
from repsearch.search.network import Tail
from repsearch.search.recipe import Layer, Recipe
from tests import small

CLASSES = 5


def tail(blocks: int, side: int, channels: int, seed: int, rows: int = 1) -> Tail:
    """BatchNorms with large shifts: GELU bends and the second of a block falls and rises. rows > 1: parents are scored
    again in every generation."""
    generator = torch.Generator().manual_seed(seed)
    norms = torch.randn(rows, blocks, 2, 2, channels, generator=generator)
    norms[:, :, :, 0] = norms[:, :, :, 0].abs() + 0.5  # scales
    last = side // 2**blocks
    head = torch.randn(CLASSES, last**2, channels, generator=generator) / (last * channels**0.5)
    return Tail(norms, head, torch.randn(CLASSES, generator=generator), rows > 1 and blocks > 0)


def parents(count: int, side: int, channels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(channels, 1, 1, generator=generator) + 0.1
    maps = scale * torch.randn(2, count, channels, side, side, generator=generator) + scale
    return maps, torch.full((2, count), 20.0)  # worse than any child


def recipe(**changes: object) -> Recipe:
    layer = Layer(3, 0.3, 3.0, 2)
    return Recipe(**{"layers": (layer,) * 4, "population": 16, "parents": 3, "explorers": 6, **changes})  # type: ignore


def both(tail: Tail, parents: tuple[Tensor, Tensor], recipe: Recipe, layer: int) -> list[tuple[Tensor, Tensor]]:
    args = (tail, torch.tensor([1, 4]), recipe, torch.tensor([7, 40_000]), layer, *parents)
    return [channel.evolve(*args), general.evolve(*args)]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    layer=st.integers(0, 2),
    side=st.integers(1, 18),
    channels=st.sampled_from([1, 5, 15, 16, 17, 40, 64]),
    parts=st.tuples(st.integers(1, 5), st.integers(0, 9), st.integers(0, 26)),
    blur=st.integers(0, 20),
    count_padding=st.booleans(),
    refine_from=st.sampled_from(["parents+explorers", "parents"]),
    rows=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**64 - 1),
)
def test_it_finds_what_the_general_path_finds(
    layer: int, side: int, channels: int, parts: tuple[int, int, int], blur: int, rows: int, seed: int, **readings: Any
) -> None:
    """Any side, width and parts of the population; more children than one batch of a tile; parents scored again."""
    kept, explorers, _ = parts
    blocks, side = 2 - layer, max(side, 2 ** (2 - layer))
    chosen = recipe(
        layers=(Layer(rows if rows > 1 else 2, 0.3, 3.0, blur),) * 4,
        population=sum(parts),
        parents=kept,
        explorers=explorers,
        seed=seed,
        **readings,
    )
    fast, plain = both(tail(blocks, side, channels, seed % 100, rows), parents(kept, side, channels), chosen, layer)
    spread = plain[0].flatten(1).std(1, correction=0)
    assume(spread.min() > 0.9995)  # else smoothing has left a constant map, and its normalisation magnifies rounding
    torch.testing.assert_close(fast[1], plain[1], rtol=2e-5, atol=2e-5)
    if channels > 1:  # of one channel, whose GELUs may all be 0, several children have the same loss
        torch.testing.assert_close(fast[0], plain[0], rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("shift", [-3.0, -0.9, -0.7, 0.5])
def test_maxima_are_moved_through_gelus_that_fall_or_only_rise(shift: float) -> None:
    """The second BatchNorm's shift decides whether the GELU after it falls over some of what can reach it."""
    after = tail(2, 15, 32, 0)
    after.norms[:, 0, 1, 0], after.norms[:, 0, 1, 1] = 1.0, shift
    fast, plain = both(after, parents(3, 15, 32), recipe(), 0)
    torch.testing.assert_close(fast[1], plain[1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("rows", [1, 3])
def test_children_of_a_parent_that_is_not_finite_come_last(layer: int, bad: float, rows: int) -> None:
    maps, loss = parents(3, 8, 20)
    maps[0, 1, 3, 2, 2] = bad
    loss[0, 1] = torch.nan
    fast, plain = both(tail(2 - layer, 8, 20, 0, rows), (maps, loss), recipe(), layer)
    for best, history in (fast, plain):
        assert best.isfinite().all() and history.isfinite().all() and (rows > 1 or (history < 20).all())
    torch.testing.assert_close(fast[1], plain[1], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_network_that_is_not_finite_scores_no_child(layer: int) -> None:
    broken = tail(2 - layer, 8, 20, 0)
    broken.norms[0, 0, 1, 1, 3] = torch.nan
    maps, loss = parents(3, 8, 20)
    for best, history in both(broken, (maps, loss), recipe(), layer):
        assert torch.equal(best, maps[:, 0]) and (history == 20).all()


@given(side=st.integers(1, 33), blocks=st.integers(0, 2))
def test_positions_that_reach_the_head_come_first_by_windows(side: int, blocks: int) -> None:
    order, used = order_of_positions(side, blocks)
    assert sorted(order) == list(range(side**2))
    reach = side // 2**blocks * 2**blocks if blocks else 0
    rows, columns = np.divmod(order, side)
    assert used == reach**2 and (rows[:used] < reach).all() and (columns[:used] < reach).all()
    for size in (4, 16)[:blocks]:  # of a window's positions, and of a window of windows'
        for axis in (rows, columns):
            windows = axis[:used].reshape(-1, size) // size**0.5
            assert (windows == windows[:, :1]).all()


def test_a_long_compilation_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def function(x):  # type: ignore[no-untyped-def]
        return x + 1

    compiled = njit(function)
    compiling.announce(compiled)
    assert "compiling the search for this machine" in caplog.text
    caplog.clear()
    compiled(1)
    compiling.announce(compiled)
    assert not caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["haswell", "nehalem"])
def test_processors_with_shorter_vectors(cpu: str, tmp_path: object) -> None:
    """AVX2 and SSE: the lanes are two or four registers."""
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CACHE_DIR": str(tmp_path)}
    names = ["finds_what_the_general", "maxima_are_moved", "not_finite"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", " or ".join(names)]
    subprocess.run(command, env=environment, check=True)


def test_a_population_of_equal_parents_is_searched() -> None:
    """R16 `best`: a layer opens with copies of one candidate."""
    maps, loss = parents(3, 8, 20)
    copies = maps[:, :1].expand_as(maps).contiguous()
    chosen = replace(small.recipe(), population=16, parents=3, explorers=6)
    fast, plain = both(tail(2, 8, 20, 0), (copies, loss), chosen, 0)
    torch.testing.assert_close(fast[1], plain[1], rtol=0, atol=2e-5)
