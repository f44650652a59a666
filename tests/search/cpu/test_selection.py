"""Losses and selection in the compiled path."""

import math

import numpy as np
import torch

from repsearch.search.cpu.selection import cross_entropy, lowest


def test_the_lowest_losses_come_first_and_nan_last() -> None:
    losses = torch.tensor([3.0, math.inf, 0.5, math.nan, 0.5, 2.0, math.nan])
    order = np.empty(7, np.int64)
    lowest(losses.numpy(), order)
    assert order.tolist() == [2, 4, 5, 0, 1, 3, 6]


def test_cross_entropy_is_torch_s_and_sees_nan() -> None:
    logits, bias = torch.randn(2, 5) * 40
    expected = torch.nn.functional.cross_entropy((logits + bias).double(), torch.tensor(3))
    assert np.isclose(cross_entropy(logits.numpy(), bias.numpy(), 3), float(expected), rtol=1e-6)
    logits[1] = math.nan
    assert np.isnan(cross_entropy(logits.numpy(), bias.numpy(), 3))
