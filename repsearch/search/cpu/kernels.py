"""The arithmetic of the compiled CPU path on blocks of sixteen channels, each a `lanes.Lanes` per position of a map.

A block of a map is [positions, 16], row by row of the map, in an array of many blocks [rows, 16] that begins at some
row. It fits a core's first cache, where it stays from its random numbers to its max-pooling. Each function agrees with
its torch counterpart (`operators`, `search.network`) up to float32 rounding, as tests check.
"""

from repsearch.search.cpu.compiling import F, compiled, part, reordering
from repsearch.search.cpu.lanes import broadcast, fill, gelu, larger, load, store


@compiled
def smooth(x, row, stride, side, passes, edge):  # type: ignore[no-untyped-def]
    """`operators.smooth` of the block at `row`, in place: `passes` times the mean of three neighbours, along each axis.

    stride: rows of x from a position to the next one. edge: `edge_weight`.
    """
    for i in range(side):
        _smooth_line(x, row + i * side * stride, stride, side, passes, edge)
    for j in range(side):
        _smooth_line(x, row + j * stride, side * stride, side, passes, edge)


def edge_weight(side: int, count_padding: bool) -> float:
    """By how much more a number weighs in a mean at the border than inside, where it weighs ⅓ (R10)."""
    return 1.0 if count_padding else 3 / min(side, 2)


@part
def _smooth_line(x, first, step, side, passes, edge):  # type: ignore[no-untyped-def]
    pairs = passes // 2 if side > 2 else 0
    for _ in range(pairs):
        _smooth_line_twice(x, first, step, side, edge)
    third, border = F(1 / 3), edge * F(1 / 3)
    last = first + (side - 1) * step
    for _ in range(passes - 2 * pairs):
        a, b = fill(F(0)), load(x, first)
        weight = border
        for s in range(first, last, step):
            c = load(x, s + step)
            store(x, s, (a + b + c) * weight)
            a, b, weight = b, c, third
        store(x, last, (a + b) * border)


@part
def _smooth_line_twice(x, first, step, side, edge):  # type: ignore[no-untyped-def]
    """Two passes in one: y are the sums of the first pass, of which three make a number of the second. side > 2."""
    ninth, border = F(1 / 9), edge * F(1 / 9)
    last = first + (side - 1) * step
    a, b, c = load(x, first), load(x, first + step), load(x, first + 2 * step)
    y0, y1 = (a + b) * edge, a + b + c
    store(x, first, (y0 + y1) * border)
    for s in range(first + step, last - step, step):
        a, b, c = b, c, load(x, s + 2 * step)
        y = a + b + c
        store(x, s, (y0 + y1 + y) * ninth)
        y0, y1 = y1, y
    y = (b + c) * edge
    store(x, last - step, (y0 + y1 + y) * ninth)
    store(x, last, (y1 + y) * border)


@part
def variance(x, row, stride, positions):  # type: ignore[no-untyped-def]
    """That of each channel of the block at `row`; stride: see `smooth`. Sums are taken as in `mix`."""
    centre, sums, squares = load(x, row + positions // 2 * stride), fill(F(0)), fill(F(0))
    for s in range(positions):
        value = load(x, row + s * stride) - centre
        sums = sums + value
        squares = value * value + squares
    share = F(1) / F(positions)
    sums = sums * share
    return larger(squares * share - sums * sums, fill(F(0)))


@compiled
def mix(x, first, second, a, b, noise, small, mask, out, to):  # type: ignore[no-untyped-def]
    """out[to:] ← a · x[first:] + b · x[second:] + strength · noise + move · mask, and its moments per channel.

    noise: [≥ positions, 16]; mask: [positions], the same for all channels. small: [4, 16], strength and move per
    channel, then the result's mean and variance. Sums are taken around one of the numbers, so that a small variance
    around a large mean keeps its digits.
    """
    positions = len(mask)
    strength, move = load(small, 0), load(small, 1)
    s = positions // 2
    centre = load(noise, s) * strength + move * broadcast(mask, s)
    centre = load(x, first + s) * a + (load(x, second + s) * b + centre)
    sums = squares = fill(F(0))
    for s in range(positions):
        value = load(noise, s) * strength + move * broadcast(mask, s)
        value = load(x, first + s) * a + (load(x, second + s) * b + value)
        store(out, to + s, value)
        value = value - centre
        sums = sums + value
        squares = value * value + squares
    share = F(1) / F(positions)
    sums = sums * share
    store(small, 2, centre + sums)
    store(small, 3, larger(squares * share - sums * sums, fill(F(0))))


@compiled
def normalise(x, mean, rate):  # type: ignore[no-untyped-def]
    """x ← rate · (x - mean)."""
    for s in range(len(x)):
        store(x, s, (load(x, s) - fill(mean)) * rate)


@compiled
def copy(x, row, out, to, positions):  # type: ignore[no-untyped-def]
    for s in range(positions):
        store(out, to + s, load(x, row + s))


@compiled
def max_pool(x, row, side, out, to, out_side):  # type: ignore[no-untyped-def]
    """2 × 2 max-pooling of the block at `row`: the first out_side × out_side of (side // 2)² positions, to out[to:].

    out may be x and `to` may be `row`.
    """
    for i in range(out_side):
        for j in range(out_side):
            s = row + 2 * i * side + 2 * j
            upper, lower = larger(load(x, s), load(x, s + 1)), larger(load(x, s + side), load(x, s + side + 1))
            store(out, to + i * out_side + j, larger(upper, lower))


@compiled
def tail(x, row, sides, blocks, norms, norm, mean, rate, out, to):  # type: ignore[no-untyped-def]
    """The network from a max-pooled child to the head's features, for one block of channels.

    x[row:], overwritten: the child, max-pooled if the network has another block. sides: those of the maps in each of
    these `blocks`, or of the child alone. norms[norm:]: scale, shift, scale, shift of each. mean, rate: the child's
    normalisation, which is affine and increasing, so that it may follow the max-pooling. out[to:]: the features.
    """
    if blocks == 0:
        for s in range(sides[0] ** 2):
            store(out, to + s, (load(x, row + s) - mean) * rate)
        return
    for block in range(blocks):
        n, side = norm + 4 * block, sides[block]
        scale, shift, later_scale, later_shift = (
            load(norms, n),
            load(norms, n + 1),
            load(norms, n + 2),
            load(norms, n + 3),
        )
        if block == 0:
            scale = scale * rate
            shift = shift - scale * mean
        else:
            max_pool(x, row, sides[block - 1], x, row, side)
        last = block == blocks - 1
        for s in range(side * side):
            value = gelu(gelu(load(x, row + s) * scale + shift) * later_scale + later_shift)
            if last:
                store(out, to + s, value)
            else:
                store(x, row + s, value)


@reordering
def head_logits(features, weights, logits):  # type: ignore[no-untyped-def]
    """features [n, D] · weights [K, D]ᵀ → logits [n, K]; n a multiple of 4: four rows share a read of weights."""
    for n in range(0, features.shape[0], 4):
        for k in range(weights.shape[0]):
            a = b = c = d = F(0)
            for j in range(weights.shape[1]):
                w = weights[k, j]
                a += w * features[n, j]
                b += w * features[n + 1, j]
                c += w * features[n + 2, j]
                d += w * features[n + 3, j]
            logits[n, k], logits[n + 1, k], logits[n + 2, k], logits[n + 3, k] = a, b, c, d
