"""The Triton kernels of `channel`, whose docstring has the algebra and whose `__init__` lists the arrays.

`k` is the number of parents of an image, `count` of its children. A level is how often a parent is smoothed: first or
second. [B, 2k, …] arrays hold the parents' slots at the first level, then at the second.
"""

import triton
import triton.language as tl
from triton.language.random import philox_impl

from repsearch.search.gpu.kernels import norms_of, ranked, store_pooled
from repsearch.search.gpu.math import gelu, normals_of, smoothed


@triton.jit
def _drawn(b, n, mates, images, clock):  # type: ignore[no-untyped-def]
    """The numbers of child n's two mates, and the key and counter of its random numbers."""
    image, time = tl.load(images + b).to(tl.uint32), tl.load(clock).to(tl.uint32)
    key0, key1 = tl.load(clock + 1).to(tl.uint32), tl.load(clock + 2).to(tl.uint32)
    u0, u1, _u2, _u3 = philox_impl((n * 0).to(tl.uint32), (n * 2 + 1).to(tl.uint32), image, time, key0, key1)
    size = (n * 0 + mates).to(tl.uint32)
    return tl.umulhi(u0, size).to(tl.int32), tl.umulhi(u1, size).to(tl.int32), image, time, key0, key1


@triton.jit
def _settled(kappa, spread, at, mean, rate, epsilon, c, C: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mean and 1 / √(variance + ε) of a child: kappa, the means of its channels; spread, the sum of their variances."""
    mu = tl.sum(tl.where(c < C, kappa, 0.0), 0) / C
    d = tl.where(c < C, kappa - mu, 0.0)
    r = 1.0 / tl.sqrt(tl.maximum(spread + tl.sum(d * d, 0), 0.0) / C + epsilon)
    tl.store(mean + at, mu)
    tl.store(rate + at, r)
    return r


@triton.jit
def explore(  # type: ignore[no-untyped-def]
    state, sigma, means, covariance, gram, images, clock, masks, pair, weight, noise, kappa, mean, rate, spread,
    alpha, count, k, epsilon,
    C: tl.constexpr, BLOCK: tl.constexpr, MADE: tl.constexpr,
):  # fmt: skip
    """The explorers: fills pair, weight, noise, kappa, mean, rate and spread. Grid: (B · explorers,)."""
    b, n = tl.program_id(0) // MADE, tl.program_id(0) % MADE
    i, j, image, time, key0, key1 = _drawn(b, n, k, images, clock)
    i, j = tl.load(state + b * k + i), tl.load(state + b * k + j)
    at = (b * count + n).to(tl.int64)
    tl.store(pair + at * 4, i)
    tl.store(pair + at * 4 + 1, j)
    tl.store(weight + at * 4, 0.5)
    tl.store(weight + at * 4 + 1, 0.5)
    c = tl.arange(0, BLOCK)
    real = c < C
    w0, w1, _w2, _w3 = philox_impl(c.to(tl.uint32), (n * 2).to(tl.uint32), image, time, key0, key1)
    z, _z = normals_of(w0, w1)
    s = tl.load(sigma + (b * k + i).to(tl.int64) * C + c, mask=real, other=0.0)
    s += tl.load(sigma + (b * k + j).to(tl.int64) * C + c, mask=real, other=0.0)
    x = alpha * (0.5 * s) * z
    first, second = (b * 2 * k + i).to(tl.int64) * C + c, (b * 2 * k + j).to(tl.int64) * C + c
    average = 0.5 * (tl.load(means + first, mask=real, other=0.0) + tl.load(means + second, mask=real, other=0.0))
    average += tl.load(masks + 0) * x
    first, second = (b * 2 * k + i).to(tl.int64) * 2 * C + c, (b * 2 * k + j).to(tl.int64) * 2 * C + c
    p = tl.load(covariance + first, mask=real, other=0.0) + tl.load(covariance + second, mask=real, other=0.0)
    row = (b * k + i).to(tl.int64) * k
    g = 2.0 * tl.load(gram + (row + j) * C + c, mask=real, other=0.0)
    g += tl.load(gram + (row + i) * C + c, mask=real, other=0.0)
    row = (b * k + j).to(tl.int64) * k
    g += tl.load(gram + (row + j) * C + c, mask=real, other=0.0)
    variance = tl.maximum(0.25 * g + x * (p + tl.load(masks + 2) * x), 0.0)
    variance = tl.where(real, variance, 0.0)
    tl.store(noise + at * 2 * C + c, x, mask=real)
    tl.store(kappa + at * C + c, average, mask=real)
    r = _settled(average, tl.sum(variance, 0), at, mean, rate, epsilon, c, C)
    tl.store(spread + (b * MADE + n).to(tl.int64) * C + c, r * tl.sqrt(variance), mask=real)


@triton.jit
def _mate(  # type: ignore[no-untyped-def]
    b, m, state, pair, sigma, spread, noise, mean, rate, c, count, k,
    C: tl.constexpr, EXPLORERS: tl.constexpr,
):  # fmt: skip
    """A mate, a parent or an explorer, as it enters half of a refiner.

    Returns two slots in [0, 2k), their weight, the mate's standard deviation per channel, what it adds to the
    coefficients of the second mask, and ½ r μ.
    """
    explorer = m >= k
    e = tl.where(explorer, m - k, 0)
    at = (b * count + e).to(tl.int64)
    slot = tl.load(state + b * k + tl.where(explorer, 0, m))
    first = tl.where(explorer, k + tl.load(pair + at * 4, mask=explorer, other=0), slot)
    second = tl.where(explorer, k + tl.load(pair + at * 4 + 1, mask=explorer, other=0), slot)
    half = tl.where(explorer, 0.5 * tl.load(rate + at, mask=explorer, other=0.0), 0.0)
    weight = tl.where(explorer, 0.5 * half, 0.25)
    mine = tl.load(sigma + (b * k + slot).to(tl.int64) * C + c, mask=(c < C) & (m < k), other=0.0)
    mine += tl.load(spread + (b * EXPLORERS + e).to(tl.int64) * C + c, mask=(c < C) & explorer, other=0.0)
    y = half * tl.load(noise + at * 2 * C + c, mask=(c < C) & explorer, other=0.0)
    away = half * tl.load(mean + at, mask=explorer, other=0.0)
    return first, second, weight, mine, y, away


@triton.jit
def refine(  # type: ignore[no-untyped-def]
    state, sigma, means, covariance, total, images, clock, masks, pair, weight, noise, kappa, mean, rate, spread,
    alpha, count, k, mates, epsilon,
    C: tl.constexpr, BLOCK: tl.constexpr, START: tl.constexpr, MADE: tl.constexpr, CHILD: tl.constexpr,
):  # fmt: skip
    """The refiners: fills pair, weight, noise, kappa, mean and rate. Grid: (B · refiners,)."""
    b, n = tl.program_id(0) // MADE, START + tl.program_id(0) % MADE
    i, j, image, time, key0, key1 = _drawn(b, n, mates, images, clock)
    c = tl.arange(0, BLOCK)
    real = c < C
    i0, i1, wi, si, yi, ai = _mate(b, i, state, pair, sigma, spread, noise, mean, rate, c, count, k, C, START)
    j0, j1, wj, sj, yj, aj = _mate(b, j, state, pair, sigma, spread, noise, mean, rate, c, count, k, C, START)
    w0, w1, _w2, _w3 = philox_impl(c.to(tl.uint32), (n * 2).to(tl.uint32), image, time, key0, key1)
    z, _z = normals_of(w0, w1)
    x = alpha * (0.5 * (si + sj)) * z
    y, away = yi + yj, ai + aj
    if CHILD:
        x -= away
    at = (b * count + n).to(tl.int64)
    tl.store(pair + at * 4, i0)
    tl.store(pair + at * 4 + 1, i1)
    tl.store(pair + at * 4 + 2, j0)
    tl.store(pair + at * 4 + 3, j1)
    tl.store(weight + at * 4, wi)
    tl.store(weight + at * 4 + 1, wi)
    tl.store(weight + at * 4 + 2, wj)
    tl.store(weight + at * 4 + 3, wj)
    row = b * 2 * k
    average = wi * _sum_of(means, row + i0, row + i1, c, C, C)
    average += wj * _sum_of(means, row + j0, row + j1, c, C, C)
    average += tl.load(masks + 0) * x + tl.load(masks + 1) * y
    if not CHILD:
        average -= away
    p = wi * _sum_of(covariance, row + i0, row + i1, c, 2 * C, C)
    p += wj * _sum_of(covariance, row + j0, row + j1, c, 2 * C, C)
    q = wi * _sum_of(covariance + C, row + i0, row + i1, c, 2 * C, C)
    q += wj * _sum_of(covariance + C, row + j0, row + j1, c, 2 * C, C)
    v11, v12, v22 = tl.load(masks + 2), tl.load(masks + 3), tl.load(masks + 4)
    cross = x * (2.0 * p + v11 * x) + y * (2.0 * q + v22 * y + 2.0 * v12 * x)
    total += b.to(tl.int64) * 4 * k * k
    own = _between(total, i0, i1, i0, i1, k) * wi * wi + _between(total, j0, j1, j0, j1, k) * wj * wj
    own += 2.0 * wi * wj * _between(total, i0, i1, j0, j1, k)
    tl.store(noise + at * 2 * C + c, x, mask=real)
    tl.store(noise + at * 2 * C + C + c, y, mask=real)
    tl.store(kappa + at * C + c, average, mask=real)
    _settled(average, own + tl.sum(tl.where(real, cross, 0.0), 0), at, mean, rate, epsilon, c, C)


@triton.jit
def _sum_of(rows, i, j, c, STRIDE: tl.constexpr, C: tl.constexpr):  # type: ignore[no-untyped-def]
    first = tl.load(rows + i.to(tl.int64) * STRIDE + c, mask=c < C, other=0.0)
    return first + tl.load(rows + j.to(tl.int64) * STRIDE + c, mask=c < C, other=0.0)


@triton.jit
def _between(total, i0, i1, j0, j1, k):  # type: ignore[no-untyped-def]
    """Covariance, summed over the channels, of the sums of two pairs of maps."""
    first = tl.load(total + i0 * 2 * k + j0) + tl.load(total + i0 * 2 * k + j1)
    return first + (tl.load(total + i1 * 2 * k + j0) + tl.load(total + i1 * 2 * k + j1))


@triton.jit
def features(  # type: ignore[no-untyped-def]
    maps, pair, weight, noise, kappa, mean, rate, mask, norms, clock, out, count, k,
    C: tl.constexpr, SIDE: tl.constexpr, R: tl.constexpr, ROW: tl.constexpr, RESCORED: tl.constexpr,
    START: tl.constexpr, MADE: tl.constexpr, ROWS: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
    JOIN: tl.constexpr, SCORE: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Children are made, max-pooled and, with SCORE, passed through the network up to the head: fills out.

    A child is a row of a matrix product, of its weights and the parents' maps; its masks are added, and the maximum
    over a window taken, in registers. out: [B, RESCORED + count, cells, C]. JOIN: whether there are weights of the
    second level. ROW: see `norms_of`.
    Grid: (B · row blocks, channel blocks).
    """
    LAST: tl.constexpr = SIDE // R
    Q: tl.constexpr = (R + 1) // 2  # windows of a cell along an axis
    W: tl.constexpr = 1 if R == 1 else 2  # positions of a window along an axis
    NORM: tl.constexpr = SCORE and R > 1
    N: tl.constexpr = SIDE * SIDE
    BLOCKS: tl.constexpr = (MADE + ROWS - 1) // ROWS
    b = tl.program_id(0) // BLOCKS
    row = tl.program_id(0) % BLOCKS * ROWS + tl.arange(0, ROWS)
    used = row < MADE
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    child = (b * count + START + row).to(tl.int64)
    at = child[:, None] * C + c[None, :]
    real = used[:, None] & (c < C)[None, :]

    slot = tl.arange(0, KP)
    first = tl.zeros((ROWS, KP), tl.float32)
    second = tl.zeros((ROWS, KP), tl.float32)
    for t in tl.static_range(4):
        index = tl.load(pair + child * 4 + t, mask=used, other=0)[:, None]
        share = tl.load(weight + child * 4 + t, mask=used, other=0.0)[:, None]
        first += tl.where(index == slot[None, :], share, 0.0)
        if JOIN:
            second += tl.where(index == k + slot[None, :], share, 0.0)
    first = first.to(maps.dtype.element_ty)  # ½ and 1: exact
    high = second.to(maps.dtype.element_ty)
    low = (second - high.to(tl.float32)).to(maps.dtype.element_ty)

    x1 = tl.load(noise + child[:, None] * (2 * C) + c[None, :], mask=real, other=0.0)
    x2 = x1
    if JOIN:
        x2 = tl.load(noise + child[:, None] * (2 * C) + C + c[None, :], mask=real, other=0.0)
    mu = tl.load(mean + child, mask=used, other=0.0)
    scale = tl.load(rate + child, mask=used, other=0.0)
    nothing = (mu + scale) * 0.0  # but NaN for a child that is not finite, which GELU would hide
    shift = tl.load(kappa + at, mask=real, other=0.0) - mu[:, None]
    s0 = tl.full((BLOCK,), 1.0, tl.float32)
    t0 = tl.zeros((BLOCK,), tl.float32)
    if NORM:
        norms = norms_of(norms, clock, ROW)
        s0, t0 = tl.load(norms + c, mask=c < C, other=0.0), tl.load(norms + C + c, mask=c < C, other=0.0)
    shift = shift * (scale[:, None] * s0[None, :]) + t0[None, :]

    e = tl.arange(0, W * W)
    column = tl.arange(0, W * W * BLOCK)
    channel = tl.program_id(1) * BLOCK + column % BLOCK
    offset = (column // BLOCK // W * SIDE + column // BLOCK % W) * C + channel
    there = (slot < k)[:, None] & (channel < C)[None, :]
    maps += b.to(tl.int64) * (2 * k * N * C)
    rows = slot[:, None] * (N * C)
    high_y = tl.full((ROWS, BLOCK), float("-inf"), tl.float32)
    low_y = tl.full((ROWS, BLOCK), float("inf"), tl.float32)
    for window in tl.range(LAST * LAST * Q * Q, num_stages=STAGES):
        cell, q = window // (Q * Q), window % (Q * Q)
        s = (cell // LAST * R + q // Q * W) * SIDE + cell % LAST * R + q % Q * W
        base = tl.load(maps + s * C + rows + offset[None, :], mask=there, other=0.0)
        x = tl.dot(first, base, input_precision=PRECISION)
        if JOIN:
            base = tl.load(maps + (k * N + s) * C + rows + offset[None, :], mask=there, other=0.0)
            x = tl.dot(high, base, x, input_precision=PRECISION)
            x = tl.dot(low, base, x, input_precision=PRECISION)
        x = tl.reshape(x, (ROWS, W * W, BLOCK))
        p = s + e // W * SIDE + e % W
        x += x1[:, None, :] * tl.load(mask + p)[None, :, None]
        if JOIN:
            x += x2[:, None, :] * tl.load(mask + N + p)[None, :, None]
        y = tl.max(x, 1) * (scale[:, None] * s0[None, :]) + shift
        if NORM:
            s1, t1 = (
                tl.load(norms + 2 * C + c, mask=c < C, other=0.0),
                tl.load(norms + 3 * C + c, mask=c < C, other=0.0),
            )
            y = gelu(y) * s1[None, :] + t1[None, :]
            # GELU falls, then rises: over the windows of a cell it is largest at its largest or smallest argument.
            high_y = tl.where(q == 0, y, tl.maximum(high_y, y))
            if Q > 1:
                low_y = tl.where(q == 0, y, tl.minimum(low_y, y))
        if q == Q * Q - 1:
            if NORM:
                y = gelu(high_y)
            if Q > 1:
                y = tl.maximum(y, gelu(low_y))
            if R > 2:
                more = norms + 4 * C
                s2, t2 = tl.load(more + c, mask=c < C, other=0.0), tl.load(more + C + c, mask=c < C, other=0.0)
                more += 2 * C
                s3, t3 = tl.load(more + c, mask=c < C, other=0.0), tl.load(more + C + c, mask=c < C, other=0.0)
                y = gelu(gelu(y * s2[None, :] + t2[None, :]) * s3[None, :] + t3[None, :])
            to = out + (child + (b + 1) * RESCORED)[:, None] * (LAST * LAST * C) + cell * C + c[None, :]
            tl.store(to, y + nothing[:, None], mask=real)


@triton.jit
def remake(  # type: ignore[no-untyped-def]
    maps, pair, weight, noise, kappa, mean, rate, mask, chosen, state, made, count, k,
    C: tl.constexpr, SIDE: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Selected children, normalised, in the slots that they take: fills made.

    Grid: (B · k, position blocks, channel blocks).
    """
    b, r = tl.program_id(0) // k, tl.program_id(0) % k
    n = tl.load(chosen + b * k + r)
    if n >= 0:
        N: tl.constexpr = SIDE * SIDE
        s = tl.program_id(1) * TILE + tl.arange(0, TILE)
        c = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
        real = (s < N)[:, None] & (c < C)[None, :]
        at = s[:, None] * C + c[None, :]
        child = (b * count + n).to(tl.int64)
        maps += b.to(tl.int64) * (2 * k * N * C)
        x = tl.zeros((TILE, BLOCK), tl.float32)
        for t in range(4):
            index = tl.load(pair + child * 4 + t)
            x += tl.load(weight + child * 4 + t) * tl.load(maps + index * (N * C) + at, mask=real, other=0.0)
        for level in range(2):
            strength = tl.load(noise + child * 2 * C + level * C + c, mask=c < C, other=0.0)
            x += tl.load(mask + level * N + s, mask=s < N, other=0.0)[:, None] * strength[None, :]
        x += tl.load(kappa + child * C + c, mask=c < C, other=0.0)[None, :]
        x = tl.load(rate + child) * (x - tl.load(mean + child))
        slot = tl.load(state + b * k + r)
        tl.store(made + (b * k + slot).to(tl.int64) * (N * C) + at, x, mask=real)


@triton.jit
def enter(  # type: ignore[no-untyped-def]
    made, maps, pooled, sigma, means, covariance, mask, matrix, state, chosen, k,
    C: tl.constexpr, SIDE: tl.constexpr, T: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr,
    POOL: tl.constexpr, SMOOTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """New parents, smoothed: fills maps, sigma, means, covariance; with POOL also pooled.

    Grid: (B · k, channel blocks).
    """
    b, r = tl.program_id(0) // k, tl.program_id(0) % k
    if tl.load(chosen + b * k + r) >= 0:
        N: tl.constexpr = SIDE * SIDE
        slot = tl.load(state + b * k + r)
        c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        p = tl.arange(0, T * T)
        inside = (p // T < SIDE) & (p % T < SIDE)
        s = p // T * SIDE + p % T
        at = s[:, None] * C + c[None, :]
        real = inside[:, None] & (c < C)[None, :]
        x = tl.load(made + (b * k + slot).to(tl.int64) * (N * C) + at, mask=real, other=0.0)
        if POOL:
            CELLS: tl.constexpr = (SIDE // R) * (SIDE // R)
            Q: tl.constexpr = (R + 1) // 2
            row = (b * k + slot).to(tl.int64)
            store_pooled(x, pooled + row * (CELLS * Q * Q * C), c, C, SIDE, T, R, BLOCK)
        d = tl.where(real, x - (tl.sum(x, 0) / N)[None, :], 0.0)
        tl.store(sigma + (b * k + slot).to(tl.int64) * C + c, tl.sqrt(tl.sum(d * d, 0) / N), mask=c < C)
        m1, m2 = tl.load(mask + s, mask=inside, other=0.0), tl.load(mask + N + s, mask=inside, other=0.0)
        for level in tl.static_range(2):
            if SMOOTH:
                x = smoothed(x, matrix, T, BLOCK, PRECISION)
            average = tl.sum(x, 0) / N
            half = tl.where(real, x - average[None, :], 0.0).to(maps.dtype.element_ty)
            row = (b * 2 * k + level * k + slot).to(tl.int64)
            tl.store(maps + row * (N * C) + at, half, mask=real)
            tl.store(means + row * C + c, average, mask=c < C)
            d = half.to(tl.float32)
            tl.store(covariance + row * 2 * C + c, tl.sum(d * m1[:, None], 0) / N, mask=c < C)
            tl.store(covariance + row * 2 * C + C + c, tl.sum(d * m2[:, None], 0) / N, mask=c < C)


@triton.jit
def covary(  # type: ignore[no-untyped-def]
    maps, gram, state, chosen, k,
    C: tl.constexpr, SIDE: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr, UNROLLED: tl.constexpr,
):  # fmt: skip
    """Covariances per channel of new parents and all parents, smoothed once: fills gram.

    Grid: (B · k, channel blocks).
    """
    b, r = tl.program_id(0) // k, tl.program_id(0) % k
    if tl.load(chosen + b * k + r) >= 0:
        N: tl.constexpr = SIDE * SIDE
        slot = tl.load(state + b * k + r)
        c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        other = tl.arange(0, KP)
        real = (other < k)[:, None] & (c < C)[None, :]
        maps += b.to(tl.int64) * (2 * k * N * C)
        products = tl.zeros((KP, BLOCK), tl.float32)
        for start in range(0, N, UNROLLED):
            for step in tl.static_range(UNROLLED):
                s = start + step
                x = tl.load(maps + (slot * N + s) * C + c, mask=(c < C) & (s < N), other=0.0).to(tl.float32)
                at = s * C + other[:, None] * (N * C) + c[None, :]
                y = tl.load(maps + at, mask=real & (s < N), other=0.0).to(tl.float32)
                products += x[None, :] * y
        products /= N
        at = (b * k + slot).to(tl.int64) * k + other
        tl.store(gram + at[:, None] * C + c[None, :], products, mask=real)
        at = (b * k + other).to(tl.int64) * k + slot
        tl.store(gram + at[:, None] * C + c[None, :], products, mask=real)


@triton.jit
def covary_all(  # type: ignore[no-untyped-def]
    maps, partial, chosen, k,
    NUMBERS: tl.constexpr, PART: tl.constexpr, KP: tl.constexpr, MAPS: tl.constexpr, TERMS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of products of all maps, of both levels, over a part of a map's numbers: fills partial [B, parts, 2k, 2k].

    Of images with a new parent alone. Grid: (B, parts).
    """
    b = tl.program_id(0)
    r = tl.arange(0, KP)
    if tl.max(tl.load(chosen + b * k + r, mask=r < k, other=-1), 0) >= 0:
        i = tl.arange(0, MAPS)
        maps += b.to(tl.int64) * (2 * k * NUMBERS)
        products = tl.zeros((MAPS, MAPS), tl.float32)
        for start in tl.range(0, PART, TERMS, num_stages=3):
            t = start + tl.arange(0, TERMS)
            n = tl.program_id(1) * PART + t
            mask = (i < 2 * k)[:, None] & ((t < PART) & (n < NUMBERS))[None, :]
            x = tl.load(maps + i[:, None] * NUMBERS + n[None, :], mask=mask, other=0.0)
            products = tl.dot(x, tl.trans(x), products, input_precision=PRECISION)
        to = partial + (b * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * (4 * k * k)
        both = (i < 2 * k)[:, None] & (i < 2 * k)[None, :]
        tl.store(to + i[:, None] * (2 * k) + i[None, :], products, mask=both)


@triton.jit
def collect(  # type: ignore[no-untyped-def]
    partial, total, parts, k, positions, BLOCK: tl.constexpr, PARTS: tl.constexpr
):  # fmt: skip
    """Covariances of all maps, summed over the channels: fills total. Grid: (B, blocks of pairs)."""
    b = tl.program_id(0)
    at, part = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, PARTS)
    pairs = 4 * k * k
    rows = (b * parts + part).to(tl.int64) * pairs
    mask = (part < parts)[:, None] & (at < pairs)[None, :]
    both = tl.sum(tl.load(partial + rows[:, None] + at[None, :], mask=mask, other=0.0), 0) / positions
    tl.store(total + b.to(tl.int64) * pairs + at, both, mask=at < pairs)


@triton.jit
def select(  # type: ignore[no-untyped-def]
    losses, state, next_state, chosen, best_losses, history, clock, generations, count, k,
    BLOCK: tl.constexpr, PARENTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """§3.1: the next parents of an image, best first; ties go to the earlier candidate. Grid: (B,).

    A parent that is selected again keeps its slot; the children take the slots of parents that are not.
    """
    b = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    mine, rank = ranked(losses + b * (k + count), k + count, BLOCK, CHUNK)
    wins = (rank < k) & (i < k + count)
    parent = i < k
    born = tl.cumsum((wins & (i >= k)).to(tl.int32), 0) - 1
    p = tl.arange(0, PARENTS)
    slot = tl.load(state + b * k + p, mask=p < k, other=0)
    # The rank of parent p is taken from that of candidate p.
    place = tl.sum(tl.where(p[:, None] == i[None, :], rank[None, :], 0), 1)
    gone = ((place >= k) & (p < k)).to(tl.int32)
    free = tl.cumsum(gone, 0) - 1
    is_free = (gone[None, :] != 0) & (free[None, :] == born[:, None])
    taken = tl.sum(tl.where(is_free, slot[None, :], 0), 1)
    kept = tl.load(state + b * k + i, mask=parent, other=0)
    tl.store(next_state + b * k + rank, tl.where(parent, kept, taken), mask=wins)
    tl.store(chosen + b * k + rank, tl.where(parent, -1, i - k), mask=wins)
    tl.store(best_losses + b * k + rank, mine, mask=wins)
    generation = (tl.load(clock) & 0xFFFFFF).to(tl.int32)
    tl.store(history + b * generations + generation - 1 + i * 0, mine, mask=rank == 0)
