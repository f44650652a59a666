"""Counter-based random numbers: Philox 4×32-10 (Salmon et al., 2011).

Each number of the search is a function of (seed; index, candidate and purpose, image, layer and generation), so a
target does not depend on which images share its batch or its shard, and any child can be made again.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # Weyl increments of the key


class Purpose(IntEnum):
    """What a number is drawn for; keeps the streams apart."""

    NOISE = 0
    PAIR = 1


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int, rounds: int = 10) -> tuple[Tensor, ...]:
    """Four 32-bit words for each counter.

    counter: four int64 tensors of broadcastable shapes, values in [0, 2³²). seed: the 64-bit key.
    Returns four int64 tensors of the broadcast shape, values in [0, 2³²).
    """
    x0, x1, x2, x3 = counter
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(rounds):
        # Signed overflow wraps, so bits 32–63 and 0–31 of the product are right.
        p0, p1 = x0 * _M0, x2 * _M1
        x0, x1, x2, x3 = ((p1 >> 32) & _MASK) ^ x1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ x3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return x0, x1, x2, x3


class Stream:
    """The random numbers of one search layer and generation for a batch of images.

    images: [B] int64 image indices; layer: ℓ; generation: 0 is the initial population, the first generation is 1.
    """

    def __init__(self, seed: int, images: Tensor, layer: int, generation: int) -> None:
        self.seed, self.images = seed, images
        self.time = (layer << 24) | generation  # bits 26 to 31 are left for `draw`

    def _words(self, candidates: range, blocks: int, purpose: Purpose, draw: int = 0) -> tuple[Tensor, ...]:
        """Four [B, n, blocks] int64 tensors of words."""
        device = self.images.device
        block = torch.arange(blocks, device=device)
        slot = torch.arange(candidates.start, candidates.stop, device=device) * len(Purpose) + purpose
        time = torch.tensor(self.time | draw << 26, device=device)
        return philox((block, slot[:, None], self.images[:, None, None], time), self.seed)

    def _uniforms(self, candidates: range, channels: int, height: int, width: int, draw: int) -> list[Tensor]:
        """Four [B, n, counters] float32 tensors in (0, 1], of 24 bits each.

        Four neighbours in a row of a channel share a counter; counters run along the row, then the rows, then the
        channels, so that a vector of channels draws its numbers side by side.
        """
        words = self._words(candidates, channels * height * -(-width // 4), Purpose.NOISE, draw)
        return [((word >> 8).float() + 0.5) * 2.0**-24 for word in words]

    def uniforms(self, candidates: range, channels: int, height: int = 1, width: int = 1, draw: int = 0) -> Tensor:
        """[B, n, channels, height, width] float32, uniform in (0, 1], for the candidates of that range.

        draw: 0 … 63; different draws give independent numbers.
        """
        return _as_maps(self._uniforms(candidates, channels, height, width, draw), channels, height, width)

    def normals(self, candidates: range, channels: int, height: int = 1, width: int = 1, draw: int = 0) -> Tensor:
        """The same for standard normals: Box–Muller of the uniform numbers."""
        u = self._uniforms(candidates, channels, height, width, draw)
        parts = []
        for u_radius, u_angle in (u[:2], u[2:]):
            radius, angle = torch.sqrt(-2.0 * torch.log(u_radius)), 2.0 * math.pi * u_angle
            parts += [radius * torch.cos(angle), radius * torch.sin(angle)]
        return _as_maps(parts, channels, height, width)

    def pairs(self, candidates: range, mates: int) -> Tensor:
        """[B, n, 2] int64: two parents for each candidate, drawn uniformly and independently from `mates` of them."""
        first, second, *_ = self._words(candidates, 1, Purpose.PAIR)
        return (torch.cat([first, second], -1) * mates) >> 32


def _as_maps(quarters: list[Tensor], channels: int, height: int, width: int) -> Tensor:
    """Four tensors [B, n, counters], the neighbours that share a counter → [B, n, channels, height, width]."""
    return torch.stack(quarters, -1).unflatten(2, (channels, height, -1)).flatten(-2)[..., :width]


class Draws:
    """The random numbers of an operator that makes some children, [B, n, …]: each call draws new ones.

    They depend on the image, its child, and how many calls came before; not on the batch. stream, children: whose
    numbers; dtype: that of the results; crossover: whether they are a crossover's or a mutation's.
    """

    def __init__(self, stream: Stream, children: range, dtype: torch.dtype, crossover: bool = False) -> None:
        self._stream, self._children, self._dtype = stream, children, dtype
        self._draws = iter(range(int(crossover), 64, 2))

    def normals(self, channels: int, height: int = 1, width: int = 1) -> Tensor:
        """[B, n, channels, height, width] standard normals."""
        return self._stream.normals(self._children, channels, height, width, self._draw()).to(self._dtype)

    def uniforms(self, channels: int, height: int = 1, width: int = 1) -> Tensor:
        """[B, n, channels, height, width], uniform in (0, 1]."""
        return self._stream.uniforms(self._children, channels, height, width, self._draw()).to(self._dtype)

    def _draw(self) -> int:
        draw = next(self._draws, None)
        if draw is None:
            raise ValueError("an operator can draw random numbers 32 times at most: draw more of them at a time")
        return draw
