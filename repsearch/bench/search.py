"""Benchmarks of the search and of training, each beside the plain version and the machine's measured ceilings."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsearch.bench.roofline import child_cost
from repsearch.learning.settings import Training, Variant
from repsearch.learning.training import Split, train
from repsearch.network import Network, Shape, whitening_filters
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import Evolution
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS, Layer, Recipe, scaled_population
from repsearch.search.reference import Reference
from repsearch.search.statistics import initialise

PAPER = Recipe(  # A.2
    layers=(Layer(300, 0.3, 5.0, 5), Layer(100, 0.2, 3.0, 1), Layer(100, 0.1, 3.0, 1), Layer(10, 0.1, 1.0, 0))
)
DATASET_IMAGES = 50_000
REPEATS = 3


def seconds(work: Callable[[], Any], device: torch.device, repeats: int = REPEATS) -> float:
    """Median wall time of `work`, after one run that is not counted."""
    times = []
    for _ in range(repeats + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Ceilings:
    """What the machine did of each a second, measured. Operations: a multiply-add counts as two."""

    operations: float  # float32, in a matrix product (no tensor cores)
    half_operations: float  # bfloat16, in a matrix product
    bandwidth: float  # bytes read and written by a large copy
    normals: float  # the faster of torch's and this package's


def ceilings(device: torch.device) -> Ceilings:
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
        max(target.numel() / seconds(lambda: target.normal_(), device), _own_normals(device)),
    )


def _own_normals(device: torch.device) -> float:
    """Standard normals a second from the compiled generator of the fused CPU path."""
    if device.type != "cpu" or find_spec("numba") is None:
        return 0.0
    from repsearch.search.cpu import kernels as cpu_math

    height, width, channels, calls = 15, 15, 256, 50
    key = [np.uint64(0)] * 5

    def draw(_: int) -> None:
        out = np.empty((height * width + 3, channels), np.float32)
        for _ in range(calls):
            cpu_math.normals(out, height, width, *key)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        each = seconds(lambda: list(pool.map(draw, range(threads))), device)
    return threads * calls * height * width * channels / each


def machine(device: torch.device, measured: Ceilings) -> dict[str, Any]:
    """The machine in words and numbers."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
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


