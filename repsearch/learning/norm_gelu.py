"""BatchNorm and its GELU as one step of autograd, in PyTorch's own operations: for devices without Triton (`gpu`)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from repsearch.network import CONSTANT_VARIANCE


def norm_gelu(x: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """GELU(normalised x + bias) with the batch's statistics, as `repsearch.network.BatchNorm` defines it.

    x: [B, C, H, W] of any float type. bias: [C] float32, or of x's type. Returns [B, C, H, W] of x's type.
    """
    return _NormGelu.apply(x, bias, epsilon)


class _NormGelu(Function):
    """Autograd's own way passes over the maps six times more: for the bias, and for channels without a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        y, mean, rate = torch.native_batch_norm(x, torch.ones_like(bias), bias, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(x, y, mean, rate)
        ctx.epsilon = epsilon
        return F.gelu(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y, mean, rate = ctx.saved_tensors
        if x.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        gradient = torch.ops.aten.gelu_backward(gradient, y)
        weight = (rate <= (CONSTANT_VARIANCE + ctx.epsilon) ** -0.5).to(rate.dtype)  # 0: a constant channel
        result, _, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, rate, True, ctx.epsilon, [True, False, True]
        )
        return result, of_bias, None
