"""How the statistics of a search network are frozen (R3): a second, literal version."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.network import ConvGroup, Network

NAMES = ("block0", "block1", "block2", "logits")
Norm = Callable[[Tensor], Tensor]


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean((0, 2, 3))
    return mean, ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))


def norm_of_batch(x: Tensor, record: list[Tensor] | None = None) -> Tensor:
    mean, variance = batch_moments(x)
    if record is not None:
        record.append(torch.stack([mean, variance]))
    return (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5)


def norm_frozen(statistics: Tensor) -> Norm:
    """Each call applies the next of the frozen statistics."""
    steps: Iterator[Tensor] = iter(statistics)

    def norm(x: Tensor) -> Tensor:
        mean, variance = next(steps)
        return (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5)

    return norm


def stem(network: Network, images: Tensor) -> Tensor:
    return F.gelu(F.conv2d(images, network.whiten.weight, network.whiten.bias))


def block(network: Network, index: int, x: Tensor, norm: Norm) -> Tensor:
    for group in network.blocks[index]:
        assert isinstance(group, ConvGroup)
        x = F.conv2d(x, group.conv1.weight, padding=1)
        if group.pool:
            x = F.max_pool2d(x, 2)
        x = F.gelu(norm(x))
        x = F.gelu(norm(F.conv2d(x, group.conv2.weight, padding=1)))
    return x


def noisy_inputs(images: Tensor, seed: int, noise: float) -> Tensor:
    """One noisy variant of each image: a shift of each channel by `noise` of its deviation."""
    normals = torch.randn(*images.shape[:2], 1, 1, generator=torch.Generator().manual_seed(seed))
    return images + noise * spread(images.flatten(2))[..., None, None] * normals


def calibrate(network: Network, images: Tensor, blur: tuple[int, int]) -> dict[str, Tensor]:
    """R3: each layer's statistics, from its own maps of the (noisy) calibration images, smoothed and normalised."""
    statistics: dict[str, list[Tensor]] = {"input": [], "block0": [], "block1": []}
    maps = block(network, 0, stem(network, images), lambda x: norm_of_batch(x, statistics["input"]))
    for layer in (0, 1):
        name = NAMES[layer]
        for _ in range(blur[layer]):
            maps = F.avg_pool2d(maps, 3, 1, 1)
        maps = x = torch.stack([normalise(candidate) for candidate in maps])
        for index in range(layer + 1, 3):
            x = block(network, index, x, lambda x, name=name: norm_of_batch(x, statistics[name]))
        maps = block(network, layer + 1, maps, norm_frozen(torch.stack(statistics[name])))
    return {start: torch.stack(records) for start, records in statistics.items()}


def normalise(candidate: Tensor) -> Tensor:
    mean = candidate.mean()
    variance = ((candidate - mean) ** 2).mean()
    return (candidate - mean) / torch.sqrt(variance + 1e-5)


def spread(x: Tensor) -> Tensor:
    """Standard deviation over the last axis."""
    return torch.sqrt(((x - x.mean(-1, keepdim=True)) ** 2).mean(-1))
