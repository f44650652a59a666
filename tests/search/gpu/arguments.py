"""Arguments of the GPU's `evolve` that have the right shapes and no content."""

from typing import Any

import torch

from repsearch.network import Shape
from repsearch.search.network import Tail
from repsearch.search.recipe import BLOCKS, Recipe


def empty(recipe: Recipe, shape: Shape, layer: int, batch: int = 2) -> tuple[Any, ...]:
    """Arguments of the right shapes for `evolve`."""
    blocks, positions = len(BLOCKS) - 1 - layer, shape.map_sizes[-1] ** 2
    head = torch.zeros(shape.classes, positions, shape.width)
    rows = max(2, recipe.layers[layer].generations) if recipe.reevaluates else 1
    norms, reevaluate = torch.zeros(rows, blocks, 2, 2, shape.width), recipe.reevaluates and blocks > 0
    tail = Tail(norms, head, torch.zeros(shape.classes), reevaluate)
    maps = torch.zeros(batch, recipe.parents, *shape.layer_shapes[BLOCKS[layer]])
    return (
        tail,
        torch.zeros(batch, dtype=torch.int64),
        recipe,
        torch.arange(batch),
        layer,
        maps,
        maps.new_zeros(batch, recipe.parents),
    )
