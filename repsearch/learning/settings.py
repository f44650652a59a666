"""Settings of a training run: how it optimises (`Training`) and what it learns from (`Variant`)."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Literal, get_args, get_origin


@dataclass(frozen=True)
class Training:
    """How a run optimises; `config.yaml` gives the paper's section or the reading (`docs/readings.md`) of each setting.

    The values here suit a run that learns labels; start from `defaults`, which knows those of both.
    Raises ValueError, naming the field, for a value of the wrong type or out of range.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic, which the core does not import)

    epochs: int = 90
    batch: int = 2000  # images, at most
    learning_rate: float = 4.0
    learning_rate_scaling: Literal["decoupled", "raw"] = "decoupled"  # R5
    momentum: float = 0.85  # Nesterov
    weight_decay: float = 0.0153  # R7
    schedule: Literal["triangle", "constant"] = "triangle"  # R7
    bias_scale: float = 64.0  # R7: learning rate of the BatchNorm biases, relative to the others'
    whitening_bias_epochs: int = 3  # R7
    kl_weight: float = 0.03  # λ
    squared_norm: Literal["mean", "sum"] = "mean"  # R6
    compare: Literal["after_gelu", "before_gelu"] = "after_gelu"  # R8
    denominator: Literal["supervised", "all"] = "supervised"  # R13
    evaluation: Literal["batch", "recalibrated"] = "batch"  # R4
    evaluation_batch: int = 2000  # images, at most
    runs: Literal["draw", "mean", "first"] = "draw"  # of an image's runs: one at random per epoch, the mean, the first
    start: Literal["fresh", "search"] = "fresh"  # R19: weights of its own, or the search network's (depth 1)
    precision: Literal["float32", "bfloat16", "auto"] = "float32"  # of the convolutions; auto: `precision.choose`

    def __post_init__(self) -> None:
        _check_types(self)
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
    """What a network learns from (§4.2): the labels, or the searched targets of `blocks` (0, 1, 2) and of the logits.

    `logits`: the targets' logits alone, through the whole network, as distillation does.
    Raises ValueError, naming the field, for what is neither.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    learns: Literal["labels", "targets", "logits"]
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_types(self)
        if not isinstance(self.blocks, tuple):
            raise ValueError(f"blocks must be a tuple, not {self.blocks!r}")
        if self.learns != "targets" and self.blocks:
            raise ValueError(f"blocks must be empty for a variant that learns {self.learns}")
        if self.learns == "targets" and not self.blocks:
            raise ValueError("blocks must name at least one block for a variant that learns targets")
        if not set(self.blocks) <= {0, 1, 2} or len(set(self.blocks)) != len(self.blocks):
            raise ValueError(f"blocks must be distinct and among 0, 1, 2, not {list(self.blocks)}")


def defaults(learns: Literal["labels", "targets", "logits"]) -> Training:
    """The settings to start from for a variant that learns `labels`, `targets` or `logits` (as labels).

    All are A.3's. What A.3 leaves open of the step sizes has to differ (R5, R7): labels take the lineage's, a learning
    rate that is decoupled from the batch and BatchNorm biases with 64 times the rate. Targets want steps a hundredfold
    larger, A.3's 4.0 on the mean loss, and BatchNorm biases held at 0: large steps of the biases drive each block's
    output towards zero, which lowers the squared error but loses the image (14 % on MNIST in place of 89 %).
    """
    if learns in ("labels", "logits"):
        return Training()
    if learns == "targets":
        return Training(learning_rate_scaling="raw", bias_scale=0.0)
    raise ValueError(f"learns must be labels or targets or logits, not {learns!r}")


def _check_types(settings: Training | Variant) -> None:
    """Raise ValueError, naming the field, for a number of the wrong type and for none of a field's choices."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if get_origin(field.type) is Literal and value not in get_args(field.type):
            raise ValueError(f"{field.name} must be {' or '.join(get_args(field.type))}, not {value!r}")
        if field.type is int and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise ValueError(f"{field.name} must be a whole number, not {value!r}")
        if field.type is float and (isinstance(value, bool) or not isinstance(value, Real)):
            raise ValueError(f"{field.name} must be a number, not {value!r}")
