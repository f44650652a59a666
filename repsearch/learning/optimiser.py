"""Nesterov SGD (A.3) with the lineage's step sizes and schedule (R5, R7).

The step is that of `torch.optim.SGD`, to the bit. Its class is not used because the first one that is made imports
PyTorch's compiler, which takes two of the eight CPU-seconds of a run of the demo.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from repsearch.learning.settings import Training


class Group(NamedTuple):
    """Parameters that share a learning rate (before the schedule) and the weight decay that goes with it."""

    parameters: list[nn.Parameter]
    learning_rate: float
    weight_decay: float


class Nesterov:
    """The trained parameters of a network, their momentum, and the number of steps taken.

    batches: per epoch. decoupled (R5): the learning rate is per 1024 examples of a sum-reduced loss, divided by
    1 + 1 / (1 - momentum), the factor by which Nesterov momentum lengthens a step; so is the weight decay.
    """

    def __init__(self, network: nn.Module, settings: Training, batches: int) -> None:
        per_step = 1024 * (1 + 1 / (1 - settings.momentum))
        rate = settings.learning_rate / (per_step if settings.learning_rate_scaling == "decoupled" else 1)
        decay = settings.weight_decay * settings.batch / per_step
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self.groups = []
        for is_norm, scale in ((True, settings.bias_scale), (False, 1.0)):
            chosen, lr = [p for name, p in named if ("norm" in name) == is_norm], rate * scale
            self.groups.append(Group(chosen, lr, decay / lr if lr else 0.0))
        self.momentum = settings.momentum
        self.factor = triangle(settings.epochs * batches) if settings.schedule == "triangle" else lambda step: 1.0
        self.steps = 0
        self.buffers: dict[Tensor, Tensor] = {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.groups for parameter in group.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters that have a gradient."""
        for group in self.groups:
            moved: list[Tensor] = [p for p in group.parameters if p.grad is not None]
            buffers = [self.buffers.get(p) for p in moved]
            sgd(  # fills in the buffers that are None
                moved, [p.grad for p in moved], buffers, lr=group.learning_rate * self.factor(self.steps),  # type: ignore[misc]
                momentum=self.momentum, weight_decay=group.weight_decay, dampening=0.0, nesterov=True, maximize=False,
            )  # fmt: skip
            self.buffers |= {p: buffer for p, buffer in zip(moved, buffers, strict=True) if buffer is not None}
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The momentum of each parameter (None before its first step), and the number of steps."""
        return {"buffers": [self.buffers.get(parameter) for parameter in self.parameters], "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        pairs = zip(self.parameters, state["buffers"], strict=True)
        self.buffers = {parameter: buffer for parameter, buffer in pairs if buffer is not None}


def triangle(steps: int, start: float = 0.2, end: float = 0.07, peak: float = 0.23) -> Callable[[int], float]:
    """R7, the lineage's schedule: step → factor of the learning rate, from `start` to 1 at `peak`, then to `end`.

    peak: a fraction of the steps. Both slopes are linear.
    """
    corners, values = [0, max(1, int(peak * steps)), max(2, steps)], [start, 1.0, end]
    return lambda step: float(np.interp(step, corners, values))
