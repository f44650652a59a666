"""The genetic operators of §3.1 and A.4, one function per equation. Maps are [..., C, H, W], logits [..., K].

A recipe names its crossover, mutation, smoothing and normalisation: a built-in one from the tables below, or user code
with the same arguments, as `module:function`. For B images with n children each:

    crossover(first, second, random)           two parents [B, n, C, H, W], for the logits [B, n, K] → the same
    mutation(random, sigma, alpha, shape)      → noise [B, n, C, 1, 1] or [B, n, C, H, W]; not called for the logits
    smoothing(maps, passes, count_padding)     [..., C, H, W] → the same; not called for 0 passes
    normalisation(maps)                        [..., C, H, W] → the same

`random` (`randomness.Draws`) is the only source of random numbers that gives the same image the same target in every
batch; an operator may draw from it at most 32 times. A smoothing or normalisation also makes the candidates on which
the search network's statistics are frozen (R3).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from repsearch import extensions
from repsearch.errors import UserError, reason
from repsearch.search.randomness import Draws

EPSILON = 1e-5  # A.4, normalisation


def mean(first: Tensor, second: Tensor, random: Draws) -> Tensor:
    """A.4: H̃ = ½ (H_p1 + H_p2)."""
    return 0.5 * (first + second)


def uniform(first: Tensor, second: Tensor, random: Draws) -> Tensor:
    """Uniform crossover: each channel of a map, each class of the logits, from one of the parents, chosen at random."""
    coins = random.uniforms(first.shape[2])  # [B, n, C, 1, 1]
    return torch.where(coins.view(coins.shape[: first.dim()]) < 0.5, first, second)


def channel(random: Draws, sigma: Tensor, alpha: float, shape: torch.Size) -> Tensor:
    """A.4: ε ~ N(0, (α σ_{b,c})²); R1 `channel`: one value per channel, constant over space.

    sigma: [B, n, C, 1, 1], the average standard deviation of the two parents. shape: [C, H, W] of a child.
    """
    return alpha * sigma * random.normals(shape[0])


def element(random: Draws, sigma: Tensor, alpha: float, shape: torch.Size) -> Tensor:
    """As `channel`, but R1 `element`: one value per channel and position."""
    return alpha * sigma * random.normals(*shape)


def smooth(maps: Tensor, passes: int, count_padding: bool = True) -> Tensor:
    """A.4: `passes` times 3 × 3 average pooling, stride 1, padding 1.

    Pooling is linear and separable, so k passes are A^k X (A^k)ᵀ, here one product with the Kronecker square.
    count_padding: whether the padding's zeros count in the mean (R10; PyTorch's default, darkens borders).
    """
    height, width = maps.shape[-2:]
    rows, columns = smoothing_matrix(height, passes, count_padding), smoothing_matrix(width, passes, count_padding)
    operator = torch.kron(rows, columns).to(maps)  # [HW, HW]
    return (maps.flatten(-2) @ operator.mT).unflatten(-1, (height, width))


@lru_cache(maxsize=32)
def smoothing_matrix(size: int, passes: int, count_padding: bool) -> Tensor:
    """A^passes, float64 [size, size]: one pass of 3-wide average pooling along one axis is the tridiagonal A."""
    step = torch.zeros(size, size, dtype=torch.float64)
    for offset in (-1, 0, 1):
        step += torch.diag(torch.ones(size - abs(offset), dtype=torch.float64), offset)
    step = step / 3 if count_padding else step / step.sum(1, keepdim=True)
    return torch.linalg.matrix_power(step, passes)


def normalise(maps: Tensor) -> Tensor:
    """A.4: (H̃ - μ_b) / √(v_b + 1e-5), mean and variance over channels and space, each candidate by itself."""
    axes = (-3, -2, -1)
    centred = maps - maps.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)  # `torch.var_mean` takes a CPU five times as long
    return centred * torch.rsqrt(variance + EPSILON)


BUILT_IN: dict[str, dict[str, Any]] = {
    "crossover": {"mean": mean, "uniform": uniform},
    "mutation": {"channel": channel, "element": element},
    "smoothing": {"average": smooth},
    "normalisation": {"standard": normalise},
}


def find(field: str, name: str) -> Callable[..., Tensor]:
    """The operator that a recipe's `field` names. Raises UserError where user code can't be loaded, fails, or returns
    anything but finite numbers of the type and the size that it should."""
    return BUILT_IN[field].get(name) or _guarded(field, name, extensions.load(name))


def _guarded(field: str, name: str, operator: Callable[..., Any]) -> Callable[..., Tensor]:
    def guarded(*arguments: Any) -> Tensor:
        like = arguments[1] if field == "mutation" else arguments[0]  # a mutation gets σ
        sizes = [like.shape, *([like.shape[:2] + arguments[3]] if field == "mutation" else [])]
        try:
            result = operator(*arguments)
        except Exception as error:
            raise UserError(f"{name} failed with {type(error).__name__}: {reason(error)}") from error
        if not isinstance(result, Tensor) or result.shape not in sizes or result.dtype != like.dtype:
            returned = f"{list(result.shape)} {result.dtype}" if isinstance(result, Tensor) else type(result).__name__
            expected = " or ".join(str(list(size)) for size in sizes)
            raise UserError(f"{name} returned {returned}, not {expected} {like.dtype}, as a {field} must")
        if not result.isfinite().all():
            raise UserError(f"{name} returned numbers that are not finite")
        return result

    return guarded


# Not named by a recipe:


def channel_std(maps: Tensor) -> Tensor:
    """σ_{b,c}, "per-channel standard deviation": over space, [..., C, H, W] → [..., C, 1, 1]."""
    return maps.std((-2, -1), correction=0, keepdim=True)


def class_std(logits: Tensor) -> Tensor:
    """σ_b of the logits: standard deviation across classes, [..., K] → [..., 1]."""
    return logits.std(-1, correction=0, keepdim=True)


def mutate_logits(crossed: Tensor, normals: Tensor, sigma: Tensor, alpha: float) -> Tensor:
    """A.4 for ℓ = 3: H̃ + ε, ε ~ N(0, (α σ_b)²) for each class, then recentred to zero mean over the classes.

    crossed, normals: [..., K]; sigma: [..., 1]. The mean is taken after the noise is added.
    """
    child = crossed + alpha * sigma * normals
    return child - child.mean(-1, keepdim=True)


def select(population: Tensor, loss: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """§3.1: the top k of each image by fitness, best first; ties go to the earlier candidate.

    population: [B, n, …], loss: [B, n]. A population smaller than `count` is repeated, best first (R16).
    """
    order = torch.argsort(loss, dim=1, stable=True)
    order = order[:, torch.arange(count, device=order.device) % order.shape[1]]
    return take(population, order), loss.gather(1, order)


def take(candidates: Tensor, which: Tensor) -> Tensor:
    """[B, n, …] and [B, m] indices → [B, m, …]."""
    return candidates[torch.arange(len(candidates), device=candidates.device)[:, None], which]
