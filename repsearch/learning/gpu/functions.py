"""What a training step computes besides convolutions, in Triton: BatchNorm with its GELU, and the squared error.

Both are bound by memory, so what counts is bytes. Per number of a bfloat16 map, BatchNorm and GELU move 16: the forward
pass reads x twice (statistics, result) and writes y once, 6; the backward pass reads x and ∂y twice (sums, result) and
writes ∂x once, 10. One operation after the other would move 42, and keep the normalised map too: here the backward pass
computes it again from x. A network with six convolutions per block has 435,000 such numbers per image of 32 × 32
pixels, so a batch of 2,000 moves 13.9 GB: at least 2.9 ms at 4.8 TB/s. The squared error moves 10 bytes per number,
where one operation after the other would move about 50.

Maps are [B, C, H, W] with the channels last in memory: rows of C numbers. Every sum is in float32 and in a fixed order,
so the same batch gives the same bits. Statistics are first taken of `_PROGRAMS` groups of rows, then combined.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from repsearch.learning.gpu import kernels
from repsearch.network import CONSTANT_VARIANCE

_TILE = 2048  # numbers that a program has in registers at a time
_PROGRAMS = 1024  # that share the rows, at most
_CHANNELS = 256  # of a program, at most


def norm_gelu(x: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """GELU(normalised x + bias) with the batch's statistics, as `repsearch.network.BatchNorm` defines it.

    x: [B, C, H, W] float32 or bfloat16, on a GPU. bias: [C] float32. Returns [B, C, H, W], channels-last, of x's type.
    """
    return _NormGelu.apply(x, bias, epsilon)


def squared_errors(computed: Tensor, targets: Tensor, members: Tensor) -> Tensor:
    """‖computed_b - targets[members_b]‖² of each example, with a gradient for `computed`.

    computed: [B, C, H, W]; targets: [N, C, H, W], channels-last, of any float type, on the same GPU; members: [B] int64
    in 0 … N-1. Returns [B] float32. Raises ValueError for targets that are not channels-last.
    """
    if not targets.is_contiguous(memory_format=torch.channels_last):
        raise ValueError("targets must be channels-last")
    return _SquaredErrors.apply(computed, targets, members)


class _NormGelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        channels, rows, (block, height), (programs, share) = _division(x)
        parts, statistics = x.new_empty(2, channels, programs, dtype=torch.float32), _pair(x)
        y = torch.empty_like(x)
        sizes = {"C": channels, "BLOCK": block}
        across = triton.cdiv(channels, block)
        with _on(x):
            kernels.moments[(programs, across)](x, parts, rows, share, **sizes, ROWS=height)
            kernels.combine_moments[(triton.cdiv(channels, 4),)](
                parts, statistics, rows, share, programs, epsilon, C=channels, BLOCK=4, PARTS=_power(programs)
            )
            kernels.apply[(triton.cdiv(rows, height), across)](x, bias, statistics, y, rows, **sizes, ROWS=height)
        ctx.save_for_backward(x, bias, statistics)
        ctx.epsilon = epsilon
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, bias, statistics = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        channels, rows, (block, height), (programs, share) = _division(x)
        parts, sums = x.new_empty(2, channels, programs, dtype=torch.float32), _pair(x)
        result = torch.empty_like(x)
        sizes = {"C": channels, "BLOCK": block}
        across = triton.cdiv(channels, block)
        constant = (CONSTANT_VARIANCE + ctx.epsilon) ** -0.5
        with _on(x):
            kernels.gradient_sums[(programs, across)](
                x, bias, statistics, gradient, parts, rows, share, **sizes, ROWS=height
            )
            kernels.combine_sums[(triton.cdiv(channels, 4),)](
                parts, sums, programs, C=channels, BLOCK=4, PARTS=_power(programs)
            )
            kernels.apply_gradient[(triton.cdiv(rows, height), across)](
                x, bias, statistics, gradient, sums, result, rows, constant, **sizes, ROWS=height
            )
        return result, sums[0], None


class _SquaredErrors(Function):
    @staticmethod
    def forward(ctx: Any, computed: Tensor, targets: Tensor, members: Tensor) -> Tensor:
        computed = computed.contiguous(memory_format=torch.channels_last)
        errors = computed.new_empty(len(computed), dtype=torch.float32)
        with _on(computed):
            kernels.errors[(len(computed),)](computed, targets, members, errors, computed[0].numel(), BLOCK=_TILE)
        ctx.save_for_backward(computed, targets, members)
        return errors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        computed, targets, members = ctx.saved_tensors
        result, numbers = torch.empty_like(computed), computed[0].numel()
        with _on(computed):
            kernels.apply_errors[(len(computed), triton.cdiv(numbers, _TILE))](
                computed, targets, members, gradient.contiguous(), result, numbers, BLOCK=_TILE
            )
        return result, None, None


def _division(x: Tensor) -> tuple[int, int, tuple[int, int], tuple[int, int]]:
    """Channels; rows; (channels, rows) of a tile; (programs, rows of each), where programs share all rows."""
    channels = x.shape[1]
    rows = x.numel() // channels
    block = min(_CHANNELS, _power(channels))
    height = _TILE // block
    share = triton.cdiv(triton.cdiv(rows, _PROGRAMS), height) * height
    return channels, rows, (block, height), (triton.cdiv(rows, share), share)


def _pair(x: Tensor) -> Tensor:
    """Room for two numbers per channel."""
    return x.new_empty(2, x.shape[1], dtype=torch.float32)


def _power(number: int) -> int:
    return int(triton.next_power_of_2(number))


def _on(x: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
