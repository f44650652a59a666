"""One training run (§4.2, A.3): from labels (SGD) or from searched targets; validation picks the epoch."""

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repsearch import metrics
from repsearch.learning.augment import augment
from repsearch.learning.objective import block_losses, head_loss, search_based_loss
from repsearch.learning.optimiser import Nesterov
from repsearch.learning.precision import choose
from repsearch.learning.runs import chosen, drawn, flat, has_runs
from repsearch.learning.settings import Training, Variant
from repsearch.network import BatchNorm, Network, Outputs, Shape
from repsearch.search.recipe import BLOCKS

log = logging.getLogger(__name__)


@dataclass
class Split:
    """One part of a data set.

    images: [N, C, H, W] float32, normalised; labels: [N] int64 in 0 … classes-1, both on the training device.
    targets: search layer (`SEARCH_LAYERS`) → its searched representations, [N, …] of `Shape.layer_shapes`, or
    [N, runs, …] of several runs (`runs`), on any device and of any float type; for the layers that the run learns or
    traces.

    Images and maps whose channels are the last axis in memory (torch.channels_last) are computed with as they are;
    others are rearranged, batch by batch.
    """

    images: Tensor
    labels: Tensor
    targets: Mapping[str, Tensor]


@dataclass
class TrainingResult:
    """What `train` returns.

    epochs: one row per epoch, with the losses per example and the traces of §4.5. epoch_chosen: from 1. Accuracies are
    in [0, 1]. weights: those of the epoch chosen, a state dictionary on the CPU.
    """

    epochs: list[dict[str, float]]
    epoch_chosen: int
    validation_accuracy: float
    test_accuracy: float
    weights: dict[str, Tensor]


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """cuDNN measures its algorithms once per shape and takes the fastest: batches have two sizes at most."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@_fastest_convolutions()
def train(
    network: Network,
    train_split: Split,
    validation: Split,
    test: Split,
    settings: Training,
    variant: Variant,
    seed: int,
    flip: bool = False,
    pad: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    state: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] = lambda state: None,
) -> TrainingResult:
    """Train on `train_split`, keep the epoch with the best validation accuracy and test it once (§4.2, A.3).

    settings: start from `defaults(variant.learns)`, for example `replace(defaults("targets"), epochs=20)`: with the
    step sizes of labels, learning from targets fails without an error.
    variant: what is learned; one that learns targets needs those of its blocks and of the logits in `train_split`.
    Where `validation` has targets, every epoch is compared with them (§4.5), and those of all blocks must be there; of
    several runs, the distances are means over them.
    seed: draws the composition of the batches, which are the same in every epoch, and the augmentation.
    flip, pad: augmentation of the training images (`augment`). progress: wraps the epochs' numbers.
    save: is called with the run's complete state after each epoch; a run that is given one of these as `state` resumes
    there, with the same result. The network is trained in place.
    Raises ValueError, naming the argument, where the arguments don't fit together, and FloatingPointError when the loss
    is no longer finite.
    """
    _check_arguments(network.shape, {"train_split": train_split, "validation": validation, "test": test}, variant)
    _check_composition(network.shape, len(train_split.images), settings)
    if not 0 <= pad < network.shape.size:
        raise ValueError(f"pad must be from 0 to {network.shape.size - 1} for these images, not {pad}")
    device = train_split.images.device
    settings = replace(settings, precision=choose(settings.precision, device))
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    norm_gelu = _norm_gelu(device)
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.fused = norm_gelu
    train_split, validation = (
        replace(split, targets=chosen(split.targets, settings.runs)) for split in (train_split, validation)
    )
    targets, runs = flat(train_split.targets)
    batches = fixed_batches(len(train_split.images), settings.batch, seed)
    optimiser = Nesterov(network, settings, len(batches))
    rows: list[dict[str, float]] = []
    best: dict[str, Any] = {"accuracy": -1.0, "epoch": 0, "weights": {}}
    stateful: dict[str, Any] = {"network": network, "optimiser": optimiser}
    if state is not None:
        rows, best = state["rows"], state["best"]
        if settings.evaluation == "recalibrated":  # the network has the buffers that it has after an epoch
            _fresh_statistics(network)
            network.eval()
        for name, owner in stateful.items():
            owner.load_state_dict(state[name])
    log.info(
        "training on %d images in %d batches", len(train_split.images), len(batches),
        extra={"done": len(rows), "total": settings.epochs},
    )  # fmt: skip
    for epoch in progress(range(len(rows) + 1, settings.epochs + 1)):
        network.train()
        network.whiten.bias.requires_grad_(epoch <= settings.whitening_bias_epochs)  # type: ignore[union-attr]
        randomness = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        rows_of_targets = drawn(len(train_split.images), runs, seed, epoch).to(device)
        sums: dict[str, Tensor] = {}
        for members in batches:
            members = members.to(device)
            images = augment(train_split.images[members], flip, pad, randomness)
            outputs = _forward(network, images, settings, variant.learns == "targets")
            terms: dict[str, Tensor] = {}
            if variant.learns == "labels":
                loss = F.cross_entropy(outputs.logits.float(), train_split.labels[members], reduction="none")
            elif variant.learns == "logits":
                loss = head_loss(outputs.logits, _rows(targets["logits"], rows_of_targets[members]))
            else:
                loss, terms = _target_losses(outputs, targets, rows_of_targets[members], settings, variant)
            scale = 1 if settings.learning_rate_scaling == "decoupled" else 1 / len(members)  # R5: sum, or mean
            optimiser.zero_grad()
            (loss.sum() * scale).backward()
            optimiser.step()
            for name, values in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0) + values.detach().sum()
        row = {f"train_{name}": float(total) / len(train_split.images) for name, total in sums.items()}
        if not math.isfinite(row["train_loss"]):
            raise FloatingPointError(
                f"the training loss is {row['train_loss']} in epoch {epoch}: lower learning_rate "
                f"({settings.learning_rate}) or check learning_rate_scaling and squared_norm"
            )
        _prepare_evaluation(network, train_split, batches, settings)
        row |= _evaluate(network, validation, settings)
        rows.append({"epoch": epoch, **row})
        if row["validation_accuracy"] > best["accuracy"]:
            weights = copy.deepcopy(network.state_dict())
            best = {"accuracy": row["validation_accuracy"], "epoch": epoch, "weights": weights}
        log.info(
            "epoch %d of %d: loss %.4g, validation %.1f %%",
            epoch, settings.epochs, row["train_loss"], 100 * row["validation_accuracy"],
            extra={"done": epoch, "total": settings.epochs},
        )  # fmt: skip
        save({**{name: owner.state_dict() for name, owner in stateful.items()}, "rows": rows, "best": best})
    network.load_state_dict(best["weights"])
    test_accuracy = float((predict(network, test.images, settings).argmax(1) == test.labels).float().mean())
    weights = {name: value.cpu() for name, value in best["weights"].items()}
    return TrainingResult(rows, best["epoch"], best["accuracy"], test_accuracy, weights)


def _compiled(device: torch.device) -> bool:
    """Whether the steps besides the convolutions are Triton's (`gpu`)."""
    return device.type == "cuda" and find_spec("triton") is not None


