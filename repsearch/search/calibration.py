"""R3: the BatchNorm statistics of a recipe's search, taken once from calibration images.

§3.1's pseudocode evaluates the whole population, parents included, in every generation, by a network without running
statistics: so the statistics follow the evolution. `trajectory` records them in such a search of the calibration
images together, and every other search replays them. `frozen` takes them once, before any generation.
"""

import torch
from torch import Tensor

from repsearch.search import operators as op
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import Evolution, check
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import BLOCKS, Recipe
from repsearch.search.statistics import Recorder, Statistics


@torch.no_grad()
def calibrate(
    network: SearchNetwork,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    indices: Tensor,
    layer: int | None = None,
    path: SearchPath = "auto",
) -> Statistics:
    """The statistics that a search by `recipe` needs, from calibration images.

    images, labels, indices: as for `evolution.search`; all of them are used. Of several runs the first is recorded, and
    all share its statistics. layer: None, or the block whose search alone (`evolution.search_one_layer`) they are for.
    path: how the generations of `trajectory` are computed (`backends`).

    Raises ValueError for arguments that don't fit together or a recipe that has no statistics beforehand (`batch_norm:
    batch`), UserError where the fused path is asked for and can't serve.
    """
    check(network, images, labels, indices, layer or 0)
    if not recipe.independent:
        raise ValueError(f"a recipe with batch_norm {recipe.batch_norm!r} has no statistics before its search")
    if recipe.batch_norm != "trajectory":
        return freeze(network, images, recipe)
    recorder = Recorder()
    evolution = Evolution(network, labels, recipe, indices, recorder, path)
    if layer is None:
        evolution.search(images)
    else:
        evolution.evolve(*evolution.open(images, layer), layer)
    return recorder.statistics()


def freeze(network: SearchNetwork, images: Tensor, recipe: Recipe) -> Statistics:
    """R3 `frozen`: each search layer's statistics are those of its own initial candidates, one per image.

    The candidates are smoothed (but for `frozen-unsmoothed`) and normalised as every child is; the maps of layer ℓ+1
    follow from those of layer ℓ. The noise in the images gives a channel that is blank in every image a variance:
    without it, a candidate's channel would be divided by almost nothing.
    """
    smooth, normalise = op.find("smoothing", recipe.smoothing), op.find("normalisation", recipe.normalisation)
    smoothed = recipe.smooth == "child" and recipe.batch_norm != "frozen-unsmoothed"  # R2
    normals = torch.randn(*images.shape[:2], 1, 1, generator=torch.Generator().manual_seed(recipe.seed)).to(images)
    moments: list[Tensor] = []
    noisy = images + recipe.initial_noise * op.channel_std(images) * normals
    maps = network.first_map(noisy[None], moments)[0]
    openings = {0: torch.stack(moments)}
    scorings = {len(BLOCKS) - 1: openings[0][None, :0]}
    for layer in range(len(BLOCKS) - 1):
        if smoothed and recipe.layers[layer].blur:
            maps = smooth(maps, recipe.layers[layer].blur, recipe.count_padding)
        maps = normalise(maps)
        moments = []
        network.logits(maps[None], layer, moments)
        scorings[layer] = torch.stack(moments)[None]
        openings[layer + 1] = scorings[layer][0, : network.shape.convolutions]
        maps = network.next_map(maps[None], layer, openings[layer + 1])[0]
    return Statistics(openings, scorings)
