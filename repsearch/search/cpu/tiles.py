"""Parents' smoothed maps in tiles, and children scored tile by tile in registers.

A tile is 16 positions of a map, four 2 × 2 windows of max-pooling one after the other; a block is 16 channels. The
maps of all parents at one tile and block lie side by side, so that they stay in the first-level cache while every
child visits them:

    maps [blocks of channels, tiles, slots, 16 positions, 16 channels]

Slot p holds S N_p, parent p smoothed once, and slot parents + p holds S S N_p, smoothed twice; each less its mean per
channel. Every child is, before and after normalisation (`covariances` derives its numbers),

    factor · [Q_a + Q_b + ratio (Q_c + Q_d) + u M₁ + v M₂ + k]

with four slots, two numbers for all channels (factor, ratio), three per channel (u, v, k), and the masks M₁ = S 1 and
M₂ = S S 1 less their means. A child that needs two slots has ratio 0. No child is written: its windows' largest
values, of 4 positions each, are; normalisation and BatchNorm increase, so they commute with max-pooling.

Those of the parents do not change while they live: they are kept, and are all that scoring a parent again needs,

    largest [blocks of channels, windows, slots, 16 channels]        slot p: parent p without smoothing

The positions come in an order in which the first ones are those that reach the head: with two later blocks, 4 × 4 of
them make one of the last map, and a tile is such a square; with one, 2 × 2 do. The rest count in the means and
covariances only. A last tile that is not full is filled with zeros.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repsearch.search.cpu.compiling import F, internal, part
from repsearch.search.cpu.lanes import LANES, broadcast, fill, gelu, larger, load, smaller, store

TILE = 16  # positions
BATCH = 20  # children whose pooled values stay in the first-level cache
GELU_LOWEST_AT = F(-0.75179)  # GELU falls before and rises after; there it is
GELU_LOWEST = F(-0.169972)


class Children(NamedTuple):
    """What makes the children of a generation; see above."""

    slots: NDArray[np.int64]  # [n, 4]: a, b, c, d
    ratio: NDArray[np.float32]  # [n]
    factor: NDArray[np.float32]  # [n], of the normalised child
    mean: NDArray[np.float32]  # [n], before normalisation and in its units: k is the mean per channel less this one
    terms: NDArray[np.float32]  # [blocks, n, 3, 16]: u, v, k


def order_of_positions(side: int, later_blocks: int) -> tuple[NDArray[np.int64], int]:
    """The positions of a map in the order of the tiles, and how many of them reach the head."""
    if later_blocks == 2:
        squares = [
            (4 * i + 2 * h, 4 * j + 2 * w) for i, j in np.ndindex(side // 4, side // 4) for h, w in np.ndindex(2, 2)
        ]
    else:
        squares = [(2 * i, 2 * j) for i, j in np.ndindex(side // 2, side // 2)]
    windows = squares if later_blocks else []
    used = [(i + h) * side + j + w for i, j in windows for h, w in np.ndindex(2, 2)]
    return np.array(used + sorted(set(range(side**2)) - set(used)), np.int64), len(used)


@part
def _of_two(maps, a, b, p, once, u):  # type: ignore[no-untyped-def]
    return u * broadcast(once, p) + (load(maps, (a, p)) + load(maps, (b, p)))


@part
def _of_four(maps, a, b, c, d, p, once, twice, ratio, u, v):  # type: ignore[no-untyped-def]
    return ratio * (load(maps, (c, p)) + load(maps, (d, p))) + (
        v * broadcast(twice, p) + _of_two(maps, a, b, p, once, u)
    )


@part
def _largest(w, x, y, z):  # type: ignore[no-untyped-def]
    return larger(larger(w, x), larger(y, z))


@part
def _smallest(w, x, y, z):  # type: ignore[no-untyped-def]
    return smaller(smaller(w, x), smaller(y, z))


@part
def _pool(maps, once, twice, windows, children, block, start, stop, norms, out, first):  # type: ignore[no-untyped-def]
    """BatchNorm of the largest values of a tile's windows. Fills out[: stop - start, first : first + windows]."""
    scale, shift = load(norms, (0, block)), load(norms, (1, block))
    for n in range(start, stop):
        a, b, c, d = children.slots[n, 0], children.slots[n, 1], children.slots[n, 2], children.slots[n, 3]
        u, v = load(children.terms, (block, n, 0)), load(children.terms, (block, n, 1))
        k, of_child = load(children.terms, (block, n, 2)), scale * children.factor[n]
        r, to = fill(children.ratio[n]), n - start
        if children.ratio[n] == F(0):
            for w in range(windows):
                p = 4 * w
                w0, w1 = _of_two(maps, a, b, p, once, u), _of_two(maps, a, b, p + 1, once, u)
                w2, w3 = _of_two(maps, a, b, p + 2, once, u), _of_two(maps, a, b, p + 3, once, u)
                store(out, (to, first + w), (_largest(w0, w1, w2, w3) + k) * of_child + shift)
        else:
            for w in range(windows):
                p = 4 * w
                w0 = _of_four(maps, a, b, c, d, p, once, twice, r, u, v)
                w1 = _of_four(maps, a, b, c, d, p + 1, once, twice, r, u, v)
                w2 = _of_four(maps, a, b, c, d, p + 2, once, twice, r, u, v)
                w3 = _of_four(maps, a, b, c, d, p + 3, once, twice, r, u, v)
                store(out, (to, first + w), (_largest(w0, w1, w2, w3) + k) * of_child + shift)


