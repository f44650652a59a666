"""The compiled random numbers against `randomness`."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from repsearch.search.cpu import normals
from repsearch.search.cpu.lanes import load, store
from repsearch.search.cpu.words import bits, from_bits, signed_shift, to_lanes
from repsearch.search.randomness import Purpose, Stream
from repsearch.search.randomness import philox as plain_philox


class Exact(Stream):
    """The stream in double precision. In single precision torch rounds 2πu, by how much differs between processors."""

    def _uniforms(self, candidates: range, channels: int, height: int, width: int, draw: int) -> list[torch.Tensor]:
        return [u.double() for u in super()._uniforms(candidates, channels, height, width, draw)]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**64 - 1),
    image=st.integers(0, 2**32 - 1),
    candidate=st.integers(0, 300),
    layer=st.integers(0, 3),
    block=st.integers(0, 5),
    height=st.integers(1, 15),
    width=st.integers(1, 15),
)
def test_normals_are_those_of_the_stream(
    seed: int, image: int, candidate: int, layer: int, block: int, height: int, width: int
) -> None:
    stream, channel = Exact(seed, torch.tensor([image]), layer, 7), 16 * block
    expected = stream.normals(range(candidate, candidate + 1), channel + 16, height, width)[0, 0, channel:]
    out = np.full((height * width + 3, 16), np.nan, np.float32)
    words = np.empty((height * (width + 3), 16), np.float32)
    numbers = candidate * len(Purpose) + Purpose.NOISE, image, stream.time, seed & 0xFFFFFFFF, seed >> 32
    normals.normals(out, words, height, width, channel, *map(np.uint64, numbers))
    found = torch.from_numpy(out[: height * width]).T
    torch.testing.assert_close(found.double(), expected.flatten(1), rtol=2e-7, atol=1e-6)


def test_one_counter_s_words_are_those_of_randomness() -> None:
    counter, seed = (3, 2**32 - 1, 7, 2**26 + 5), 2**64 - 12345
    expected = plain_philox(tuple(torch.tensor([number]) for number in counter), seed)  # type: ignore[arg-type]
    words = normals.philox(*map(np.uint64, (*counter, seed & 0xFFFFFFFF, seed >> 32)))
    assert [int(word) for word in words] == [int(word) for word in expected]


@njit
def _pairs(radius, angle, out):
    for i in range(len(radius)):
        x, y = normals._box_muller(bits(load(radius, i)), bits(load(angle, i)))
        store(out, 2 * i, x)
        store(out, 2 * i + 1, y)


def test_box_muller_in_double_precision_even_of_the_first_and_last_words() -> None:
    """Every exponent of the radius, all quarters of the angle and their borders."""
    edges = np.array([0, 255, 256, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 256, 2**32 - 1])
    powers = 2 ** np.arange(32)
    some = np.random.default_rng(0).integers(0, 2**32, 2**14)
    numbers = np.concatenate([edges, powers, some])[: 2**14].astype(np.uint32)
    radius, angle = numbers.view(np.float32).reshape(-1, 16), numbers[::-1].copy().view(np.float32).reshape(-1, 16)
    out = np.empty((2 * len(radius), 16), np.float32)
    _pairs(radius, angle, out)
    u = ((numbers >> 8).astype(np.float32) + np.float32(0.5)).astype(np.float64) * 2.0**-24
    v = u[::-1]
    expected = np.sqrt(-2 * np.log(u)) * np.array([np.cos(2 * np.pi * v), np.sin(2 * np.pi * v)])
    found = out.reshape(-1, 2, 16).transpose(1, 0, 2).reshape(2, -1)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-6)


@njit
def _integers(x, out):
    for i in range(len(x)):
        w = bits(load(x, i))
        store(out, 5 * i, from_bits((w << 3) ^ (w >> 7)))
        store(out, 5 * i + 1, from_bits(signed_shift(w, 5) + 17))
        store(out, 5 * i + 2, from_bits((w & 0xF0F0F0F0) - w))
        store(out, 5 * i + 3, to_lanes(w))
        store(out, 5 * i + 4, from_bits(w))


def test_words_compute_what_numpy_computes() -> None:
    w = np.random.default_rng(0).integers(0, 2**32, (6, 16)).astype(np.uint32)
    out = np.empty((30, 16), np.float32)
    _integers(w.view(np.float32), out)
    signed = w.view(np.int32)
    expected = [
        (w << 3) ^ (w >> 7),
        ((signed >> 5) + 17).view(np.uint32),
        (w & np.uint32(0xF0F0F0F0)) - w,
        signed.astype(np.float32).view(np.uint32),
        w,
    ]
    assert np.array_equal(out.view(np.uint32).reshape(6, 5, 16), np.stack(expected, 1))
