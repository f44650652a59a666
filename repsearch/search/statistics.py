"""A fresh search network (§3.1) and the BatchNorm statistics that are frozen for it (R3)."""

import torch
from torch import Tensor

from repsearch.network import Network, Shape, whitening_filters
from repsearch.search import operators as op
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import BLOCKS, Calibration


@torch.no_grad()
def initialise(shape: Shape, images: Tensor, seed: int, calibration: Calibration) -> SearchNetwork:
    """Whitening, Dirac and Kaiming initialisation, frozen statistics (R3).

    images: [N, C, H, W] normalised training images; the first `calibration.images` of them, or all if there are fewer,
    freeze the statistics. calibration: that of the recipes that will search with this network (`Recipe.calibration`).
    Raises ValueError where the images are not of the network's shape.

    Each search layer's statistics are those of its own initial candidates, one per image, which are smoothed and
    normalised as every child is; the maps of layer ℓ+1 follow from those of layer ℓ. The noise in the images gives a
    channel that is blank in every image a variance: without it, a candidate's channel would be divided by almost
    nothing.
    """
    size = [shape.channels, shape.size, shape.size]
    if list(images.shape[1:]) != size or not len(images):
        raise ValueError(f"images must be [N, {str(size)[1:]} as the network's are, N ≥ 1, not {list(images.shape)}")
    network = SearchNetwork(Network(shape, whitening_filters(images, seed=seed), seed), {})
    images = images[: calibration.images]
    smooth = op.find("smoothing", calibration.smoothing)
    normalise = op.find("normalisation", calibration.normalisation)
    record: list[Tensor] = []
    normals = torch.randn(*images.shape[:2], 1, 1, generator=torch.Generator().manual_seed(seed))
    noisy = images + calibration.noise * op.channel_std(images) * normals
    maps = network.block_of_batch(0, network.network.stem(noisy), record)
    network.statistics["input"] = torch.stack(record)
    for layer in range(len(BLOCKS) - 1):
        if calibration.blur[layer]:
            maps = smooth(maps, calibration.blur[layer], calibration.count_padding)
        maps = normalise(maps)
        record, x = [], maps
        for block in range(layer + 1, len(BLOCKS)):
            x = network.block_of_batch(block, x, record)
        network.statistics[BLOCKS[layer]] = torch.stack(record)
        maps = network.next_map(maps[None], layer, frozen=True)[0]
    return network
