"""What both paths of the GPU share: parents that are scored anew, the head's cross-entropy, the candidates' order."""

import triton
import triton.language as tl
from torch import Tensor

from repsearch.search.gpu.math import gelu
from repsearch.search.network import Tail

PRECISION = "tf32x3"  # of the tensor cores' products: close to float32. Plain tf32 would round the smoothing's weights


def row_size(tail: Tail) -> int:
    """Numbers from a generation's `Tail.norms` to the next one's: 0 where all generations have the same."""
    return tail.norms[0].numel() if len(tail.norms) > 1 else 0


def launch_rescore(
    pooled: Tensor, sigma: Tensor, state: Tensor, tail: Tail, clock: Tensor, features: Tensor, parents: int
) -> None:
    """The first `parents` rows of an image's features [B, rows, cells, C], by rank: `rescore`."""
    batch, cells, windows, channels = len(pooled), *pooled.shape[2:]
    rows, block, total = 16, min(64, triton.next_power_of_2(channels)), batch * parents * cells
    rescore[(triton.cdiv(total, rows), triton.cdiv(channels, block))](
        pooled, sigma, state, tail.norms, clock, features, total, features.shape[1], parents, pooled.shape[1],
        sigma.shape[1], C=channels, CELLS=cells, WINDOWS=windows, ROW=row_size(tail), ROWS=rows, BLOCK=block,
        num_warps=4,
    )  # fmt: skip


def launch_head(features: Tensor, tail: Tail, labels: Tensor, losses: Tensor) -> None:
    """Cross-entropies from features [B, rows, cells, C]: those of the last `rows` candidates of `losses` [B, k + n]."""
    batch, count = features.shape[:2]
    rows, classes = min(64, max(16, triton.next_power_of_2(count))), len(tail.head)
    head[(batch, triton.cdiv(count, rows))](
        features, tail.head, tail.bias, labels, losses, count, losses.shape[1] - count,
        D=features[0, 0].numel(), K=classes, ROWS=rows, TERMS=32,
        CLASSES=min(64, max(16, triton.next_power_of_2(classes))), PRECISION=PRECISION, num_warps=4,
    )  # fmt: skip


@triton.jit
def norms_of(norms, clock, ROW: tl.constexpr):  # type: ignore[no-untyped-def]
    """`Tail.norms` of the clock's generation. ROW: `row_size`."""
    if ROW > 0:
        norms += ((tl.load(clock) & 0xFFFFFF) - 1) * ROW
    return norms


