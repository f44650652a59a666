"""The optimiser against `torch.optim.SGD`, and the lineage's step sizes."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from repsearch.learning.optimiser import Nesterov, triangle
from repsearch.learning.settings import Training
from repsearch.network import Network, Shape


def network(seed: int = 0) -> Network:
    return Network(Shape(1, 9, 3, width=2, convolutions=2), torch.ones(8, 1, 2, 2), seed)


def test_triangle_corners() -> None:
    factor = triangle(1000)
    assert [factor(step) for step in (0, 230, 1000)] == pytest.approx([0.2, 1.0, 0.07])
    assert factor(115) == pytest.approx(0.6) and factor(615) == pytest.approx((1 + 0.07) / 2)
    assert all(0 < triangle(steps)(step) <= 1 for steps in (1, 2, 3, 5) for step in range(steps))


@pytest.mark.parametrize("scaling", ["decoupled", "raw"])
def test_learning_rates_follow_the_lineage(scaling: str) -> None:
    """airbench94: kilostep_scale = 1024 · (1 + 1 / (1 - momentum)); lr and decay · batch over it, decay per lr."""
    net = network()
    optimiser = Nesterov(net, Training(learning_rate_scaling=scaling), batches=10)  # type: ignore[arg-type]
    kilostep_scale = 1024 * (1 + 1 / (1 - 0.85))
    lr = 4.0 / kilostep_scale if scaling == "decoupled" else 4.0
    decay = 0.0153 * 2000 / kilostep_scale
    norms, others = optimiser.groups
    assert (norms.learning_rate, others.learning_rate) == pytest.approx((64 * lr, lr))
    assert (norms.weight_decay, others.weight_decay) == pytest.approx((decay / (64 * lr), decay / lr))
    names = {p: name for name, p in net.named_parameters()}
    assert {names[p].rsplit(".", 2)[1] for p in norms.parameters} == {"norm1", "norm2"}
    assert {*optimiser.parameters} == {p for p in net.parameters() if p.requires_grad}


@pytest.mark.parametrize("schedule", ["triangle", "constant"])
@pytest.mark.parametrize("momentum", [0.5, 0.85])
def test_the_step_is_that_of_torch_to_the_bit(schedule: str, momentum: float) -> None:
    """Whatever stops having a gradient meanwhile, and over a saved and restored state."""
    settings = Training(epochs=4, batch=10, momentum=momentum, schedule=schedule, learning_rate_scaling="raw")  # type: ignore[arg-type]
    ours, theirs = network(), network()
    optimiser = Nesterov(ours, settings, batches=5)
    pairs = dict(zip(ours.parameters(), theirs.parameters(), strict=True))
    groups = [
        {"params": [pairs[p] for p in group.parameters], "lr": group.learning_rate, "weight_decay": group.weight_decay}
        for group in optimiser.groups
    ]
    reference = torch.optim.SGD(groups, momentum=momentum, nesterov=True)
    factor = triangle(20) if schedule == "triangle" else lambda step: 1.0
    scheduler = torch.optim.lr_scheduler.LambdaLR(reference, factor)
    for step in range(20):
        for mine, other in pairs.items():
            frozen = step > 7 and mine is ours.whiten.bias
            gradient = torch.randn(mine.shape, generator=torch.Generator().manual_seed(step)) / 100
            mine.grad, other.grad = (None, None) if frozen else (gradient, gradient.clone())
        if step == 12:
            state = optimiser.state_dict()
            optimiser = Nesterov(ours, settings, batches=5)
            optimiser.load_state_dict(state)
        optimiser.step()
        reference.step()
        scheduler.step()
    assert all(torch.equal(mine, other) for mine, other in pairs.items())
    assert not torch.equal(ours.head.weight, network().head.weight)


def test_no_gradient_is_left_after_zero_grad() -> None:
    net = network()
    optimiser = Nesterov(net, replace(Training(), epochs=1), batches=1)
    nn.functional.cross_entropy(net(torch.randn(4, 1, 9, 9)).logits, torch.tensor([0, 1, 2, 0])).backward()
    optimiser.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_step_does_not_import_the_compiler_of_pytorch() -> None:
    script = """
import sys, torch
from repsearch.learning.optimiser import Nesterov
from repsearch.learning.settings import Training
net = torch.nn.Linear(2, 2)
optimiser = Nesterov(net, Training(), 1)
net(torch.ones(3, 2)).sum().backward()
optimiser.step()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