@part
def _pool_parents(largest, first_window, windows, block, children, start, stop, norms, out, first):  # type: ignore[no-untyped-def]
    """The same for candidates from number `children` on, which are the parents by slot."""
    scale, shift = load(norms, (0, block)), load(norms, (1, block))
    for n in range(max(start, children), stop):
        for w in range(windows):
            x = load(largest, (block, first_window + w, n - children))
            store(out, (n - start, first + w), x * scale + shift)


@part
def _pool_again(x, count, block, norms, rising, out, first, at):  # type: ignore[no-untyped-def]
    """out[first + n, at] ← BN₃ of the largest of GELU(BN₂(GELU(x[n, 0 … 3]))), n < count: the next block's max-pooling.

    GELU falls, then rises: over several numbers it is largest at the largest or at the smallest. rising: its second
    call only rises, so that the same holds of both together.
    """
    s2, t2, s3, t3 = load(norms, (2, block)), load(norms, (3, block)), load(norms, (4, block)), load(norms, (5, block))
    if rising:
        for n in range(count):
            x0, x1, x2, x3 = load(x, (n, 0)), load(x, (n, 1)), load(x, (n, 2)), load(x, (n, 3))
            y = larger(gelu(_largest(x0, x1, x2, x3)), gelu(_smallest(x0, x1, x2, x3)))
            store(out, (first + n, at), gelu(y * s2 + t2) * s3 + t3)
    else:
        for n in range(count):
            y0, y1 = gelu(load(x, (n, 0))) * s2 + t2, gelu(load(x, (n, 1))) * s2 + t2
            y2, y3 = gelu(load(x, (n, 2))) * s2 + t2, gelu(load(x, (n, 3))) * s2 + t2
            y = larger(gelu(_largest(y0, y1, y2, y3)), gelu(_smallest(y0, y1, y2, y3)))
            store(out, (first + n, at), y * s3 + t3)


@part
def _rises(scale, shift):  # type: ignore[no-untyped-def]
    """Whether GELU rises over all that GELU and then BatchNorm can return, for each of a block's channels."""
    lowest = F(0)
    for c in range(LANES):
        lowest = min(lowest, scale[c] * GELU_LOWEST + shift[c] - GELU_LOWEST_AT)
    return lowest >= F(0)


