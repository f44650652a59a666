"""The Triton kernels of `element`, where the arrays that they share are listed (`Element`).

A program works on one child (or row) and some channels. `parents` is their number k, `count` the children per image,
of which a launch takes `made`, from number `start` on. A tile of a map is [T · T, channels], the map padded to T × T,
T a power of two ≥ 4, as smoothing and element noise need it. R × R are the positions that the later blocks max-pool,
R = 1, 2 or 4.
"""

import triton
import triton.language as tl
from triton.language.random import philox_impl

from repsearch.search.gpu.kernels import norms_of, ranked, store_pooled
from repsearch.search.gpu.math import element_normals, gelu, smoothed


@triton.jit
def square_child(  # type: ignore[no-untyped-def]
    base, pair, mix, noise, images, clock, mask, matrix, b, n, count, slots, c,
    C: tl.constexpr, SIDE: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    CHILD: tl.constexpr, BLUR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A.4: child n of image b before normalisation, as a square tile, zero outside the map."""
    p = tl.arange(0, T * T)
    h, w = p // T, p % T
    inside = (h < SIDE) & (w < SIDE)
    s = h * SIDE + w
    real = inside[:, None] & (c < C)[None, :]
    child = b * count + n
    first = base + (b * slots + tl.load(pair + child * 2)).to(tl.int64) * (SIDE * SIDE * C)
    second = base + (b * slots + tl.load(pair + child * 2 + 1)).to(tl.int64) * (SIDE * SIDE * C)
    at = s[:, None] * C + c[None, :]
    x = tl.load(first + at, mask=real, other=0.0).to(tl.float32)
    y = tl.load(second + at, mask=real, other=0.0).to(tl.float32)
    m = tl.load(mask + s, mask=inside, other=0.0)
    move = tl.load(mix + child * 3 + 2) * (m if CHILD else inside.to(tl.float32))
    strength = tl.load(noise + child.to(tl.int64) * C + c, mask=c < C, other=0.0)
    z = element_normals(n, tl.load(images + b), clock, c, SIDE, T, BLOCK)
    if BLUR:
        z = smoothed(tl.where(real, z, 0.0), matrix, T, BLOCK, PRECISION)
    rest = tl.where(real, z * strength[None, :], 0.0) + move[:, None]
    return tl.load(mix + child * 3) * x + (tl.load(mix + child * 3 + 1) * y + rest)


@triton.jit
def enter(  # type: ignore[no-untyped-def]
    maps, base, sigma, pooled, matrix, parents, held, slots,
    C: tl.constexpr, SIDE: tl.constexpr, T: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr,
    POOL: tl.constexpr, SMOOTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Makes mates of the first parents; with POOL fills pooled, too.

    maps: [B, held, positions, C] float32, the parents first; pooled: [B, held, cells, windows, C].
    Grid: (B · k, channel blocks).
    """
    b, r = tl.program_id(0) // parents, tl.program_id(0) % parents
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    p = tl.arange(0, T * T)
    inside = (p // T < SIDE) & (p % T < SIDE)
    at = (p // T * SIDE + p % T)[:, None] * C + c[None, :]
    real = inside[:, None] & (c < C)[None, :]
    row = (b * held + r).to(tl.int64)
    x = tl.load(maps + row * (SIDE * SIDE * C) + at, mask=real, other=0.0)
    if POOL:
        LAST: tl.constexpr = SIDE // R
        Q: tl.constexpr = (R + 1) // 2
        store_pooled(x, pooled + row * (LAST * LAST * Q * Q * C), c, C, SIDE, T, R, BLOCK)
    mean = tl.sum(x, 0) / (SIDE * SIDE)
    d = x - inside.to(tl.float32)[:, None] * mean[None, :]
    slot = (b * slots + r).to(tl.int64)
    tl.store(sigma + slot * C + c, tl.sqrt(tl.sum(d * d, 0) / (SIDE * SIDE)), mask=c < C)
    if SMOOTH:
        x = smoothed(x, matrix, T, BLOCK, PRECISION)
    tl.store(base + slot * (SIDE * SIDE * C) + at, x.to(base.dtype.element_ty), mask=real)


@triton.jit
def draw(  # type: ignore[no-untyped-def]
    state, scale, shift, sigma, images, clock, pair, mix, noise, alpha, start, made, count, mates, parents, slots,
    C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The parents of a child and the strength of its mutation: fills pair, mix, noise. Grid: (B · made,)."""
    b, n = tl.program_id(0) // made, start + tl.program_id(0) % made
    child = b * count + n
    image = tl.load(images + b).to(tl.uint32)
    time = tl.load(clock).to(tl.uint32)
    key0, key1 = tl.load(clock + 1).to(tl.uint32), tl.load(clock + 2).to(tl.uint32)
    u0, u1, _u2, _u3 = philox_impl((n * 0).to(tl.uint32), (n * 2 + 1).to(tl.uint32), image, time, key0, key1)
    size = (n * 0 + mates).to(tl.uint32)
    i, j = tl.umulhi(u0, size).to(tl.int32), tl.umulhi(u1, size).to(tl.int32)
    # The slot of an explorer is its number among the mates plus `parents`; `state` holds those of the parents.
    i = tl.where(i < parents, tl.load(state + b * 2 * parents + i, mask=i < parents, other=0), i + parents)
    j = tl.where(j < parents, tl.load(state + b * 2 * parents + j, mask=j < parents, other=0), j + parents)
    tl.store(pair + child * 2, i)
    tl.store(pair + child * 2 + 1, j)
    i, j = b * slots + i, b * slots + j
    tl.store(mix + child * 3, 0.5 * tl.load(scale + i))
    tl.store(mix + child * 3 + 1, 0.5 * tl.load(scale + j))
    tl.store(mix + child * 3 + 2, -0.5 * (tl.load(shift + i) + tl.load(shift + j)))
    c = tl.arange(0, BLOCK)
    s = tl.load(sigma + i.to(tl.int64) * C + c, mask=c < C, other=0.0)
    s += tl.load(sigma + j.to(tl.int64) * C + c, mask=c < C, other=0.0)
    tl.store(noise + child.to(tl.int64) * C + c, alpha * (0.5 * s), mask=c < C)


@triton.jit
def children(  # type: ignore[no-untyped-def]
    base, pair, mix, noise, images, clock, mask, matrix, moments, pooled, start, made, count, parents, slots,
    C: tl.constexpr, SIDE: tl.constexpr, T: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr,
    CHILD: tl.constexpr, BLUR: tl.constexpr, WRITE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Children: fills moments and pooled. Grid: (B · made, channel blocks).

    With WRITE (explorers) the child becomes a mate, too.
    """
    b, n = tl.program_id(0) // made, start + tl.program_id(0) % made
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = square_child(base, pair, mix, noise, images, clock, mask, matrix, b, n, count, slots, c,
                     C, SIDE, T, BLOCK, CHILD, BLUR, PRECISION)  # fmt: skip
    p = tl.arange(0, T * T)
    inside = (p // T < SIDE) & (p % T < SIDE)
    mean = tl.sum(x, 0) / (SIDE * SIDE)
    d = x - inside.to(tl.float32)[:, None] * mean[None, :]
    child = (b * count + n).to(tl.int64)
    tl.store(moments + child * 2 * C + c, mean, mask=c < C)
    tl.store(moments + child * 2 * C + C + c, tl.sum(d * d, 0) / (SIDE * SIDE), mask=c < C)
    LAST: tl.constexpr = SIDE // R
    Q: tl.constexpr = (R + 1) // 2
    store_pooled(x, pooled + child * (LAST * LAST * Q * Q * C), c, C, SIDE, T, R, BLOCK)
    if WRITE:
        if BLUR and CHILD:
            x = smoothed(x, matrix, T, BLOCK, PRECISION)
        to = base + (b * slots + 2 * parents + n).to(tl.int64) * (SIDE * SIDE * C)
        to += (p // T * SIDE + p % T)[:, None] * C + c[None, :]
        tl.store(to, x.to(base.dtype.element_ty), mask=inside[:, None] & (c < C)[None, :])


@triton.jit
def settle(  # type: ignore[no-untyped-def]
    moments, affine, scale, shift, sigma, start, made, count, parents, slots, epsilon,
    C: tl.constexpr, BLOCK: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """Fills affine; with WRITE (explorers) also scale, shift and sigma of the child as a mate. Grid: (B · made,)."""
    b, n = tl.program_id(0) // made, start + tl.program_id(0) % made
    c = tl.arange(0, BLOCK)
    child = b * count + n
    at = moments + child.to(tl.int64) * 2 * C + c
    average = tl.load(at, mask=c < C, other=0.0)
    spread = tl.load(at + C, mask=c < C, other=0.0)
    mean = tl.sum(average, 0) / C
    d = tl.where(c < C, average - mean, 0.0)
    rate = 1.0 / tl.sqrt(tl.sum(spread + d * d, 0) / C + epsilon)
    tl.store(affine + child * 2, mean)
    tl.store(affine + child * 2 + 1, rate)
    if WRITE:
        slot = b * slots + 2 * parents + n
        tl.store(scale + slot, rate)
        tl.store(shift + slot, rate * mean)
        tl.store(sigma + slot.to(tl.int64) * C + c, rate * tl.sqrt(spread), mask=c < C)


@triton.jit
def score(  # type: ignore[no-untyped-def]
    pooled, affine, norms, clock, features, rows, count,
    C: tl.constexpr, CELLS: tl.constexpr, R: tl.constexpr, ROW: tl.constexpr, RESCORED: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Fills features: the tail of the network up to the head, applied to children that are normalised on the way.

    norms: `Tail.norms`; ROW: see `norms_of`. A row is a cell of a child, `rows` their number. features: [B, RESCORED +
    count, cells, C]. Grid: (row blocks, channel blocks).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = (row < rows)[:, None] & (c < C)[None, :]
    child = row // CELLS
    mean = tl.load(affine + child * 2, mask=row < rows, other=0.0)
    rate = tl.load(affine + child * 2 + 1, mask=row < rows, other=0.0)
    shift = -mean * rate
    Q: tl.constexpr = (R + 1) // 2
    at = pooled + row.to(tl.int64)[:, None] * (Q * Q * C) + c[None, :]
    out = tl.load(at, mask=real, other=0.0).to(tl.float32) * rate[:, None] + shift[:, None]
    if R > 1:
        norms = norms_of(norms, clock, ROW)
        s0, t0 = tl.load(norms + c, mask=c < C, other=0.0), tl.load(norms + C + c, mask=c < C, other=0.0)
        s1, t1 = tl.load(norms + 2 * C + c, mask=c < C, other=0.0), tl.load(norms + 3 * C + c, mask=c < C, other=0.0)
        out = gelu(gelu(out * s0[None, :] + t0[None, :]) * s1[None, :] + t1[None, :])
        for q in tl.static_range(1, Q * Q):
            x = tl.load(at + q * C, mask=real, other=0.0).to(tl.float32) * rate[:, None] + shift[:, None]
            out = tl.maximum(out, gelu(gelu(x * s0[None, :] + t0[None, :]) * s1[None, :] + t1[None, :]))
    if R > 2:
        norms += 4 * C
        s0, t0 = tl.load(norms + c, mask=c < C, other=0.0), tl.load(norms + C + c, mask=c < C, other=0.0)
        s1, t1 = tl.load(norms + 2 * C + c, mask=c < C, other=0.0), tl.load(norms + 3 * C + c, mask=c < C, other=0.0)
        out = gelu(gelu(out * s0[None, :] + t0[None, :]) * s1[None, :] + t1[None, :])
    nothing = (mean + rate) * 0.0  # but NaN for a child that is not finite, which GELU would hide
    to = row
    if RESCORED > 0:  # parents come first
        to += (child // count + 1) * (RESCORED * CELLS)
    tl.store(features + to.to(tl.int64)[:, None] * C + c[None, :], out + nothing[:, None], mask=real)


@triton.jit
def select(  # type: ignore[no-untyped-def]
    losses, state, next_state, chosen, best_losses, history, clock, generations, count, parents,
    BLOCK: tl.constexpr, PARENTS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """§3.1: the next parents of an image, best first; ties go to the earlier candidate. Grid: (B,).

    A parent that is selected again keeps its slot. Children take spare slots; those of parents that are not selected
    become spare.
    """
    b = tl.program_id(0)
    size = parents + count
    i = tl.arange(0, BLOCK)
    mine, rank = ranked(losses + b * size, size, BLOCK, CHUNK)
    wins = (rank < parents) & (i < size)
    parent = i < parents
    born = (wins & (i >= parents)).to(tl.int32)
    gone = (parent & (rank >= parents)).to(tl.int32)
    birth, death = tl.cumsum(born, 0) - 1, tl.cumsum(gone, 0) - 1
    state += b * 2 * parents
    next_state += b * 2 * parents
    slot = tl.load(state + i, mask=parent, other=0)
    spare = tl.load(state + parents + birth, mask=born != 0, other=0)
    tl.store(next_state + rank, tl.where(parent, slot, spare), mask=wins)
    tl.store(next_state + parents + death, slot, mask=gone != 0)
    s = tl.arange(0, PARENTS)
    still = (s >= tl.sum(born, 0)) & (s < parents)
    tl.store(next_state + parents + s, tl.load(state + parents + s, mask=still, other=0), mask=still)
    tl.store(chosen + b * parents + rank, tl.where(parent, -1, i - parents), mask=wins)
    tl.store(best_losses + b * parents + rank, mine, mask=wins)
    generation = (tl.load(clock) & 0xFFFFFF).to(tl.int32)
    tl.store(history + b * generations + generation - 1 + i * 0, mine, mask=rank == 0)


@triton.jit
def remake(  # type: ignore[no-untyped-def]
    base, pair, mix, noise, images, clock, mask, matrix, moments, affine, scale, shift, sigma, next_state, chosen,
    pooled, pooled_parents, made, count, parents, slots,
    C: tl.constexpr, SIDE: tl.constexpr, T: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr,
    KEEP: tl.constexpr, PADDED: tl.constexpr, CHILD: tl.constexpr, BLUR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Makes selected children again, as mates. Grid: (B · k, channel blocks).

    KEEP: all of them fill made and pooled_parents, by slot, whose windows are padded to PADDED; else one of rank 0
    fills made [B, 1, positions, C].
    """
    b, r = tl.program_id(0) // parents, tl.program_id(0) % parents
    n = tl.load(chosen + b * parents + r)
    if n >= 0:
        c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        x = square_child(base, pair, mix, noise, images, clock, mask, matrix, b, n, count, slots, c,
                         C, SIDE, T, BLOCK, CHILD, BLUR, PRECISION)  # fmt: skip
        p = tl.arange(0, T * T)
        real = ((p // T < SIDE) & (p % T < SIDE))[:, None] & (c < C)[None, :]
        at = (p // T * SIDE + p % T)[:, None] * C + c[None, :]
        child = b * count + n
        mean, rate = tl.load(affine + child * 2), tl.load(affine + child * 2 + 1)
        parent = tl.load(next_state + b * 2 * parents + r)
        if KEEP:
            row = (b * 2 * parents + parent).to(tl.int64)
            tl.store(made + row * (SIDE * SIDE * C) + at, rate * (x - mean), mask=real)
            Q: tl.constexpr = (R + 1) // 2
            WINDOWS: tl.constexpr = (SIDE // R) * (SIDE // R) * Q * Q
            w = tl.arange(0, PADDED)[:, None]
            kept = (w < WINDOWS) & (c < C)[None, :]
            top = tl.load(pooled + child.to(tl.int64) * (WINDOWS * C) + w * C + c[None, :], mask=kept, other=0.0)
            to = pooled_parents + row * (WINDOWS * C) + w * C + c[None, :]
            tl.store(to, top.to(tl.float32) * rate + (-mean * rate), mask=kept)
        else:
            to = made + b.to(tl.int64) * (SIDE * SIDE * C)
            tl.store(to + at, rate * (x - mean), mask=real & (r == 0))
        slot = b * slots + parent
        spread = tl.load(moments + child.to(tl.int64) * 2 * C + C + c, mask=c < C, other=0.0)
        tl.store(sigma + slot.to(tl.int64) * C + c, rate * tl.sqrt(spread), mask=c < C)
        tl.store(scale + slot, rate)
        tl.store(shift + slot, rate * mean)
        if BLUR and CHILD:
            x = smoothed(x, matrix, T, BLOCK, PRECISION)
        tl.store(base + slot.to(tl.int64) * (SIDE * SIDE * C) + at, x.to(base.dtype.element_ty), mask=real)
