"""What a child costs at least: the operations, random numbers and bytes that its search layer asks for."""

from typing import NamedTuple

from repsearch.network import Shape
from repsearch.search.recipe import BLOCKS, Recipe

GELU = 30  # operations: two polynomials of degree 6 and 4, a division and the rest
NORM = 2  # a scale and a shift


class Cost(NamedTuple):
    """Of one child, averaged over explorers and refiners. operations: a fused multiply-add counts as two."""

    operations: float
    normals: float
    bytes: float

    def seconds(self, operations: float, normals: float, bandwidth: float) -> float:
        """At the ceilings given, each a second: arithmetic and random numbers share the cores, memory runs beside."""
        return max(self.operations / operations + self.normals / normals, self.bytes / bandwidth)


def child_cost(shape: Shape, recipe: Recipe, layer: int, number_bytes: int) -> Cost:
    """For block `layer` of a network whose later convolutions are identities; maps kept in `number_bytes` a number.

    Read: two parents. Written: an explorer, where refiners draw on explorers. The rest stays in registers or caches.
    """
    channels, side, _ = shape.layer_shapes[f"block{layer}"]
    numbers = channels * side * side
    blur = min(recipe.layers[layer].blur, side - 1)
    smoothing = 2 * 2 * (2 * blur + 1) if blur else 0  # along both axes, a multiply-add a tap
    smoothed = float(recipe.mutation == "element")  # every child's noise; one value per channel is smoothed in advance
    if recipe.smooth == "child" and recipe.refine_from == "parents+explorers":
        smoothed += recipe.explorers / (recipe.explorers + recipe.refiners)
    make = 3 * 2 + 4  # half of each parent and the noise; sums of it and of its square about a first guess
    operations = numbers * (make + smoothed * smoothing)
    normals = numbers if recipe.mutation == "element" else channels
    for block in range(layer + 1, len(BLOCKS)):
        used = shape.map_sizes[block] if block == len(BLOCKS) - 1 else shape.map_sizes[block] // 2 * 2
        operations += channels * used * used * (3 + 2 * (NORM + GELU))  # max-pooling, then BatchNorm and GELU twice
    operations += 2 * channels * shape.map_sizes[-1] ** 2 * shape.classes
    written = recipe.explorers / (recipe.explorers + recipe.refiners) if recipe.refine_from != "parents" else 0.0
    return Cost(operations, normals, number_bytes * numbers * (2 + written))
