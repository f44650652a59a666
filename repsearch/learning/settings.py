"""Settings of a training run: how it optimises (`Training`) and what it learns from (`Variant`)."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Training:
    """Settings of a training run; `config.yaml` gives the section or the reading of each."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    epochs: int = 90
    batch: int = 2000
    learning_rate: float = 4.0
    learning_rate_scaling: Literal["decoupled", "raw"] = "decoupled"  # R5
    momentum: float = 0.85
    weight_decay: float = 0.0153  # R7
    schedule: Literal["triangle", "constant"] = "triangle"  # R7
    bias_scale: float = 64.0  # R7: learning rate of the BatchNorm biases, relative to the others'
    whitening_bias_epochs: int = 3  # R7
    kl_weight: float = 0.03  # λ
    squared_norm: Literal["mean", "sum"] = "mean"  # R6
    compare: Literal["after_gelu", "before_gelu"] = "after_gelu"  # R8
    denominator: Literal["supervised", "all"] = "supervised"  # R13
    evaluation: Literal["batch", "recalibrated"] = "batch"  # R4
    evaluation_batch: int = 2000
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "evaluation_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay", "bias_scale", "kl_weight", "whitening_bias_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, not {getattr(self, name)}")
        if not 0 < self.momentum < 1:
            raise ValueError(f"momentum must lie between 0 and 1, exclusive (Nesterov), not {self.momentum}")


@dataclass(frozen=True)
class Variant:
    """What a network learns from: the labels, or the searched targets of `blocks` (0, 1, 2) and of the logits."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    learns: Literal["labels", "targets"]
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.learns == "labels" and self.blocks:
            raise ValueError("blocks must be empty for a variant that learns labels")
        if self.learns == "targets" and not self.blocks:
            raise ValueError("blocks must name at least one block for a variant that learns targets")
        if not set(self.blocks) <= {0, 1, 2} or len(set(self.blocks)) != len(self.blocks):
            raise ValueError(f"blocks must be distinct and among 0, 1, 2, not {list(self.blocks)}")
