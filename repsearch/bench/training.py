"""The benchmark of training: images per second against the machine's matrix product, and where the time goes."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from repsearch.bench.roofline import ceilings, convolution_operations, machine, wait
from repsearch.learning.precision import choose
from repsearch.learning.settings import Training, Variant
from repsearch.learning.training import Split, train
from repsearch.network import Network, Shape, whitening_filters

VARIANTS = {"sgd": Variant("labels"), "search-all": Variant("targets", (0, 1, 2))}
TRAINING, VALIDATION, EPOCHS = 46_000, 4_000, 90  # A.3: images of CIFAR's training set, and epochs
Progress = Callable[[Iterable[int]], Iterator[int]]


def bench_train(
    device: torch.device, width: int, classes: int, images: int, depths: Sequence[int], precision: str
) -> dict[str, Any]:
    """The duration of training epochs by variant and depth, on random images and targets.

    An epoch is what it is in a run: `images` are trained on and VALIDATION / TRAINING as many are validated on; those
    of search-all have targets, with which every epoch is compared (§4.5).
    depths: 1, 2, 3 (§4.2). precision: float32, bfloat16 or auto. rows: variant, depth, precision, device,
    images_per_second (trained on, in the time of the whole epoch), share_of_ceiling (the convolutions' operations,
    compared with a matrix product's in that precision) and minutes_per_run (EPOCHS of TRAINING images).
    """
    measured, precision = ceilings(device), choose(precision, device)  # type: ignore[arg-type]
    about, rows = machine(device, measured), []
    ceiling = measured.half_operations if precision == "bfloat16" else measured.operations
    for depth in depths:
        for name in VARIANTS:
            shape = Shape(3, 32, classes, width, 2 * depth)
            duration = epoch_seconds(device, shape, images, name, precision)
            operations = epoch_operations(shape, images)
            row = {"variant": name, "depth": depth, "precision": precision, "device": about["device"]}
            row["images_per_second"] = round(images / duration, 1)
            row["share_of_ceiling"] = round(operations / duration / ceiling, 3)
            row["minutes_per_run"] = round(TRAINING * EPOCHS * duration / images / 60, 2)
            rows.append(row)
    settings = {"width": width, "classes": classes, "images": images, "validation_images": _validation(images)}
    return {"machine": about, "settings": settings, "rows": rows}


def epoch_seconds(
    device: torch.device, shape: Shape, images: int, name: str, precision: str, batch: int = Training.batch
) -> float:
    """The duration of an epoch of a variant, one of `VARIANTS`, when all is compiled."""
    stamps: list[float] = []

    def timed(epochs: Iterable[int]) -> Iterator[int]:
        for epoch in epochs:
            wait(device)
            stamps.append(time.perf_counter())
            yield epoch
        wait(device)
        stamps.append(time.perf_counter())

    _run(device, shape, images, name, precision, timed, batch)
    return min(later - earlier for earlier, later in pairwise(stamps[1:]))


def epoch_operations(shape: Shape, images: int) -> int:
    """The convolutions' operations in such an epoch: forward and backward; of images that are validated, forward."""
    return (3 * images + _validation(images)) * convolution_operations(shape)


def profile(
    device: torch.device, width: int, classes: int, images: int, depth: int, precision: str, variant: str = "search-all"
) -> dict[str, Any]:
    """Where the time of one such epoch goes, by kernel on a GPU and by torch's operation on a CPU.

    rows: name, calls, milliseconds, share (of the epoch's duration), the longest first; the last one, `nothing`, is
    what remains of the duration, where the device waits.
    """
    precision, gpu = choose(precision, device), device.type == "cuda"  # type: ignore[arg-type]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    profiler, stamps = torch.profiler.profile(activities=activities), list[float]()

    def watched(epochs: Iterable[int]) -> Iterator[int]:
        for epoch in epochs:
            if epoch == _EPOCHS:
                wait(device)
                profiler.start()
                stamps.append(time.perf_counter())
            yield epoch
        wait(device)
        stamps.append(time.perf_counter())
        profiler.stop()

    _run(device, Shape(3, 32, classes, width, 2 * depth), images, variant, precision, watched)
    total, rows = 1000 * (stamps[1] - stamps[0]), []
    for event in profiler.key_averages():
        annotation = gpu and event.is_user_annotation  # which spans kernels that are listed themselves
        if (event.device_type.name == "CUDA") == gpu and not annotation:
            duration = (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1000
            rows.append(_profile_row(event.key[:100], event.count, duration, total))
    rows.sort(key=lambda row: -row["milliseconds"])
    rows.append(_profile_row("nothing", 1, total - sum(row["milliseconds"] for row in rows), total))
    settings = {"variant": variant, "depth": depth, "precision": precision, "width": width, "classes": classes}
    settings |= {"images": images, "validation_images": _validation(images), "milliseconds": round(total, 3)}
    return {"settings": settings, "rows": rows}


_EPOCHS = 3  # the first of them compiles and chooses algorithms


def _run(
    device: torch.device, shape: Shape, images: int, name: str, precision: str, progress: Progress,
    batch: int = Training.batch,
) -> None:  # fmt: skip
    """A run of `_EPOCHS` epochs, all of whose data lie on the device, as a run's do."""
    variant, generator = VARIANTS[name], torch.Generator(device).manual_seed(0)

    def split(count: int) -> Split:
        x = _random(generator, torch.float32, count, shape.channels, shape.size, shape.size)
        labels = torch.arange(count, device=device) % shape.classes
        layers = shape.layer_shapes if variant.learns == "targets" else {}
        targets = {layer: _random(generator, torch.half, count, *size) for layer, size in layers.items()}
        return Split(x, labels, targets)

    training, validation = split(images), split(_validation(images))
    network = Network(shape, whitening_filters(training.images.cpu(), patches=500))
    # Both with the small steps of labels: random targets may not stand large ones, and the speed is the same.
    settings = Training(epochs=_EPOCHS, precision=precision, batch=batch)  # type: ignore[arg-type]
    train(network, training, validation, validation, settings, variant, seed=0, progress=progress)


def _validation(images: int) -> int:
    return max(2, round(images * VALIDATION / TRAINING))


def _random(generator: torch.Generator, dtype: torch.dtype, count: int, *size: int) -> torch.Tensor:
    """[count, …], channels-last."""
    values = torch.randn(count, *size[1:], size[0], generator=generator, dtype=dtype, device=generator.device)
    return values.movedim(-1, 1)


def _profile_row(name: str, calls: int, milliseconds: float, total: float) -> dict[str, Any]:
    share = round(milliseconds / total, 3)
    return {"name": name, "calls": calls, "milliseconds": round(milliseconds, 3), "share": share}