@internal
def features_of(children, maps, largest, masks, used, norms, work, pooled, features):  # type: ignore[no-untyped-def]
    """What the head sees of every child and then of the parents in `largest`, by the one or two blocks after this one.

    masks: [2, tiles · 16]; used: positions that reach the head. norms: [4 · blocks, channels / 16, 16]: scale and shift
    of each BatchNorm. work: [BATCH, 4, 16] and pooled: [n, positions of the last map, 16] are overwritten, n the
    children and parents.
    features: [≥ n, channels / 16 · positions of the last map, 16].
    """
    made, positions, two = len(children.factor), pooled.shape[1], norms.shape[0] == 8
    count = made + largest.shape[2]
    for block in range(maps.shape[0]):
        rising = two and _rises(norms[2, block], norms[3, block])
        for tile in range((used + TILE - 1) // TILE):
            once, twice = masks[0, tile * TILE :], masks[1, tile * TILE :]
            of_tile, windows = maps[block, tile], min(4, used // 4 - 4 * tile)
            if two:
                for start in range(0, count, BATCH):
                    stop = min(start + BATCH, count)
                    _pool(of_tile, once, twice, 4, children, block, start, min(stop, made), norms, work, 0)
                    _pool_parents(largest, 4 * tile, 4, block, made, start, stop, norms, work, 0)
                    _pool_again(work, stop - start, block, norms, rising, pooled, start, tile)
            else:
                _pool(of_tile, once, twice, windows, children, block, 0, made, norms, pooled, 4 * tile)
                _pool_parents(largest, 4 * tile, windows, block, made, 0, count, norms, pooled, 4 * tile)
        last = norms.shape[0] - 2
        scale, shift = load(norms, (last, block)), load(norms, (last + 1, block))
        for n in range(count):
            for i in range(positions):
                store(features, (n, block * positions + i), gelu(gelu(load(pooled, (n, i))) * scale + shift))


@internal
def pool(children, maps, largest, masks, used, norms, work, out):  # type: ignore[no-untyped-def]
    """BatchNorm of the largest values in all windows, of every child and then of the parents in `largest`.

    The arguments are those of `features_of`. Fills out [n, windows, channels / 16, 16].
    """
    made = len(children.factor)
    count = made + largest.shape[2]
    for tile in range((used + TILE - 1) // TILE):
        once, twice = masks[0, tile * TILE :], masks[1, tile * TILE :]
        for block in range(maps.shape[0]):
            of_tile, first, windows = maps[block, tile], 4 * tile, min(4, used // 4 - 4 * tile)
            for start in range(0, count, BATCH):
                stop = min(start + BATCH, count)
                _pool(of_tile, once, twice, windows, children, block, start, min(stop, made), norms, work, 0)
                _pool_parents(largest, first, windows, block, made, start, stop, norms, work, 0)
                for n in range(start, stop):
                    for w in range(windows):
                        store(out, (n, first + w, block), load(work, (n - start, w)))


@internal
def enter(x, slot, order, largest):  # type: ignore[no-untyped-def]
    """The largest values of a parent's map x [positions, channels / 16, 16] in its windows that reach the head."""
    for block in range(largest.shape[0]):
        for w in range(largest.shape[1]):
            x0, x1 = load(x, (order[4 * w], block)), load(x, (order[4 * w + 1], block))
            x2, x3 = load(x, (order[4 * w + 2], block)), load(x, (order[4 * w + 3], block))
            store(largest, (block, w, slot), _largest(x0, x1, x2, x3))


@internal
def write(children, n, maps, masks, order, out):  # type: ignore[no-untyped-def]
    """Child number n, normalised, into out [positions, channels / 16, 16]."""
    a, b, c, d = children.slots[n, 0], children.slots[n, 1], children.slots[n, 2], children.slots[n, 3]
    r, factor = fill(children.ratio[n]), children.factor[n]
    for block in range(maps.shape[0]):
        u, v = load(children.terms, (block, n, 0)), load(children.terms, (block, n, 1))
        k = load(children.terms, (block, n, 2))
        for tile in range(maps.shape[1]):
            of_tile, once, twice = maps[block, tile], masks[0, tile * TILE :], masks[1, tile * TILE :]
            for p in range(min(TILE, len(order) - tile * TILE)):
                if children.ratio[n] == F(0):
                    x = _of_two(of_tile, a, b, p, once, u)
                else:
                    x = _of_four(of_tile, a, b, c, d, p, once, twice, r, u, v)
                store(out, (order[tile * TILE + p], block), (x + k) * factor)
