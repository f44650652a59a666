"""What a machine can do at most, measured, and what a child or a convolution asks of it, counted."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch

from repsearch.network import Shape
from repsearch.search.recipe import BLOCKS, Recipe

GELU = 18  # operations: a polynomial of degree 5, its 16th power and the rest (`search.cpu.lanes.gelu`)
NORM = 2  # operations: a scale and a shift


def seconds(work: Callable[[], Any], device: torch.device, repeats: int = 3) -> float:
    """Median wall time of `work` over `repeats` runs, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def wait(device: torch.device) -> None:
    """Return once all work submitted to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Ceilings:
    """What the machine did per second at most, measured. A multiply-add counts as two operations."""

    operations: float  # float32, in a matrix product (no tensor cores)
    half_operations: float  # bfloat16, in a matrix product
    bandwidth: float  # bytes read and written by a large copy
    normals: float  # the faster of torch's generator and this package's


def ceilings(device: torch.device) -> Ceilings:
    """Measure the machine; takes some seconds."""
    size = 8192 if device.type == "cuda" else 1536
    a, b = torch.randn(2, size, size, device=device)
    half_a, half_b = a.bfloat16(), b.bfloat16()
    source = torch.randn(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        exact = 2 * size**3 / seconds(lambda: a @ b, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return Ceilings(
        exact,
        2 * size**3 / seconds(lambda: half_a @ half_b, device),
        2 * source.nbytes / seconds(lambda: target.copy_(source), device),
        max(target.numel() / seconds(lambda: target.normal_(), device), _compiled_normals(device)),
    )


def _compiled_normals(device: torch.device) -> float:
    """Standard normals per second from the compiled generator of the fused CPU path; 0 where there is none."""
    if device.type != "cpu" or find_spec("numba") is None:
        return 0.0
    from repsearch.search.cpu.normals import normals

    height, width, calls = 150, 16, 200
    key = [np.uint64(0)] * 5

    def draw(_: int) -> None:
        out, words = np.empty((2, height * (width + 3), 16), np.float32)
        for _ in range(calls):
            normals(out, words, height, width, 0, *key)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as executor:
        duration = seconds(lambda: list(executor.map(draw, range(threads))), device)
    return threads * calls * height * width * 16 / duration


def machine(device: torch.device, measured: Ceilings) -> dict[str, Any]:
    """The machine in words and numbers."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "gflops_float32": round(measured.operations / 1e9, 1),
        "gflops_bfloat16": round(measured.half_operations / 1e9, 1),
        "copy_gigabytes_per_second": round(measured.bandwidth / 1e9, 1),
        "million_normals_per_second": round(measured.normals / 1e6, 1),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as opened:
            return next(line.split(":")[1].strip() for line in opened if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Cost(NamedTuple):
    """What one child costs, averaged over explorers and refiners. A fused multiply-add counts as two operations."""

    operations: float
    normals: float
    bytes: float

    def seconds(self, measured: Ceilings) -> float:
        """At least: arithmetic and random numbers share the cores, memory transfers overlap with both."""
        arithmetic = self.operations / measured.operations + self.normals / measured.normals
        return max(arithmetic, self.bytes / measured.bandwidth)


def child_cost(shape: Shape, recipe: Recipe, layer: int, number_bytes: int) -> Cost:
    """The least that a child of block `layer` costs by the algebra of the fused paths, where later convolutions are
    identities. number_bytes: bytes per number of a map.

    Noise per channel, smoothing of whole children: nothing is written, and mean and variance follow from covariances,
    which are not counted. A child is a mix of its parents' maps, smoothed once, or twice where a mate is an explorer:
    two to four of them and the masks of two noises, at the positions that reach the head alone (144 of 15 × 15). The
    parents are read once per generation. In the last block the logits are linear in the maps too.

    Any other recipe: the whole child is made for its variance, from two maps that are read; explorers are written
    where refiners draw on them. Smoothing adds three neighbours, along two axes, in every pass.
    """
    channels, side, _ = shape.layer_shapes[BLOCKS[layer]]
    later = len(BLOCKS) - 1 - layer
    last = shape.map_sizes[-1] ** 2
    used, children = last * 4**later, recipe.explorers + recipe.refiners
    mates = recipe.explorers if recipe.refine_from == "parents+explorers" else 0
    features = _tail_operations(last, later) * channels + 2 * last * channels * shape.classes
    if recipe.mutation == "channel" and recipe.smooth == "child":
        of_a_mate = 1 + mates / (recipe.parents + mates)  # maps, on average
        maps = 2 * (recipe.explorers + recipe.refiners * of_a_mate) / children
        terms = 2 * (maps + 2)  # a multiply-add for each map and mask
        read = 2 * recipe.parents / children * used * channels * number_bytes
        if not later:
            return Cost(2 * shape.classes * (maps + 2 * channels), channels, read)
        return Cost(terms * used * channels + features, channels, read)
    numbers = channels * side**2
    blur, written = recipe.layers[layer].blur, mates / children
    smoothing = 2 * (2 * blur + 1) if blur else 0
    smoothed = float(recipe.mutation == "element") + (written if recipe.smooth == "child" else 0.0)
    make = 3 * 2 + 4  # half of each parent and the noise; sums of the result and its square for the normalisation
    normals = numbers if recipe.mutation == "element" else channels
    return Cost(numbers * (make + smoothed * smoothing) + features, normals, number_bytes * numbers * (2 + written))


def _tail_operations(last: int, later: int) -> int:
    """Operations per channel after a child is made: max-pooling, then BatchNorm and GELU twice, in each later block.

    last: positions of the last map. Before another max-pooling, the second GELU is needed of a window's largest
    argument alone, if it rises there, and the first of its largest and smallest.
    """
    if not later:
        return 2 * last
    final = last * (3 + 2 * (NORM + GELU))
    return final + (last * (4 * (3 + NORM) + 3 + 3 * GELU + NORM) if later == 2 else 0)


def convolution_operations(shape: Shape, first: int = 0) -> int:
    """Operations of the convolutions of the blocks from `first` on, for one image; a multiply-add counts as two."""
    total, inputs, side = 0, 8 * shape.channels, shape.size - 1
    for block, after in enumerate(shape.map_sizes):
        if block >= first:
            total += 2 * 9 * inputs * shape.width * side**2
            total += 2 * 9 * shape.width**2 * after**2 * (shape.convolutions - 1)
        inputs, side = shape.width, after
    return total
