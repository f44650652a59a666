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
        self.time = (layer << 24) | generation

    def _words(self, candidates: range, blocks: int, purpose: Purpose) -> tuple[Tensor, ...]:
        """Four [B, n, blocks] int64 tensors of words."""
        device = self.images.device
        block = torch.arange(blocks, device=device)
        slot = torch.arange(candidates.start, candidates.stop, device=device) * len(Purpose) + purpose
        time = torch.tensor(self.time, device=device)
        return philox((block, slot[:, None], self.images[:, None, None], time), self.seed)

    def normals(self, candidates: range, channels: int, height: int = 1, width: int = 1) -> Tensor:
        """[B, n, channels, height, width] float32 standard normals for the candidates of that range.

        Box–Muller of 24-bit uniforms. Four neighbours in a row of a channel share a counter; counters run
        along the row, then the rows, then the channels, so that a vector of channels draws theirs side by side.
        """
        blocks = -(-width // 4)
        words = self._words(candidates, channels * height * blocks, Purpose.NOISE)
        u = [((w >> 8).float() + 0.5) * 2.0**-24 for w in words]
        parts = []
        for u_radius, u_angle in (u[:2], u[2:]):
            radius, angle = torch.sqrt(-2.0 * torch.log(u_radius)), 2.0 * math.pi * u_angle
            parts += [radius * torch.cos(angle), radius * torch.sin(angle)]
        return torch.stack(parts, -1).unflatten(2, (channels, height, blocks)).flatten(-2)[..., :width]

    def pairs(self, candidates: range, pool: int) -> Tensor:
        """[B, n, 2] int64: two parents for each candidate, drawn uniformly and independently from `pool`."""
        first, second, *_ = self._words(candidates, 1, Purpose.PAIR)
        return (torch.cat([first, second], -1) * pool) >> 32
