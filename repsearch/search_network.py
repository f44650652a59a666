"""The untrained network that a search evaluates its candidates with, and its frozen BatchNorm statistics (R3)."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsearch.network import ConvGroup, Network, Shape, whitening_filters
from repsearch.operators import channel_std, mutation_noise, normalise
from repsearch.recipe import BLOCKS

BATCH_NORM_EPSILON = 1e-5
Statistics = dict[str, Tensor]  # where the forward pass starts → [n, 2, C]: mean and variance of each BatchNorm met


class SearchNetwork:
    """Weights and frozen statistics. `statistics[start]` serves the pass from `start` ("input" or a block) onwards:

    "input": the two BatchNorms of block 0; "block0": those of blocks 1 and 2; "block1": those of block 2.
    """

    def __init__(self, network: Network, statistics: Statistics) -> None:
        self.network = network.eval().requires_grad_(False)
        self.statistics = statistics
        self._identities = {
            module for module in network.modules() if isinstance(module, nn.Conv2d) and is_identity(module)
        }

    @property
    def shape(self) -> Shape:
        return self.network.shape

    @property
    def later_blocks_are_identities(self) -> bool:
        """Whether the blocks after the first compute without a convolution, as in the untrained network."""
        convolutions = [module for module in self.network.blocks[1:].modules() if isinstance(module, nn.Conv2d)]
        return all(module in self._identities for module in convolutions)

    @property
    def device(self) -> torch.device:
        return self.network.head.weight.device

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "SearchNetwork":
        """A move in place; float64 is for reference runs."""
        self.network.to(device=device, dtype=dtype)
        self.statistics = {start: kept.to(device=device, dtype=dtype) for start, kept in self.statistics.items()}
        return self

    def first_map(self, images: Tensor, frozen: bool) -> Tensor:
        """Images [M, n, C, H, W] → block 0's output [M, n, 256, 15, 15]."""
        norms = self._norms("input", 0) if frozen else None
        each = images.shape[1]
        stem = F.gelu(self._convolve(self.network.whiten, images.flatten(0, 1), each))
        return self._block(0, stem, each, norms).unflatten(0, images.shape[:2])

    def next_map(self, maps: Tensor, layer: int, frozen: bool) -> Tensor:
        """Block ℓ's output [M, n, …] → block ℓ+1's output."""
        norms = self._norms(BLOCKS[layer], layer + 1) if frozen else None
        return self._block(layer + 1, maps.flatten(0, 1), maps.shape[1], norms).unflatten(0, maps.shape[:2])

    def logits(self, maps: Tensor, layer: int, frozen: bool) -> Tensor:
        """Candidates of block ℓ, [M, n, C, H, W] → logits [M, n, K] by the rest of the network (M images, n each)."""
        images, each = maps.shape[:2]
        x = maps.flatten(0, 1)
        for block in range(layer + 1, len(BLOCKS)):
            x = self._block(block, x, each, self._norms(BLOCKS[layer], block) if frozen else None)
        features = x.flatten(1).unflatten(0, (images, -1))
        logits = torch.bmm(features, self.network.head.weight.T.expand(images, -1, -1))  # one product an image
        return logits if self.network.head.bias is None else logits + self.network.head.bias

    def _norms(self, start: str, block: int) -> Sequence[Tensor]:
        """[mean, variance] of the BatchNorms of `block` for a pass that starts at `start`."""
        first = 0 if start == "input" else int(start[-1]) + 1
        each = self.shape.convolutions
        return list(self.statistics[start][(block - first) * each :][:each])

    def _block(
        self, index: int, x: Tensor, each: int, norms: Sequence[Tensor] | None, record: list[Tensor] | None = None
    ) -> Tensor:
        """One block of x [M·n, …]; each: n.

        norms: frozen statistics in order, or None for those of x itself, which `record` then collects.
        """
        steps: Iterator[Tensor] | None = iter(norms) if norms is not None else None

        def batch_norm(x: Tensor) -> Tensor:
            if steps is None:
                variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
                if record is not None:
                    record.append(torch.stack([mean, variance]))
            else:
                mean, variance = next(steps)
            scale = torch.rsqrt(variance + BATCH_NORM_EPSILON)
            return x * scale[:, None, None] - (mean * scale)[:, None, None]

        groups = self.network.blocks[index]
        assert isinstance(groups, nn.ModuleList)
        for group in groups:
            assert isinstance(group, ConvGroup)
            x = self._convolve(group.conv1, x, each)
            if group.pool:
                x = F.max_pool2d(x, 2)
            x = F.gelu(batch_norm(x))
            x = F.gelu(batch_norm(self._convolve(group.conv2, x, each)))
        return x

    def _convolve(self, convolution: nn.Conv2d, x: Tensor, each: int) -> Tensor:
        """One call an image: its shape, and so its rounding, does not depend on how many images there are."""
        if convolution in self._identities:
            return x
        return torch.cat([convolution(part) for part in x.split(each)])


def is_identity(convolution: nn.Conv2d) -> bool:
    """Whether the convolution returns its input, as every Dirac-initialised square one does."""
    weight = convolution.weight
    if weight.shape[0] != weight.shape[1] or convolution.bias is not None:
        return False
    return bool(torch.equal(weight.detach(), nn.init.dirac_(torch.empty_like(weight))))


@torch.no_grad()
def initialise(shape: Shape, images: Tensor, seed: int, calibration: int, noise: float) -> SearchNetwork:
    """A fresh search network (§3.1): whitening, Dirac and Kaiming initialisation, frozen statistics.

    images: [N, C, H, W] normalised training images, of which the first `calibration` calibrate. R3 `frozen`: each
    search layer's statistics come from its own initial candidates, one an image, normalised as every child is; the maps
    of layer ℓ+1 are those that follow from layer ℓ's. noise: of those candidates, in units of the input's deviation by
    channel (R9): without it a channel that is blank in every image would have no variance to divide a candidate's by.
    """
    network = SearchNetwork(Network(shape, whitening_filters(images, seed=seed), seed), {})
    inputs: list[Tensor] = []
    chosen = images[:calibration]
    normals = torch.randn(*chosen.shape[:2], 1, 1, generator=torch.Generator().manual_seed(seed))
    noisy = chosen + mutation_noise(normals, channel_std(chosen), noise)
    maps = network._block(0, network.network.stem(noisy), len(noisy), None, inputs)
    network.statistics["input"] = torch.stack(inputs)
    for layer in range(len(BLOCKS) - 1):
        maps = normalise(maps)
        record: list[Tensor] = []
        x = maps
        for block in range(layer + 1, len(BLOCKS)):
            x = network._block(block, x, len(x), None, record)
        network.statistics[BLOCKS[layer]] = torch.stack(record)
        maps = network.next_map(maps[None], layer, frozen=True)[0]
    return network