def _norm_gelu(device: torch.device) -> Callable[[Tensor, Tensor, float], Tensor]:
    if _compiled(device):
        from repsearch.learning.gpu.functions import norm_gelu
    else:
        from repsearch.learning.norm_gelu import norm_gelu
    return norm_gelu


def _check_arguments(shape: Shape, splits: Mapping[str, Split], variant: Variant) -> None:
    """Raise ValueError, naming the argument, where a split doesn't fit the network or lacks targets."""
    for name, split in splits.items():
        images, labels, count = split.images, split.labels, len(split.images)
        size = (shape.channels, shape.size, shape.size)
        if images.shape[1:] != size or not count or not images.is_floating_point():
            raise ValueError(f"{name}.images must be [N, {', '.join(map(str, size))}] floats, not {_described(images)}")
        if labels.shape != (count,) or labels.dtype != torch.int64:
            raise ValueError(f"{name}.labels must be [{count}] int64, not {_described(labels)}")
        if not 0 <= int(labels.min()) <= int(labels.max()) < shape.classes:
            raise ValueError(f"{name}.labels must be from 0 to {shape.classes - 1}, the network's classes")
        needed: Sequence[str] = ()
        counts: set[int] = set()
        if name == "train_split" and variant.learns != "labels":
            needed = [*(BLOCKS[block] for block in variant.blocks), "logits"]
        elif name == "validation" and split.targets:
            needed = BLOCKS
        for layer in needed:
            values, wanted = split.targets.get(layer), [count, *shape.layer_shapes[layer]]
            runs = values.shape[1:2] if values is not None and has_runs(values) else []
            if values is None or list(values.shape) != [count, *runs, *wanted[1:]] or not values.is_floating_point():
                actual = "missing" if values is None else _described(values)
                raise ValueError(f"{name}.targets[{layer!r}] must be {wanted} floats, not {actual}")
            counts.add(runs[0] if runs else 1)
        if len(counts) > 1:
            raise ValueError(f"{name}.targets must have the same number of runs in every layer, not {sorted(counts)}")


