"""BatchNorm and its GELU as one step of autograd give what `BatchNorm` and PyTorch's autograd give."""

import pytest
import torch
from torch import Tensor

from repsearch.learning.norm_gelu import norm_gelu
from repsearch.network import BatchNorm

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def maps(dtype: torch.dtype = torch.float64) -> Tensor:
    """[5, 4, 6, 6], of which channel 2 is constant and channel 3 far from zero."""
    x = torch.randn(5, 4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 2], x[:, 3] = 0.7, x[:, 3] + 50
    return x.to(dtype)


def computed(x: Tensor, gradient: Tensor, fused: bool) -> list[Tensor]:
    """The result, and the gradients of the maps and of the biases."""
    norm = BatchNorm(x.shape[1]).to(x.dtype if x.dtype == torch.float64 else torch.float32)
    norm.bias.data.copy_(torch.linspace(-1, 1, x.shape[1]))
    norm.fused = norm_gelu if fused else None
    x = x.clone().requires_grad_()
    y = norm.gelu(x)
    y.backward(gradient.to(y.dtype))
    assert x.grad is not None and norm.bias.grad is not None
    return [y.detach(), x.grad, norm.bias.grad]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of_gradient", LAYOUTS)
def test_agrees_with_autograd(layout: torch.memory_format, of_gradient: torch.memory_format) -> None:
    x = maps().contiguous(memory_format=layout)
    gradient = torch.randn(x.shape, dtype=torch.float64).contiguous(memory_format=of_gradient)
    fused, plain = computed(x, gradient, fused=True), computed(x, gradient, fused=False)
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other)
    assert not fused[1][:, 2].any() and fused[1][:, [0, 1, 3]].any(0).all()  # the constant channel passes nothing back
    assert all(each.is_contiguous(memory_format=layout) for each in fused[:2])


def test_agrees_with_finite_differences() -> None:
    x, bias = maps()[:, :2].requires_grad_(), torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x, bias: norm_gelu(x, bias, 1e-5), (x, bias))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_rounds_no_worse(dtype: torch.dtype, error: float) -> None:
    """Against the same numbers in float64: in float32, and with bfloat16 maps and float32 biases."""
    x = maps()[:, :2].to(dtype)
    gradient = torch.randn(x.shape).to(dtype)
    exact = computed(x.double(), gradient.double(), fused=False)
    for one, other in zip(computed(x, gradient, fused=True), exact, strict=True):
        assert (one.double() - other).abs().max() <= error * other.abs().max()
