"""Several searched targets per image, one per run of its search (`Recipe.runs`): which of them a network learns.

Targets are [N, runs, K] or [N, runs, C, H, W] then, and [N, K] or [N, C, H, W] where there is one per image.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def has_runs(values: Tensor) -> bool:
    """Whether targets have an axis of runs: [N, R, K] or [N, R, C, H, W]."""
    return values.dim() in (3, 5)


def chosen(targets: Mapping[str, Tensor], how: str) -> dict[str, Tensor]:
    """The targets with one per image: the first run's, or the mean of all; with `draw`, as they are.

    how: `Training.runs`.
    """
    if how == "draw":
        return dict(targets)
    return {layer: _one(values, how) if has_runs(values) else values for layer, values in targets.items()}


def _one(values: Tensor, how: str) -> Tensor:
    value = values[:, 0] if how == "first" else values.mean(1, dtype=torch.float32).to(values.dtype)
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value.contiguous()


def flat(targets: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """The targets with one row per image and run, [N · runs, …], the runs of an image side by side; and runs."""
    rows = {layer: values.flatten(0, 1) if has_runs(values) else values for layer, values in targets.items()}
    return rows, next((values.shape[1] for values in targets.values() if has_runs(values)), 1)


def drawn(count: int, runs: int, seed: int, epoch: int) -> Tensor:
    """[count] int64: of each image the row of `flat` that it learns in an epoch, of a run that is drawn at random.

    The draw depends on the training seed and the epoch alone; the augmentation has random numbers of its own.
    """
    first = torch.arange(count) * runs
    if runs == 1:
        return first
    # Above the augmentation's seeds; of a seed, torch's generator on a CPU takes the lower 32 bits alone.
    randomness = torch.Generator().manual_seed(2**31 + seed * 1_000_003 + epoch)
    return first + torch.randint(runs, (count,), generator=randomness)
