"""The untrained network with which a search evaluates its candidates."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsearch.network import ConvGroup, Network, Shape, whitening_filters
from repsearch.search.recipe import BLOCKS

BATCH_NORM_EPSILON = 1e-5
CPU_CANDIDATES, GPU_CANDIDATES = 16, 64  # that are computed together: at most, at least
PART_NUMBERS = {"cpu": 2**17, "cuda": 2**26}  # of what passes with its own statistics, at a time: for a CPU's cache
# Of a forward pass: mean and variance of each BatchNorm that it meets, [n, 2, C]; or a list, for the statistics of what
# passes (R3 `batch`), [2, C] each, which are appended to it.
Moments = Tensor | list[Tensor]


class Step(NamedTuple):
    """A convolution and the BatchNorm after it, with given statistics: y = scale · conv(x) + shift, [C, 1, 1] each.

    weight: that of the convolution, times scale, so that shift is its bias; None where the convolution is the identity.
    """

    weight: Tensor | None
    scale: Tensor
    shift: Tensor


class Tail(NamedTuple):
    """The network after block ℓ without its identity convolutions: all that the fused paths need of it.

    norms: [rows, blocks, 2, 2, C]: scale and shift of the two BatchNorms of each later block; row g - 1 is for
    generation g, a single row for all of them. head: [K, positions, C], positions of the last map, row by row.
    bias: [K]. All float32. reevaluate: whether every generation scores its parents anew.
    """

    norms: Tensor
    head: Tensor
    bias: Tensor
    reevaluate: bool = False

    @property
    def blocks(self) -> int:
        """How many there are after block ℓ."""
        return self.norms.shape[1]


class SearchNetwork:
    """The weights. The statistics of the BatchNorms are an argument of every pass: R3 says whose they are."""

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)
        convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
        self._identities = set(filter(is_identity, convolutions))
        self._dtype = torch.float32

    @property
    def shape(self) -> Shape:
        return self.network.shape

    @property
    def device(self) -> torch.device:
        return self.network.head.weight.device

    @property
    def later_blocks_are_identities(self) -> bool:
        """Whether the blocks after the first compute without a convolution and a bias, as in the untrained network."""
        modules = list(self.network.blocks[1:].modules())
        biases = [module.bias for module in modules if isinstance(module, nn.BatchNorm2d)]
        convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
        return all(module in self._identities for module in convolutions) and not any(map(torch.any, biases))

    def to(
        self, device: torch.device | str, dtype: torch.dtype = torch.float32, convolutions: torch.dtype | None = None
    ) -> "SearchNetwork":
        """Moves the network, in place. dtype: float64 is for reference runs.

        convolutions: the type of the blocks' convolutions; None: bfloat16 for a float32 network on a GPU, else `dtype`.
        """
        self.network.to(device=device, dtype=dtype)
        bfloat = self.device.type == "cuda" and dtype == torch.float32
        self._dtype = convolutions or (torch.bfloat16 if bfloat else dtype)
        return self

    def first_map(self, images: Tensor, moments: Moments, compiled: bool = False) -> Tensor:
        """Images [M, n, C, H, W] → block 0's output [M, n, 256, 15, 15]. compiled: by `gpu.opening`, where that can."""
        if isinstance(moments, list):
            x = self.network.stem(images.flatten(0, 1))
            return self._block_of_batch(0, x, moments).unflatten(0, images.shape[:2])
        (steps,) = self._steps(range(1), moments)
        weight = steps[0].weight
        if not (compiled and images.is_cuda) or weight is None or len(steps) > 2 or steps[1].weight is not None:
            return per_image(lambda x: self._frozen_block(0, self.network.stem(x), steps).to(images.dtype), images)
        from repsearch.search.gpu.opening import pooled

        rest = [x.flatten() for x in (steps[0].shift, steps[1].scale, steps[1].shift)]

        def forward(x: Tensor) -> Tensor:
            x = self.network.stem(x).to(self._dtype, memory_format=torch.channels_last)
            return pooled(F.conv2d(x, weight, padding=1), *rest)

        return per_image(forward, images)

    def next_map(self, maps: Tensor, layer: int, moments: Moments) -> Tensor:
        """Block ℓ's output [M, n, …] → block ℓ+1's output."""
        return self._blocks(maps, range(layer + 1, layer + 2), moments)

    def logits(self, maps: Tensor, layer: int, moments: Moments) -> Tensor:
        """Candidates of block ℓ, [M, n, C, H, W] → logits [M, n, K] by the rest of the network (M images, n each)."""
        features = self._blocks(maps, range(layer + 1, len(BLOCKS)), moments).flatten(2)
        return per_image(self.network.head, features)

    def logits_of_pooled(self, pooled: Tensor, layer: int, moments: list[Tensor]) -> Tensor:
        """`logits` of candidates of block ℓ ∈ {0, 1} that are max-pooled already, with their own statistics (R3).

        pooled: [M, n, C, H // 2, W // 2]; it is overwritten. For a network whose later blocks are identities.
        """
        x = pooled.flatten(0, 1)
        for index in range(layer + 1, len(BLOCKS)):
            x = self._block_of_batch(index, x, moments, pool=index > layer + 1)
        return per_image(self.network.head, x.flatten(1).unflatten(0, pooled.shape[:2]))

    def pooling_tail(self) -> Tail:
        """In place of `tail` where `logits_of_pooled` scores the candidates: max-pooling alone, without classes."""
        ones = torch.ones(self.shape.width, device=self.device)
        norm = torch.stack([ones, torch.zeros_like(ones)])
        return Tail(norm.expand(1, 1, 2, -1, -1).contiguous(), ones.new_empty(0, 0, len(ones)), ones[:0], True)

    def tail(self, layer: int, moments: Tensor, reevaluate: bool = False) -> Tail:
        """The network after block ℓ ∈ {0, 1, 2}, for a network whose later blocks are identities.

        moments: [rows, 2 · blocks, 2, C], mean and variance of each BatchNorm; rows and `reevaluate` as in `Tail`.
        """
        channels, positions = self.shape.width, self.shape.map_sizes[-1] ** 2
        head = self.network.head
        weight = head.weight.detach().float().unflatten(1, (channels, positions)).transpose(1, 2).contiguous()
        bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.detach().float()
        mean, variance = moments.float().unbind(2)  # [rows, 2 · blocks, C] each
        scale = torch.rsqrt(variance + BATCH_NORM_EPSILON)
        norms = torch.stack([scale, -mean * scale], 2).unflatten(1, (len(BLOCKS) - 1 - layer, 2))
        return Tail(norms.contiguous(), weight, bias, reevaluate)

    def _blocks(self, maps: Tensor, blocks: range, moments: Moments) -> Tensor:
        if isinstance(moments, list):
            x = maps.flatten(0, 1)
            for index in blocks:
                x = self._block_of_batch(index, x, moments)
            return x.unflatten(0, maps.shape[:2])
        steps = self._steps(blocks, moments)

        def forward(x: Tensor) -> Tensor:
            for index, folded in zip(blocks, steps, strict=True):
                x = self._frozen_block(index, x, folded)
            return x.to(maps.dtype)

        return per_image(forward, maps)

    def _steps(self, blocks: range, moments: Tensor) -> list[list[Step]]:
        """The convolutions and BatchNorms of each block."""
        steps = iter(moments)
        return [
            [
                self._fold(convolution, norm.bias, *next(steps))
                for group in self._groups(block)
                for convolution, norm in ((group.conv1, group.norm1), (group.conv2, group.norm2))
            ]
            for block in blocks
        ]

    def _fold(self, convolution: nn.Conv2d, bias: Tensor, mean: Tensor, variance: Tensor) -> Step:
        scale = torch.rsqrt(variance + BATCH_NORM_EPSILON)
        shift = (bias - mean * scale)[:, None, None]
        if convolution in self._identities:
            return Step(None, scale[:, None, None], shift)
        weight = convolution.weight * scale[:, None, None, None]
        return Step(weight.to(self._dtype, memory_format=torch.channels_last), scale[:, None, None], shift)

    def _frozen_block(self, index: int, x: Tensor, steps: list[Step]) -> Tensor:
        """One block of x [n, C, H, W]. BatchNorm commutes with max-pooling, since its scale is positive."""
        convolutions = iter(steps)
        for group in self._groups(index):
            for pool in (group.pool, False):
                step = next(convolutions)
                if step.weight is None:
                    x = F.gelu((max_pool(x) if pool else x) * step.scale + step.shift)
                    continue
                x = x.to(self._dtype, memory_format=torch.channels_last)
                if pool:  # the shift afterwards, on a quarter of the positions
                    x = F.gelu(max_pool(F.conv2d(x, step.weight, padding=1)) + step.shift.to(self._dtype))
                else:
                    x = F.gelu(F.conv2d(x, step.weight, step.shift.flatten().to(self._dtype), padding=1))
        return x

    def _block_of_batch(self, index: int, x: Tensor, moments: list[Tensor], pool: bool = True) -> Tensor:
        """One block of x [n, C, H, W] with the statistics of x itself, which are appended to `moments`.

        pool: False where x is max-pooled already, by a network whose convolutions are identities; x is overwritten.
        """

        def batch_norm_and_gelu(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
            """In place, for x can fill much of the memory."""
            parts = some_at_a_time(x)
            mean, variance = moments_of(parts)
            moments.append(torch.stack([mean, variance]))
            scale = torch.rsqrt(variance + BATCH_NORM_EPSILON)
            for part in parts:
                torch.ops.aten.gelu_(part.mul_(scale[:, None, None]).sub_((mean * scale - norm.bias)[:, None, None]))
            return x

        def convolve(convolution: nn.Conv2d, x: Tensor, pool: bool) -> Tensor:
            """A few at a time: before max-pooling, block 0 has 31 × 31 positions per channel."""
            if convolution in self._identities:
                return torch.cat([max_pool(part) for part in some_at_a_time(x)]) if pool else x
            parts = (
                convolution(part) for part in x.split(CPU_CANDIDATES if x.device.type == "cpu" else GPU_CANDIDATES)
            )
            return torch.cat([max_pool(part) if pool else part for part in parts])

        for group in self._groups(index):
            x = batch_norm_and_gelu(group.norm1, convolve(group.conv1, x, group.pool and pool))
            x = batch_norm_and_gelu(group.norm2, convolve(group.conv2, x, False))
        return x

    def _groups(self, block: int) -> list[ConvGroup]:
        return list(self.network.blocks[block])  # type: ignore[call-overload]


def initialise(shape: Shape, images: Tensor, seed: int) -> SearchNetwork:
    """A fresh search network (§3.1): whitening, Dirac convolutions, a Kaiming head.

    images: [N, C, H, W] normalised training images, N ≥ 1. Raises ValueError where they are not of the network's shape.
    """
    size = [shape.channels, shape.size, shape.size]
    if list(images.shape[1:]) != size or not len(images):
        raise ValueError(f"images must be [N, {str(size)[1:]} as the network's are, N ≥ 1, not {list(images.shape)}")
    return SearchNetwork(Network(shape, whitening_filters(images, seed=seed), seed))


def per_image(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """[M, n, …] → [M, n, …]: the function of some candidates of an image at a time, always equally many.

    So the rounding doesn't depend on M: the order of a sum can depend on the shape of the whole, in reductions as in
    convolutions. On a CPU, so many that they stay in its cache; on a GPU, all of an image, or of some images if they
    are few, if need be with zeros in place of images.
    """
    images, candidates = x.shape[:2]
    if not candidates:
        return function(x.flatten(0, 1)).unflatten(0, (images, 0))
    last = x.movedim(2, -1)  # channels are the last axis in memory, where the function leaves them there
    if x.is_cuda:
        group = max(1, GPU_CANDIDATES // candidates)
        if group > 1:  # the memory's layout must not depend on M, either
            filled = last.new_zeros(-(-images // group) * group, *last.shape[1:])
            filled[:images] = last
            last = filled
        parts = last.flatten(0, 1).split(group * candidates)
    else:
        parts = [part for image in last for part in image.split(CPU_CANDIDATES)]
    done = torch.cat([function(part.movedim(-1, 1)).movedim(1, -1) for part in parts])
    return done[: images * candidates].movedim(-1, 1).unflatten(0, (images, candidates))


def some_at_a_time(x: Tensor) -> Sequence[Tensor]:
    """x [n, …] in parts of about `PART_NUMBERS` numbers."""
    return x.split(max(1, PART_NUMBERS[x.device.type] // x[0].numel()))


def moments_of(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance per channel, [C] each, of maps that come in parts, [n, C, H, W] each."""
    counts = torch.tensor([len(part) for part in parts], device=parts[0].device, dtype=torch.float64)
    shares, means, variances = (counts / counts.sum())[:, None], [], []
    centred = torch.empty_like(max(parts, key=len))
    for part in parts:
        if part.is_cuda:
            variance, mean = torch.var_mean(part, (0, 2, 3), correction=0)
        else:  # where `torch.var_mean` takes several times as long
            mean = part.mean((0, 2, 3))
            variance = torch.sub(part, mean[:, None, None], out=centred[: len(part)]).square_().mean((0, 2, 3))
        means.append(mean)
        variances.append(variance)
    of_parts = torch.stack(means).double()
    mean = (shares * of_parts).sum(0)
    variance = (shares * (torch.stack(variances) + (of_parts - mean).square())).sum(0)
    return mean.to(parts[0].dtype), variance.to(parts[0].dtype)


def max_pool(x: Tensor) -> Tensor:
    """`F.max_pool2d(x, 2)`, which is ten times slower on a CPU unless channels are the last axis in memory."""
    if x.is_cuda:
        return F.max_pool2d(x, 2)
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    rows = torch.maximum(x[..., 0:height:2, :width], x[..., 1:height:2, :width])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def is_identity(convolution: nn.Conv2d) -> bool:
    """Whether the convolution returns its input, as every Dirac-initialised square one does."""
    weight = convolution.weight
    if weight.shape[0] != weight.shape[1] or convolution.bias is not None:
        return False
    return bool(torch.equal(weight.detach(), nn.init.dirac_(torch.empty_like(weight))))
