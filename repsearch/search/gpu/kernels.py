"""What both paths of the GPU share: the head's cross-entropy and the order of the candidates."""

import triton
import triton.language as tl
from torch import Tensor

from repsearch.search.network import Tail

PRECISION = "tf32x3"  # of the tensor cores' products: close to float32. Plain tf32 would round the smoothing's weights


def launch_head(features: Tensor, tail: Tail, labels: Tensor, losses: Tensor, parents: int) -> None:
    """The children's cross-entropies, after the parents' in `losses` [B, k + n], from features [B, n, cells, C]."""
    batch, count = features.shape[:2]
    rows, classes = min(64, max(16, triton.next_power_of_2(count))), len(tail.head)
    head[(batch, triton.cdiv(count, rows))](
        features, tail.head, tail.bias, labels, losses, count, parents,
        D=features[0, 0].numel(), K=classes, ROWS=rows, TERMS=32,
        CLASSES=min(64, max(16, triton.next_power_of_2(classes))), PRECISION=PRECISION, num_warps=4,
    )  # fmt: skip


@triton.jit
def head(  # type: ignore[no-untyped-def]
    features, weight, bias, labels, losses, count, parents,
    D: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, TERMS: tl.constexpr, CLASSES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """losses[b, k + n] ← cross-entropy of child n. weight: [K, D]. Grid: (B, row blocks).

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
    tl.store(losses + b * (parents + count) + parents + n, loss, mask=n < count)


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
