"""Which path the generations of a block take.

`dense` (`evolution`) is plain torch: any network, any reading. `fused` (`cpu.evolve`, `gpu.evolve`) makes, max-pools
and scores a child in one pass, for networks whose convolutions after block 0 are identities, as in the untrained one.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from repsearch.errors import UserError
from repsearch.search.network import SearchNetwork, Tail
from repsearch.search.recipe import Recipe

GPU_SIDE = 32  # of block 0's maps: images up to 66 × 66
SearchPath = Literal["auto", "dense", "fused"]
Evolve = Callable[[Tail, Tensor, Recipe, Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor]]


def choose(network: SearchNetwork, recipe: Recipe, path: SearchPath) -> Evolve | None:
    """The fused path's `evolve` for the device that the network lies on; None for the dense path.

    `auto` is fused where that can serve. Raises UserError where `fused` is asked for and can't.
    """
    why = None if path == "dense" else refusal(network, recipe)
    if path == "dense" or (why and path == "auto"):
        return None
    if why:
        raise UserError(f"search_path: 'fused' can't search, since {why}; set search_path: auto (or dense)")
    if network.device.type == "cuda":
        from repsearch.search.gpu.evolve import evolve
    else:
        from repsearch.search.cpu.evolve import evolve
    return evolve


def refusal(network: SearchNetwork, recipe: Recipe) -> str | None:
    """Why the fused paths can't serve this search; None where they can."""
    on_gpu = network.device.type == "cuda"
    if on_gpu and network.shape.map_sizes[0] > GPU_SIDE:
        return f"maps of more than {GPU_SIDE} × {GPU_SIDE} positions don't fit a GPU's registers"
    compiler = "triton" if on_gpu else "numba"
    if find_spec(compiler) is None:
        return f"the package {compiler} is not installed"
    if not recipe.frozen:
        return "its BatchNorm statistics are the batch's (batch_norm: batch)"
    if network.shape.convolutions != 2 or not network.later_blocks_are_identities:
        return "the network's convolutions are not identities"
    if network.network.head.weight.dtype != torch.float32:
        return "the network is not in single precision"
    return None
