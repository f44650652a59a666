"""Maps stay as they are in memory, channels last: in another layout a training step takes several times as long."""

import pytest
import torch
from torch import Tensor

from repsearch.learning import training
from repsearch.learning.augment import augment
from repsearch.learning.objective import block_losses


def _last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("flip", "pad"), [(False, 0), (True, 0), (False, 1), (True, 2)])
def test_what_is_stored_with_channels_last_is_never_rearranged(flip: bool, pad: int) -> None:
    """Neither the batch's images, nor its targets, nor the difference from what was computed."""
    images, targets = _last(torch.randn(9, 3, 12, 12)), _last(torch.randn(9, 8, 5, 5).half())
    members = torch.tensor([7, 0, 3, 4])
    batch = augment(images[members], flip, pad, torch.Generator().manual_seed(0))
    chosen = training._rows(targets, members)
    for values in (batch, chosen, _last(torch.randn(4, 8, 5, 5)) - chosen.float()):
        assert values.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("squared_norm", ["mean", "sum"])
def test_the_gradient_of_what_is_stored_with_channels_last_is_too(squared_norm: str) -> None:
    strides = []
    maps, targets = _last(torch.randn(9, 8, 5, 5)).requires_grad_(), _last(torch.randn(9, 8, 5, 5).half())
    computed = maps * 1.0
    computed.register_hook(lambda gradient: strides.append(gradient.is_contiguous(memory_format=torch.channels_last)))
    block_losses([computed], [targets], squared_norm)[0].sum().backward()
    assert strides == [True]
