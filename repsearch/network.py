"""The network of A.1: whitening, three blocks and a linear head.

The search and learning use the same class, with 2 convolutions per block for the search and 2, 4 or 6 for learning. As
A.1 says, it is adapted from cifar10-airbench, which this project calls the lineage.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HeadInit = Literal["default", "kaiming"]
WHITENING_EPSILON = 5e-4  # the lineage's; bounds the filters of near-zero eigenvalues (MNIST's constant borders)
CONSTANT_VARIANCE = 1e-4  # a channel of a smaller variance counts as constant


@dataclass(frozen=True)
class Shape:
    """The sizes of a network: images are [channels, size, size], `width` is the number of channels of every block.

    convolutions: of 3 × 3 per block, an even number (§4.2: 2, 4, 6 are depths 1×, 2×, 3×). head_bias: whether the head
    has one. head_init: Kaiming uniform with PyTorch's `default` for a linear layer (a = √5: weights up to 1 / √inputs)
    or with that of `kaiming_uniform_` itself (a = 0), √6 times larger. Raises ValueError for an
    odd number of convolutions and for images of less than 9 × 9 pixels.
    """

    channels: int
    size: int
    classes: int
    width: int = 256
    convolutions: int = 2
    head_bias: bool = False  # R15
    head_init: HeadInit = "default"  # R18

    def __post_init__(self) -> None:
        if self.head_init not in get_args(HeadInit):
            raise ValueError(f"head_init must be 'default' or 'kaiming', not {self.head_init!r}")
        if self.convolutions < 2 or self.convolutions % 2:
            raise ValueError(f"convolutions must be even and at least 2, not {self.convolutions}")
        if self.map_sizes[-1] < 1:
            raise ValueError(f"images must be at least 9 × 9 pixels, not {self.size} × {self.size}")

    @property
    def map_sizes(self) -> tuple[int, int, int]:
        """Sides of the three blocks' square maps: 15, 7, 3 for 32 × 32 images (A.1), 13, 6, 3 for 28 × 28 (R14)."""
        side, sides = self.size - 1, []
        for _ in range(3):
            side //= 2
            sides.append(side)
        return sides[0], sides[1], sides[2]

    @property
    def layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Search layer → the shape of its representation of one image: [C, H, W] of a block, [K] of the logits."""
        maps = {f"block{i}": (self.width, side, side) for i, side in enumerate(self.map_sizes)}
        return {**maps, "logits": (self.classes,)}


class Outputs(NamedTuple):
    """What a network computes of B images.

    maps: the outputs of the three blocks, [B, C, H, W]; with `before_gelu`, those before the last GELU (R8). logits:
    [B, K].
    """

    maps: list[Tensor]
    logits: Tensor


def whitening_filters(images: Tensor, patches: int = 5000, seed: int = 0) -> Tensor:
    """A.1: filters that whiten 2 × 2 patches, from the eigendecomposition of `patches` random training patches.

    images: [N, C, H, W], normalised. seed: draws the patches. Returns [8C, C, 2, 2] float32: each of the 4C scaled
    eigenvectors and its negative (the lineage's), 24 filters for 3 channels and 8 for one.
    """
    generator = torch.Generator().manual_seed(seed)
    count, channels, height, width = images.shape
    image = torch.randint(count, (patches,), generator=generator)
    top = torch.randint(height - 1, (patches,), generator=generator)
    left = torch.randint(width - 1, (patches,), generator=generator)
    offsets = torch.arange(2)
    rows, columns = (top[:, None] + offsets)[:, None, :, None], (left[:, None] + offsets)[:, None, None, :]
    sample = images[image[:, None, None, None], torch.arange(channels)[None, :, None, None], rows, columns]
    flat = sample.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat.T @ flat / patches)
    scaled = (vectors / torch.sqrt(values.clamp(min=0) + WHITENING_EPSILON)).T.flip(0)
    scaled = scaled.reshape(-1, channels, 2, 2).float()
    return torch.cat([scaled, -scaled])


class ConvGroup(nn.Module):
    """A.1: Conv3×3 → MaxPool2 (first group of a block) → BatchNorm → GELU → Conv3×3 → BatchNorm → GELU."""

    def __init__(self, inputs: int, outputs: int, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.conv1, self.conv2 = _convolution(inputs, outputs), _convolution(outputs, outputs)
        self.norm1, self.norm2 = BatchNorm(outputs), BatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, …]."""
        return self.norm2.gelu(self.conv2(self._first_half(x)))

    def before_gelu(self, x: Tensor) -> Tensor:
        """The same before the last GELU (R8)."""
        before: Tensor = self.norm2(self.conv2(self._first_half(x)))
        return before

    def _first_half(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.norm1.gelu(F.max_pool2d(x, 2) if self.pool else x)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """No bias; PyTorch's default initialisation, then Dirac on the first `inputs` filters (the lineage's, §3.1)."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[:inputs])
    return convolution


class BatchNorm(nn.BatchNorm2d):
    """Weight fixed at 1, bias trained (the lineage's). A.3's momentum 0.6 has no effect, without running statistics.

    A channel that is constant over the batch passes no gradient back. Otherwise its factor 1/√ε = 316 would multiply
    from layer to layer and swamp all other gradients: on MNIST the blank border wins every max-pool of the channels
    where ink is dark, and the first gradient of a network with six convolutions per block was infinite.

    fused: GELU(normalised x + bias) from x, the bias and ε, in one pass, where there is such a function for the device.
    """

    fused: Callable[[Tensor, Tensor, float], Tensor] | None = None

    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)
        self.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], normalised per channel."""
        if not self.training or self.track_running_stats:
            return super().forward(x)
        normal, _, rate = torch.native_batch_norm(
            x, self.weight, None, None, None, True, 0.0, self.eps
        )  # rate: 1 / √(σ² + ε)
        constant = rate > (CONSTANT_VARIANCE + self.eps) ** -0.5
        return torch.where(constant[:, None, None], normal.detach(), normal) + self.bias[:, None, None].to(normal.dtype)

    def gelu(self, x: Tensor) -> Tensor:
        """The GELU of `forward`."""
        if self.fused and self.training and not self.track_running_stats:
            return self.fused(x, self.bias, self.eps)
        return F.gelu(self(x))


class Network(nn.Module):
    """Whitening (frozen weights) → GELU → three blocks → linear head (A.1).

    whitening: what `whitening_filters` returns. seed: draws the initial weights; torch's global generator is untouched.
    """

    def __init__(self, shape: Shape, whitening: Tensor, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.whiten = nn.Conv2d(shape.channels, len(whitening), 2, bias=True)
            self.blocks = nn.ModuleList()
            inputs = len(whitening)
            for _ in range(3):
                groups = [ConvGroup(inputs, shape.width, pool=True)]
                groups += [ConvGroup(shape.width, shape.width, pool=False) for _ in range(shape.convolutions // 2 - 1)]
                self.blocks.append(nn.ModuleList(groups))
                inputs = shape.width
            self.head = nn.Linear(shape.width * shape.map_sizes[-1] ** 2, shape.classes, bias=shape.head_bias)
        with torch.no_grad():
            self.whiten.weight.copy_(whitening)
            nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]
            if shape.head_init == "kaiming":
                self.head.weight.mul_(math.sqrt(6))
        self.whiten.weight.requires_grad_(False)

    def stem(self, images: Tensor) -> Tensor:
        """Whitened images after their GELU: [B, C, H, W] → [B, 8C, H-1, W-1]."""
        return F.gelu(self.whiten(images))

    def forward(self, images: Tensor, stop_gradient: bool = False, before_gelu: bool = False) -> Outputs:
        """images: [B, C, H, W], normalised. stop_gradient: the head reads sg(H⁽²⁾), so that no gradient of the logits
        reaches the blocks (§4.2). before_gelu: return the maps as they are before each block's last GELU (R8).
        """
        x = self.stem(images)
        maps = []
        for block in self.blocks:
            for group in block[:-1]:  # type: ignore[index]
                x = group(x)
            last = block[-1]  # type: ignore[index]
            if before_gelu:
                maps.append(last.before_gelu(x))
                x = F.gelu(maps[-1])
            else:
                x = last(x)
                maps.append(x)
        features = x.detach() if stop_gradient else x
        return Outputs(maps, self.head(features.flatten(1)))
