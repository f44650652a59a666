"""Every kernel as the GPU's `evolve` launches it, compiled for a GPU that need not be there."""

from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repsearch.network import Network, Shape
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import Layer, Recipe
from tests.search.gpu.arguments import empty
from tests.triton_without_gpu import INTERPRETED, compile_instead, compiled

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed"),
    pytest.mark.skipif(INTERPRETED, reason="needs Triton's compiler"),
]

PAPER = (Layer(300, 0.3, 5.0, 5), Layer(100, 0.2, 3.0, 1), Layer(100, 0.1, 3.0, 1), Layer(10, 0.1, 1.0, 0))
COMPILED = [
    pytest.param(0, {}, 32, 10, id="paper"),
    *(
        pytest.param(layer, {"mutation": noise}, 32, classes, id=f"{noise}-{layer}", marks=pytest.mark.slow)
        for noise, classes in (("channel", 100), ("element", 10))
        for layer in range(3)
    ),
    pytest.param(0, {"batch_norm": "frozen"}, 32, 10, id="frozen", marks=pytest.mark.slow),
    pytest.param(0, {"smooth": "noise", "mutation": "element"}, 28, 10, id="mnist", marks=pytest.mark.slow),
    pytest.param(1, {"population": 3, "parents": 1, "explorers": 1}, 32, 2, id="ones", marks=pytest.mark.slow),
]
SCORED_TOGETHER = [
    pytest.param(0, {}, 32, id="recorded"),
    pytest.param(1, {"smooth": "noise"}, 28, id="recorded-mnist", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("layer", "reading", "size", "classes"), COMPILED)
def test_the_launches_compile_for_a_gpu(layer: int, reading: dict, size: int, classes: int) -> None:
    """Every kernel as `evolve` launches it, at width 256, for a GPU of compute capability 9.0; no register spills."""
    rescored = {"rescore"} if layer < 2 and reading.get("batch_norm") != "frozen" else set()
    launched(
        f"compile_launches({layer}, {reading!r}, {size}, {classes})",
        KERNELS[reading.get("mutation", "channel")] | rescored,
    )


@pytest.mark.parametrize(("layer", "reading", "size"), SCORED_TOGETHER)
def test_the_launches_that_record_statistics_compile_for_a_gpu(layer: int, reading: dict, size: int) -> None:
    launched(f"compile_launches({layer}, {reading!r}, {size}, 10, True)", KERNELS["channel"] - {"head"})


KERNELS = {
    "channel": {
        *("explore", "refine", "features", "head", "select"),
        *("remake", "enter", "covary", "covary_all", "collect"),
    },
    "element": {"enter", "draw", "children", "settle", "score", "head", "select", "remake"},
}


def launched(call: str, kernels: set[str]) -> None:
    """Asserts that a call of a function of this module launches these kernels, and what they take of a GPU."""
    usage = compiled(f"{__name__}:{call}")
    if usage is None:
        pytest.skip("Triton's assembler is not here")
    assert {name for name, *_ in usage} == kernels
    for name, registers, stack, shared in usage:
        assert stack == 0, f"{name} spills registers"
        assert registers <= 255 and shared <= 100_000, name


def compile_launches(layer: int, reading: dict[str, Any], size: int, classes: int, together: bool = False) -> None:
    from repsearch.search.gpu import channel, channel_kernels, element, element_kernels, kernels
    from repsearch.search.gpu import evolve as evolve_gpu

    channel.channel_kernels = SimpleNamespace(**compile_instead(channel_kernels))
    element.element_kernels = SimpleNamespace(**compile_instead(element_kernels))
    kernels.head, kernels.rescore = (compile_instead(kernels)[name] for name in ("head", "rescore"))
    recipe = Recipe(**{"layers": PAPER, **reading})
    layers = tuple(replace(layer, generations=1) for layer in recipe.layers)
    shape = Shape(channels=3, size=size, classes=classes)
    tail, labels, *rest = empty(replace(recipe, layers=layers), shape, layer)
    if together:
        tail = SearchNetwork(Network(shape, torch.zeros(12, shape.channels, 2, 2))).pooling_tail()
        evolve_gpu.evolve(tail, labels, *rest, lambda pooled, generation: pooled[:, :, 0, 0, 0])
    else:
        evolve_gpu.evolve(tail, labels, *rest)
