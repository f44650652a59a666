"""Which path the generations of a block take, and what the fused paths need of the search network.

`dense` (in `search`) is plain torch: any network, any reading. `fused` (`evolve_cpu`, `evolve_gpu`) makes, pools and
scores a child in one pass, for networks whose convolutions after block 0 are identities, as the untrained one's are.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from repsearch.errors import UserError
from repsearch.search.network import BATCH_NORM_EPSILON, SearchNetwork
from repsearch.search.recipe import BLOCKS, Recipe

GPU_SIDE = 32  # of block 0's maps: images up to 66 × 66
SearchPath = Literal["auto", "dense", "fused"]
Evolve = Callable[["Rest", Tensor, Recipe, Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor]]


class Rest(NamedTuple):
    """The network after block ℓ, without its identity convolutions.

    norms: [blocks, 2, 2, C]: scale and shift of the two BatchNorms of each later block. head: [K, positions, C],
    positions of the last map, row by row. bias: [K]. All float32.
    """

    norms: Tensor
    head: Tensor
    bias: Tensor


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


def rest(network: SearchNetwork, layer: int) -> Rest:
    """The rest after block ℓ ∈ {0, 1, 2}."""
    channels, positions = network.shape.width, network.shape.map_sizes[-1] ** 2
    head = network.network.head
    weight = head.weight.detach().float().unflatten(1, (channels, positions)).transpose(1, 2).contiguous()
    bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.detach().float()
    blocks = len(BLOCKS) - 1 - layer
    if not blocks:
        return Rest(weight.new_zeros(0, 2, 2, channels), weight, bias)
    mean, variance = network.statistics[BLOCKS[layer]].float().unbind(1)  # [2 · blocks, C] each
    scale = torch.rsqrt(variance + BATCH_NORM_EPSILON)
    norms = torch.stack([scale, -mean * scale], 1).unflatten(0, (blocks, 2))
    return Rest(norms.contiguous(), weight, bias)