@triton.jit
def store_pooled(  # type: ignore[no-untyped-def]
    x, to, c, C: tl.constexpr, SIDE: tl.constexpr, T: tl.constexpr, R: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """to [cells, windows, C] ← the maxima of a square tile's 2 × 2 windows by cell, which the next max-pooling joins.

    Only of the positions that reach the head. R = 1: the positions themselves.
    """
    LAST: tl.constexpr = SIDE // R
    Q: tl.constexpr = (R + 1) // 2  # windows of a cell along an axis
    U: tl.constexpr = T if R == 1 else T // 2
    top = x if R == 1 else tl.max(tl.max(tl.reshape(x, (U, 2, U, 2, BLOCK)), 3), 1)
    top = tl.reshape(top, (U * U, BLOCK))
    u = tl.arange(0, U * U)
    h, w = u // U, u % U
    at = (h // Q * LAST + w // Q) * (Q * Q) + h % Q * Q + w % Q
    real = (h < LAST * Q) & (w < LAST * Q)
    mask = real[:, None] & (c < C)[None, :]
    tl.store(to + at[:, None] * C + c[None, :], top.to(to.dtype.element_ty), mask=mask)


@triton.jit
def rescore(  # type: ignore[no-untyped-def]
    pooled, sigma, state, norms, clock, features, total, candidates, k, slots, mates,
    C: tl.constexpr, CELLS: tl.constexpr, WINDOWS: tl.constexpr, ROW: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """R3: parents go through the network up to the head, with this generation's statistics: fills features.

    pooled: [B, slots, cells, windows, C], normalised. sigma: [B, mates, C]. state: [B, slots], the parents' slots by
    rank. features: [B, candidates, cells, C], the first k of an image's candidates being its parents. A row is a cell
    of a parent, `total` their number. Grid: (row blocks, channel blocks).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    used = row < total
    real = used[:, None] & (c < C)[None, :]
    b, r, cell = row // (k * CELLS), row // CELLS % k, row % CELLS
    slot = tl.load(state + b * slots + r, mask=used, other=0)
    norms = norms_of(norms, clock, ROW)
    s0, t0 = tl.load(norms + c, mask=c < C, other=0.0), tl.load(norms + C + c, mask=c < C, other=0.0)
    s1, t1 = tl.load(norms + 2 * C + c, mask=c < C, other=0.0), tl.load(norms + 3 * C + c, mask=c < C, other=0.0)
    at = pooled + ((b * slots + slot) * CELLS + cell).to(tl.int64)[:, None] * (WINDOWS * C) + c[None, :]
    high = gelu(tl.load(at, mask=real, other=0.0) * s0[None, :] + t0[None, :]) * s1[None, :] + t1[None, :]
    low = high
    for window in tl.static_range(1, WINDOWS):
        x = tl.load(at + window * C, mask=real, other=0.0)
        x = gelu(x * s0[None, :] + t0[None, :]) * s1[None, :] + t1[None, :]
        high, low = tl.maximum(high, x), tl.minimum(low, x)
    out = gelu(high)
    if WINDOWS > 1:  # GELU falls, then rises: over the windows it is largest at its largest or smallest argument
        out = tl.maximum(out, gelu(low))
        norms += 4 * C
        s0, t0 = tl.load(norms + c, mask=c < C, other=0.0), tl.load(norms + C + c, mask=c < C, other=0.0)
        s1, t1 = tl.load(norms + 2 * C + c, mask=c < C, other=0.0), tl.load(norms + 3 * C + c, mask=c < C, other=0.0)
        out = gelu(gelu(out * s0[None, :] + t0[None, :]) * s1[None, :] + t1[None, :])
    # Zero, but NaN for a parent that is not finite, which GELU would hide.
    spread = tl.load(sigma + (b * mates + slot).to(tl.int64)[:, None] * C + c[None, :], mask=real, other=0.0)
    to = features + ((b * candidates + r) * CELLS + cell).to(tl.int64)[:, None] * C + c[None, :]
    tl.store(to, out + spread * 0.0, mask=real)


@triton.jit
def head(  # type: ignore[no-untyped-def]
    features, weight, bias, labels, losses, count, before,
    D: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, TERMS: tl.constexpr, CLASSES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """losses[b, before + n] ← cross-entropy of row n of `count`. weight: [K, D]. Grid: (B, row blocks).

    A tile has the rows of one image only, so that its rounding does not depend on the batch. The logarithm of the sum
    is taken in double precision.
    """
    b = tl.program_id(0)
    n = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row = (b * count + n).to(tl.int64)
    label = tl.load(labels + b).to(tl.int32)
    high = tl.full((ROWS,), float("-inf"), tl.float64)
    total = tl.zeros((ROWS,), tl.float64)
    label_logit = tl.zeros((ROWS,), tl.float64)
    for k0 in range(0, K, CLASSES):
        k = k0 + tl.arange(0, CLASSES)
        logits = tl.zeros((ROWS, CLASSES), tl.float32)
        for d0 in range(0, D, TERMS):
            d = d0 + tl.arange(0, TERMS)
            x = tl.load(
                features + row[:, None] * D + d[None, :], mask=(n < count)[:, None] & (d < D)[None, :], other=0.0
            )
            y = tl.load(weight + k[None, :] * D + d[:, None], mask=(k < K)[None, :] & (d < D)[:, None], other=0.0)
            logits = tl.dot(x, y, logits, input_precision=PRECISION)
        z = (logits + tl.load(bias + k, mask=k < K, other=0.0)[None, :]).to(tl.float64)
        z = tl.where((k < K)[None, :], z, float("-inf"))
        higher = tl.maximum(high, tl.max(z, 1))
        total = total * tl.exp(high - higher) + tl.sum(tl.exp(z - higher[:, None]), 1)
        label_logit += tl.sum(tl.where((k == label)[None, :], z, 0.0), 1)
        high = higher
    loss = (high + tl.log(total) - label_logit).to(tl.float32)
    tl.store(losses + b * (before + count) + before + n, loss, mask=n < count)


@triton.jit
def ranked(losses, size, BLOCK: tl.constexpr, CHUNK: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first `size` losses, padded to BLOCK, and their ranks; ties go to the earlier one, what is no number last."""
    i = tl.arange(0, BLOCK)
    mine = tl.load(losses + i, mask=i < size, other=float("inf"))
    mine = tl.where(mine == mine, mine, float("inf"))
    rank = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, size, CHUNK):
        j = start + tl.arange(0, CHUNK)
        other = tl.load(losses + j, mask=j < size, other=float("inf"))
        other = tl.where(other == other, other, float("inf"))
        before = (other[None, :] == mine[:, None]) & (j[None, :] < i[:, None])
        before = (before | (other[None, :] < mine[:, None])) & (j < size)[None, :]
        rank += tl.sum(before.to(tl.int32), 1)
    return mine, rank
