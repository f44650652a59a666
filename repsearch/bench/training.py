"""The benchmark of training: images per second, compared with the machine's matrix product."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from repsearch.bench.roofline import ceilings, convolution_operations, machine, wait
from repsearch.learning.settings import Training, Variant
from repsearch.learning.training import Split, train
from repsearch.network import Network, Shape, whitening_filters


def bench_train(
    device: torch.device, width: int, classes: int, images: int, depths: Sequence[int], precision: str
) -> dict[str, Any]:
    """Training images per second by variant and depth, on random images and targets.

    depths: 1, 2, 3 (§4.2). precision: float32 or bfloat16. rows: variant, depth, precision, device, images_per_second,
    share_of_ceiling (the convolutions' operations, compared with a matrix product's in that precision) and
    minutes_per_run (46,000 images, 90 epochs).
    """
    measured = ceilings(device)
    about, rows = machine(device, measured), []
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, 3, 32, 32, generator=generator)
    labels = torch.arange(images) % classes
    few = Split(x[:64].to(device), labels[:64].to(device), {})
    for depth in depths:
        shape = Shape(3, 32, classes, width, 2 * depth)
        targets = {
            name: torch.randn(images, *size, generator=generator).half().to(device)
            for name, size in shape.layer_shapes.items()
        }
        for name, variant in (("sgd", Variant("labels")), ("search-all", Variant("targets", (0, 1, 2)))):
            split = Split(x.to(device), labels.to(device), targets if variant.learns == "targets" else {})
            # Both with the small steps of labels: random targets may not stand large ones, and the speed is the same.
            settings = Training(epochs=3, precision=precision, batch=min(2000, images))  # type: ignore[arg-type]
            stamps: list[float] = []

            def timed(epochs: Iterable[int], stamps: list[float] = stamps) -> Iterator[int]:
                for epoch in epochs:
                    wait(device)
                    stamps.append(time.perf_counter())
                    yield epoch
                wait(device)
                stamps.append(time.perf_counter())

            network = Network(shape, whitening_filters(x, patches=500))
            train(network, split, few, few, settings, variant, seed=0, progress=timed)
            duration = min(later - earlier for earlier, later in pairwise(stamps[1:]))  # of an epoch
            ceiling = measured.half_operations if precision == "bfloat16" else measured.operations
            row = {"variant": name, "depth": depth, "precision": precision, "device": about["device"]}
            row["images_per_second"] = round(images / duration, 1)
            row["share_of_ceiling"] = round(3 * images * convolution_operations(shape) / duration / ceiling, 3)
            row["minutes_per_run"] = round(46_000 * 90 * duration / images / 60, 2)
            rows.append(row)
    return {"machine": about, "settings": {"width": width, "classes": classes, "images": images}, "rows": rows}
