"""The genetic operators of §3.1 and A.4, one function an equation. Maps are [..., C, H, W], logits [..., K]."""

from functools import lru_cache

import torch
from torch import Tensor

EPSILON = 1e-5  # A.4, normalisation


def crossover(first: Tensor, second: Tensor) -> Tensor:
    """A.4: H̃ = ½ (H_p1 + H_p2)."""
    return 0.5 * (first + second)


def channel_std(maps: Tensor) -> Tensor:
    """σ_{b,c}, "per-channel standard deviation": over space, [..., C, H, W] → [..., C]."""
    return maps.std((-2, -1), correction=0)


def class_std(logits: Tensor) -> Tensor:
    """σ_b of the logits: standard deviation across classes, [..., K] → [...]."""
    return logits.std(-1, correction=0)


def mutation_noise(normals: Tensor, sigma: Tensor, alpha: float) -> Tensor:
    """A.4: ε ~ N(0, (α σ_{b,c})²) for maps.

    normals: [..., C, 1, 1] (R1 `channel`: one value a channel, constant over space) or [..., C, H, W] (`element`);
    sigma: [..., C], the average standard deviation of the two parents.
    """
    return alpha * sigma[..., None, None] * normals


@lru_cache(maxsize=32)
def pool_matrix(size: int, passes: int, count_padding: bool) -> Tensor:
    """A^passes, float64 [size, size]: one pass of 3-wide average pooling along one axis is the tridiagonal A."""
    step = torch.zeros(size, size, dtype=torch.float64)
    for offset in (-1, 0, 1):
        step += torch.diag(torch.ones(size - abs(offset), dtype=torch.float64), offset)
    step = step / 3 if count_padding else step / step.sum(1, keepdim=True)
    return torch.linalg.matrix_power(step, passes)


def smooth(maps: Tensor, passes: int, count_padding: bool = True) -> Tensor:
    """A.4: `passes` times 3 × 3 average pooling, stride 1, padding 1.

    Pooling is linear and separable, so k passes are A^k X (A^k)ᵀ, here one product with the Kronecker square.
    count_padding: whether the padding's zeros count in the mean (R10; PyTorch's default, darkens borders).
    """
    if passes == 0:
        return maps
    height, width = maps.shape[-2:]
    rows, columns = pool_matrix(height, passes, count_padding), pool_matrix(width, passes, count_padding)
    operator = torch.kron(rows, columns).to(maps)  # [HW, HW]
    return (maps.flatten(-2) @ operator.mT).unflatten(-1, (height, width))


def normalise(maps: Tensor) -> Tensor:
    """A.4: (H̃ - μ_b) / √(v_b + 1e-5), mean and variance over channels and space, each candidate by itself."""
    variance, mean = torch.var_mean(maps, (-3, -2, -1), correction=0, keepdim=True)
    return (maps - mean) * torch.rsqrt(variance + EPSILON)


def mutate_maps(
    crossed: Tensor, noise: Tensor, passes: int, smoothed: str = "child", count_padding: bool = True
) -> Tensor:
    """§3.1 for ℓ < 3: add the noise, smooth (R2: the whole child, or the noise alone), normalise."""
    if smoothed == "child":
        return normalise(smooth(crossed + noise, passes, count_padding))
    return normalise(crossed + smooth(noise, passes, count_padding))


def mutate_logits(crossed: Tensor, normals: Tensor, sigma: Tensor, alpha: float) -> Tensor:
    """A.4 for ℓ = 3: H̃ + ε, ε ~ N(0, (α σ_b)²) for each class, then recentred to zero mean over the classes.

    crossed, normals: [..., K]; sigma: [...]. The mean is taken after the noise is added.
    """
    child = crossed + alpha * sigma[..., None] * normals
    return child - child.mean(-1, keepdim=True)
