"""Tiny networks, images and recipes for the core's tests."""

from typing import Any

import torch
from torch import Tensor

from repsearch.network import Network, Shape, whitening_filters
from repsearch.search.calibration import calibrate
from repsearch.search.network import SearchNetwork, initialise
from repsearch.search.recipe import Layer, Recipe
from repsearch.search.statistics import Statistics

SIZE, CLASSES = 17, 4  # 17 → 16 → 8, 4, 2: every map has a spread over space


def images(count: int, size: int = SIZE, channels: int = 3, seed: int = 1) -> Tensor:
    """Random images with some spatial structure, [N, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth + 0.3 * torch.randn(count, channels, size, size, generator=generator)


def labels(count: int, classes: int = CLASSES) -> Tensor:
    return torch.arange(count) % classes


def network(convolutions: int = 2, width: int = 6, size: int = SIZE, channels: int = 3, seed: int = 0) -> Network:
    shape = Shape(channels=channels, size=size, classes=CLASSES, width=width, convolutions=convolutions)
    return Network(shape, whitening_filters(images(20, size, channels), patches=500), seed)


def search_network(width: int = 6, head_bias: bool = False) -> SearchNetwork:
    shape = Shape(channels=3, size=SIZE, classes=CLASSES, width=width, head_bias=head_bias)
    return initialise(shape, images(20), 0)


def shaken(net: SearchNetwork) -> SearchNetwork:
    """A network as after learning: noise on every convolution and on BatchNorm's biases. It takes the dense path."""
    generator = torch.Generator().manual_seed(5)
    for module in net.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight += 0.1 * torch.randn(module.weight.shape, generator=generator)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.bias += 0.3 * torch.randn(module.bias.shape, generator=generator)
    return SearchNetwork(net.network)


def recipe(**changes: Any) -> Recipe:
    """8 candidates: 2 parents, 3 explorers, 3 refiners; 2 or 3 generations."""
    layers = (Layer(3, 0.3, 5.0, 2), Layer(2, 0.2, 3.0, 1), Layer(2, 0.1, 3.0, 1), Layer(2, 0.1, 1.0, 0))
    return Recipe(**{"layers": layers, "population": 8, "parents": 2, "explorers": 3, **changes})


def statistics(net: SearchNetwork, recipe: Recipe, layer: int | None = None) -> Statistics | None:
    """Those of a recipe, from 6 images that are calibrated on; None for `batch_norm: batch`."""
    if not recipe.independent:
        return None
    shape, count = net.shape, 6
    made = images(count, shape.size, shape.channels, seed=2).to(net.device, net.network.head.weight.dtype)
    chosen = (x.to(net.device) for x in (labels(count, shape.classes), torch.arange(1000, 1000 + count)))
    return calibrate(net, made, next(chosen), recipe, next(chosen), layer)
