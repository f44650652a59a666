"""Block 0 of a first population on a GPU: all that follows the first convolution, in one pass.

The convolution of block 0 is the largest tensor of a search: 31 × 31 × 256 numbers per candidate. In bfloat16 a pass
over it takes 25 µs per image of 240 candidates at 4.8 TB/s, with the result's 15 × 15 × 256 in float32 another 11.
"""

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from repsearch.search.gpu.math import gelu


def pooled(x: Tensor, shift: Tensor, scale: Tensor, second_shift: Tensor) -> Tensor:
    """GELU(scale · GELU(max_pool(x) + shift) + second_shift), for a second convolution that is the identity.

    x: [n, C, H, W], channels-last in memory; the others: [C] float32. Returns [n, C, H // 2, W // 2] float32,
    channels-last in memory.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    count, channels, height, width = x.shape
    out = torch.empty(count, height // 2, width // 2, channels, device=x.device)
    rows, block = 32, min(64, triton.next_power_of_2(channels))
    positions = count * (height // 2) * (width // 2)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        pool_twice[(triton.cdiv(positions, rows), triton.cdiv(channels, block))](
            x, shift, scale, second_shift, out, positions, C=channels, H=height, W=width, ROWS=rows, BLOCK=block,
            num_warps=4,
        )  # fmt: skip
    return out.movedim(-1, 1)


@triton.jit
def pool_twice(  # type: ignore[no-untyped-def]
    x, shift, scale, second_shift, out, positions,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Fills out. A row is a position of the result. Grid: (row blocks, channel blocks)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = (row < positions)[:, None] & (c < C)[None, :]
    HALF: tl.constexpr = W // 2
    AREA: tl.constexpr = H // 2 * HALF
    corner = row // AREA * (H * W) + row % AREA // HALF * 2 * W + row % HALF * 2
    at = corner.to(tl.int64)[:, None] * C + c[None, :]
    top = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
    top = tl.maximum(top, tl.load(x + at + C, mask=real, other=0.0).to(tl.float32))
    top = tl.maximum(top, tl.load(x + at + W * C, mask=real, other=0.0).to(tl.float32))
    top = tl.maximum(top, tl.load(x + at + (W + 1) * C, mask=real, other=0.0).to(tl.float32))
    y = gelu(top + tl.load(shift + c, mask=c < C, other=0.0)[None, :])
    s, t = tl.load(scale + c, mask=c < C, other=0.0), tl.load(second_shift + c, mask=c < C, other=0.0)
    tl.store(out + row.to(tl.int64)[:, None] * C + c[None, :], gelu(y * s[None, :] + t[None, :]), mask=real)