def _check_composition(shape: Shape, count: int, settings: Training) -> None:
    """Raise ValueError where the smallest training batch gives BatchNorm a single value per channel."""
    smallest = count // -(-count // settings.batch)
    if smallest * shape.map_sizes[-1] ** 2 < 2:
        raise ValueError(
            f"settings.batch ({settings.batch}) makes batches of a single image, whose last maps have one value per "
            "channel: BatchNorm needs more"
        )


def _described(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def fixed_batches(count: int, size: int, seed: int | None) -> list[Tensor]:
    """Indices 0 … count-1 in batches of at most `size`: shuffled by `seed`, or in order where it is None.

    Their sizes differ by at most one, so that none is too small for BatchNorm's statistics.
    """
    order = (
        torch.arange(count) if seed is None else torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    )
    return [torch.from_numpy(part) for part in np.array_split(order.numpy(), -(-count // size))]


def _target_losses(
    outputs: Outputs, targets: Mapping[str, Tensor], rows: Tensor, settings: Training, variant: Variant
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of each example, [B], of a variant that learns targets, and its terms by name, [B] each (§4.2).

    rows: [B], of the examples' targets.
    """
    names = [BLOCKS[block] for block in variant.blocks]
    blocks = [
        _block_loss(outputs.maps[block], targets[name], rows, settings.squared_norm)
        for block, name in zip(variant.blocks, names, strict=True)
    ]
    head = head_loss(outputs.logits, _rows(targets["logits"], rows))
    denominator = len(variant.blocks) if settings.denominator == "supervised" else len(BLOCKS)  # R13
    loss = search_based_loss(blocks, head, settings.kl_weight, denominator)
    return loss, {**dict(zip(names, blocks, strict=True)), "kl": head}


def _block_loss(computed: Tensor, targets: Tensor, rows: Tensor, squared_norm: str) -> Tensor:
    """`block_losses` of one block, [B]; in one pass where the targets lie on a GPU, channels-last."""
    ready = targets.device == computed.device and targets.is_contiguous(memory_format=torch.channels_last)
    if ready and _compiled(computed.device):
        from repsearch.learning.gpu.functions import squared_errors

        errors = squared_errors(computed, targets, rows)
        return errors / computed[0].numel() if squared_norm == "mean" else errors
    return block_losses([computed], [_rows(targets, rows)], squared_norm)[0]


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values[rows.to(values.device)].to(rows.device, non_blocking=True)


def _prepare_evaluation(network: Network, split: Split, batches: list[Tensor], settings: Training) -> None:
    """R4 `batch`: BatchNorm keeps using each batch's statistics; `recalibrated`: the training batches' averages."""
    if settings.evaluation == "batch":
        return
    norms = _fresh_statistics(network)
    for norm in norms:
        norm.track_running_stats, norm.momentum = True, None  # None: cumulative average
    network.train()
    with torch.no_grad():
        for members in batches:
            _forward(network, split.images[members.to(split.images.device)], settings)
    for norm in norms:
        norm.track_running_stats = False  # the next epoch's training leaves them alone
    network.eval()


def _fresh_statistics(network: Network) -> list[nn.BatchNorm2d]:
    """Give every BatchNorm empty buffers for running statistics. Returns the BatchNorms."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        channels, device = norm.num_features, norm.bias.device
        norm.register_buffer("running_mean", torch.zeros(channels, device=device), persistent=True)
        norm.register_buffer("running_var", torch.ones(channels, device=device), persistent=True)
        norm.register_buffer("num_batches_tracked", torch.tensor(0, device=device), persistent=True)
    return norms


def _forward(network: Network, images: Tensor, settings: Training, stop_gradient: bool = False) -> Outputs:
    """maps: what is compared with the targets (R8)."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        outputs: Outputs = network(
            images.contiguous(memory_format=torch.channels_last), stop_gradient, settings.compare == "before_gelu"
        )
    return outputs


@torch.no_grad()
def evaluated(network: Network, images: Tensor, settings: Training) -> Outputs:
    """Outputs in float32 for all images [N, C, H, W], evaluated in fixed batches in index order (R4)."""
    batches = []
    for members in fixed_batches(len(images), settings.evaluation_batch, None):
        out = _forward(network, images[members.to(images.device)], settings)
        batches.append(Outputs([maps.float() for maps in out.maps], out.logits.float()))
    maps = [torch.cat([batch.maps[block] for batch in batches]) for block in range(len(BLOCKS))]
    return Outputs(maps, torch.cat([batch.logits for batch in batches]))


@torch.no_grad()
def predict(network: Network, images: Tensor, settings: Training) -> Tensor:
    """Logits [N, K] without keeping the maps."""
    batches = fixed_batches(len(images), settings.evaluation_batch, None)
    return torch.cat([_forward(network, images[b.to(images.device)], settings).logits.float() for b in batches])


@torch.no_grad()
def _evaluate(network: Network, split: Split, settings: Training) -> dict[str, float]:
    """Validation accuracy and loss; where the split has targets, also the traces of figures 5 to 7 (§4.5)."""
    if not split.targets:
        logits = predict(network, split.images, settings)
        traces: dict[str, float] = {}
    else:
        outputs = evaluated(network, split.images, settings)
        logits = outputs.logits
        traces = _traces(outputs, split, settings)
    accuracy = (logits.argmax(1) == split.labels).float().mean()
    loss = F.cross_entropy(logits, split.labels)
    return {"validation_accuracy": float(accuracy), "validation_cross_entropy": float(loss), **traces}


def _traces(outputs: Outputs, split: Split, settings: Training) -> dict[str, float]:
    """Each block's squared error and cosine distance to its targets, and its collision entropies in nats (§4.5)."""
    traces = {}
    for name, compared in zip(BLOCKS, outputs.maps, strict=True):
        maps = compared if settings.compare == "after_gelu" else F.gelu(compared)  # R8
        values = split.targets[name]
        of_runs = [targets.to(compared.device) for targets in (values.unbind(1) if has_runs(values) else [values])]
        losses = [float(block_losses([compared], [x], settings.squared_norm)[0].mean()) for x in of_runs]
        distances = [float(metrics.cosine_distance(maps, x).mean()) for x in of_runs]
        traces[f"validation_{name}"] = sum(losses) / len(losses)
        traces[f"cosine_distance_{name}"] = sum(distances) / len(distances)
        within, between = metrics.class_collision_entropies(metrics.cosine_gram(maps), split.labels)
        traces[f"within_class_{name}"], traces[f"between_class_{name}"] = within, between
    return traces