@dataclass
class Bench:
    """A search network on random images, and how long a search layer takes on it.

    images: searched side by side on the measured path; the reference searches one.
    """

    device: torch.device
    width: int
    classes: int
    images: int
    generations: int
    trained: bool = False  # whether its convolutions are no identities, as a trained network's are not

    def __post_init__(self) -> None:
        self.shape = Shape(3, 32, self.classes, self.width)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(max(self.images, 32), 3, 32, 32, generator=generator)
        network = initialise(self.shape, self.x, 0, PAPER.calibration(32, 0.3))
        if self.trained:
            for weights in network.network.blocks.parameters():
                weights.add_(torch.randn(weights.shape, generator=generator), alpha=1e-3)
        self.network = SearchNetwork(network.network, network.statistics).to(self.device)

    def _evolution(self, recipe: Recipe, path: SearchPath, images: int) -> Evolution:
        numbers = torch.arange(images, device=self.device)
        return Evolution(self.network, numbers % self.classes, recipe, numbers, path)

    def _parents(self, recipe: Recipe, layer: int, images: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        shape = self.shape.layer_shapes[SEARCH_LAYERS[layer]]
        parents = torch.randn(images, recipe.parents, *shape, generator=generator).to(self.device)
        return parents, torch.full((images, recipe.parents), 9.0, device=self.device)

    def rate(self, recipe: Recipe, layer: int, path: SearchPath) -> float:
        """New candidates a second of a search layer."""
        recipe = _shortened(recipe, layer, self.generations)
        evolution = self._evolution(recipe, path, self.images)
        parents, loss = self._parents(recipe, layer, self.images)

        def work() -> None:
            with torch.no_grad():
                evolution.evolve(parents, loss, layer)

        children = recipe.explorers + recipe.refiners
        return self.images * self.generations * children / seconds(work, self.device)

    def reference_rate(self, recipe: Recipe, layer: int) -> float:
        """The same of the plain version, dense and in float32, on one image for one generation."""
        network = self.network.network
        numbers = torch.zeros(1, dtype=torch.int64, device=self.device)
        reference = Reference(network, self.network.statistics, numbers, recipe, numbers)
        parents, loss = self._parents(recipe, layer, 1)

        def work() -> None:
            with torch.no_grad():
                reference.generation(parents, loss, layer, 1)

        return (recipe.explorers + recipe.refiners) / seconds(work, self.device)

    def opening_seconds(self, recipe: Recipe) -> float:
        """An image's first population: made, propagated to block 0, scored, its parents selected."""
        count = min(self.images, 4)
        evolution = self._evolution(recipe, "auto", count)
        x = self.x[:count].to(self.device)

        def work() -> None:
            with torch.no_grad():
                evolution.open(x, 0)

        return seconds(work, self.device, 1) / count


def _shortened(recipe: Recipe, layer: int, generations: int) -> Recipe:
    layers = list(recipe.layers)
    layers[layer] = replace(layers[layer], generations=generations)
    return replace(recipe, layers=tuple(layers))  # type: ignore[arg-type]


def bench_search(
    device: torch.device,
    width: int,
    classes: int,
    images: int,
    generations: int,
    path: SearchPath,
    scaling: bool,
    trained: bool = False,
) -> dict[str, Any]:
    """Candidates a second by layer and noise, beside the reference, the floor, and what whole data sets would take.

    rows: layer, noise, path, device, candidates_per_second, reference_candidates_per_second, ratio, share_of_floor.
    trained: with a network whose convolutions must be computed; then share_of_ceiling is that of their operations in a
    matrix product's, in the precision that the dense path uses.
    """
    measured = ceilings(device)
    bench = Bench(device, width, classes, images, generations, trained)
    about = machine(device, measured)
    rows, hours = [], {}
    for noise in ("channel", "element"):
        recipe = replace(PAPER, mutation=noise)
        whole = DATASET_IMAGES * bench.opening_seconds(recipe)
        for layer, name in enumerate(SEARCH_LAYERS):
            reference = bench.reference_rate(recipe, layer)
            rate = bench.rate(recipe, layer, path)
            kind = "fused" if layer < len(BLOCKS) and backends.choose(bench.network, recipe, path) else "dense"
            row = {
                "layer": name,
                "noise": noise,
                "path": kind,
                "device": about["device"],
                "candidates_per_second": round(rate, 1),
                "reference_candidates_per_second": round(reference, 1),
                "ratio": round(rate / reference, 1),
                "share_of_floor": None,
            }
            if layer < len(BLOCKS) and trained:
                ceiling = measured.half_operations if device.type == "cuda" else measured.operations
                operations = convolution_operations(bench.shape, layer + 1)
                row["share_of_ceiling"] = round(rate * operations / ceiling, 3) if operations else None
            elif layer < len(BLOCKS):
                cost = child_cost(bench.shape, recipe, layer, 2 if device.type == "cuda" else 4)
                floor = cost.seconds(measured.operations, measured.normals, measured.bandwidth)
                row |= {
                    "share_of_floor": round(rate * floor, 3),
                    "operations_per_candidate": round(cost.operations),
                    "normals_per_candidate": round(cost.normals),
                    "bytes_per_candidate": round(cost.bytes),
                }
            rows.append(row)
            whole += DATASET_IMAGES * recipe.layers[layer].generations * (recipe.population - recipe.parents) / rate
        hours[noise] = round(whole / 3600, 2)
    result: dict[str, Any] = {
        "machine": about,
        "settings": {
            "width": width,
            "classes": classes,
            "images": images,
            "generations": generations,
            "trained network": trained,
        },
        "rows": rows,
        "hours_per_dataset": hours,  # of 50,000 images
    }
    if scaling:
        result["scaling"] = _scaling(bench, path)
    return result


def _scaling(bench: Bench, path: SearchPath) -> list[dict[str, Any]]:
    """Layer 0's candidates a second as one thing at a time grows."""
    rows = []

    def row(what: str, value: int, changed: Bench, recipe: Recipe = PAPER) -> None:
        rate = changed.rate(recipe, 0, path)
        rows.append({"varied": what, "value": value, "candidates_per_second": round(rate, 1)})

    def with_(**changes: int) -> Bench:
        kept = {name: getattr(bench, name) for name in ("device", "width", "classes", "images", "generations")}
        return Bench(**{**kept, **changes})

    for factor in (1, 2, 4):
        row("images", factor * bench.images, with_(images=factor * bench.images))
    for factor in (1, 2, 4):
        row("generations", factor * bench.generations, with_(generations=factor * bench.generations))
    for population in (60, 120, 240, 480):
        recipe = PAPER.to_dict() | {"layers": PAPER.layers}
        row("population", population, bench, Recipe(**scaled_population(recipe, population)))
    for width in (32, 64, 128, 256):
        row("width", width, with_(width=width))
    return rows


def bench_train(
    device: torch.device, width: int, classes: int, images: int, depths: Sequence[int], precision: str
) -> dict[str, Any]:
    """Training images a second by variant and depth, on random images and targets, and a 90-epoch run's minutes.

    rows: variant, depth, precision, device, images_per_second, share_of_ceiling (the convolutions' operations against
    a matrix product's in that precision), minutes_per_run (46,000 images, 90 epochs).
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
            settings = Training(epochs=3, precision=precision, batch=min(2000, images))  # type: ignore[arg-type]
            stamps: list[float] = []

            def epochs(numbers: Any, stamps: list[float] = stamps) -> Any:
                for number in numbers:
                    _wait(device)
                    stamps.append(time.perf_counter())
                    yield number
                _wait(device)
                stamps.append(time.perf_counter())

            network = Network(shape, whitening_filters(x, patches=500))
            train(network, split, few, few, settings, variant, seed=0, progress=epochs)
            each = min(later - earlier for earlier, later in pairwise(stamps[1:]))
            ceiling = measured.half_operations if precision == "bfloat16" else measured.operations
            rows.append(
                {
                    "variant": name,
                    "depth": depth,
                    "precision": precision,
                    "device": about["device"],
                    "images_per_second": round(images / each, 1),
                    "share_of_ceiling": round(3 * images * convolution_operations(shape) / each / ceiling, 3),
                    "minutes_per_run": round(46_000 * 90 * each / images / 60, 2),
                }
            )
    return {"machine": about, "settings": {"width": width, "classes": classes, "images": images}, "rows": rows}


def convolution_operations(shape: Shape, first: int = 0) -> int:
    """Operations of one map's pass through the convolutions of the blocks from `first` on; a multiply-add is two."""
    total, inputs, side = 0, 8 * shape.channels, shape.size - 1
    for block, after in enumerate(shape.map_sizes):
        if block < first:
            inputs, side = shape.width, after
            continue
        total += 2 * 9 * inputs * shape.width * side**2
        total += 2 * 9 * shape.width**2 * after**2 * (shape.convolutions - 1)
        inputs, side = shape.width, after
    return total


def text(result: dict[str, Any]) -> str:
    """The result as Markdown, for people."""
    parts = []
    for title in ("machine", "settings"):
        if title in result:
            facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result[title].items())
            parts.append(f"{title.capitalize()}: {facts}.")
    parts.append(_table(result["rows"]))
    if "hours_per_dataset" in result:
        hours = "; ".join(f"{noise} noise {value} hours" for noise, value in result["hours_per_dataset"].items())
        parts.append(f"The paper's recipe on {DATASET_IMAGES:,} images would take: {hours}.")
    if "scaling" in result:
        parts.append(_table(result["scaling"]))
    return "\n\n".join(parts) + "\n"


def _table(rows: list[dict[str, Any]]) -> str:
    columns = [name for name in rows[0] if name != "device"]
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("_", " ") for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) >= 1000 else str(value)
