"""The benchmark of the search: what a user's search of an image takes, compared with the reference and a floor."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from repsearch.bench.roofline import Ceilings, ceilings, child_cost, convolution_operations, machine, seconds, wait
from repsearch.network import Shape
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.calibration import calibrate
from repsearch.search.evolution import LOGITS, Evolution
from repsearch.search.network import SearchNetwork, initialise
from repsearch.search.recipe import SEARCH_LAYERS, Layer, Recipe, scaled_population
from repsearch.search.reference import Reference
from repsearch.search.statistics import Recorder, Statistics

PAPER = Recipe(  # A.2
    layers=(Layer(300, 0.3, 5.0, 5), Layer(100, 0.2, 3.0, 1), Layer(100, 0.1, 3.0, 1), Layer(10, 0.1, 1.0, 0))
)
DATASET_IMAGES = 50_000  # CIFAR-10, training and validation images
PAPER_IMAGES = 160_000  # MNIST, CIFAR-10 and CIFAR-100, each searched once
SETTLED = 3  # generations where their cost does not depend on how many children are selected


@dataclass
class Bench:
    """A search network on made-up images, and how long a search takes on it.

    images: searched at once by the measured path; the reference searches one. generations: at most so many per search
    layer; 0: the paper's. trained: whether the network is like a trained one, whose convolutions must be computed.
    image: its channels and side. calibrated: how many images the statistics are taken over.
    """

    device: torch.device
    width: int
    classes: int
    images: int
    generations: int = 0
    trained: bool = False
    image: tuple[int, int] = (3, 32)
    calibrated: int = 32
    made: dict[tuple[int, Recipe, int | None], Statistics] = field(default_factory=dict)  # by width, recipe, layer

    def __post_init__(self) -> None:
        channels, side = self.image
        self.shape = Shape(channels, side, self.classes, self.width)
        generator = torch.Generator().manual_seed(0)
        count = max(self.images, self.calibrated)
        coarse = torch.randn(count, channels, 4, 4, generator=generator)  # images have large shapes and a little noise
        x = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
        self.x = x + 0.3 * torch.randn(count, channels, side, side, generator=generator)
        network = initialise(self.shape, self.x, 0)
        if self.trained:
            for weights in network.network.blocks.parameters():
                weights.add_(torch.randn(weights.shape, generator=generator), alpha=1e-3)
        self.network = SearchNetwork(network.network).to(self.device)

    def statistics(self, recipe: Recipe, layer: int | None = None) -> Statistics:
        """The recipe's BatchNorm statistics (R3), or those of one layer's search. They are made once.

        On a CPU, which would take many minutes for them, they are those of a search of one generation per layer,
        whose statistics stand for those of the later generations.
        """
        key = (self.width, recipe, None if (self.width, recipe, None) in self.made else layer)
        if key not in self.made:
            numbers = torch.arange(self.calibrated, device=self.device)
            searched = _limited(recipe, [1] * len(SEARCH_LAYERS)) if self.device.type == "cpu" else recipe
            images, labels = self.x[: self.calibrated].to(self.device), numbers % self.classes
            made = calibrate(self.network, images, labels, searched, numbers, layer)
            for block, rows in made.scorings.items():
                if len(rows) > 1:
                    last = rows[-1:].expand(recipe.layers[block].generations + 1 - len(rows), *rows.shape[1:])
                    made.scorings[block] = torch.cat([rows, last])
            self.made[key] = made
        return self.made[key]

    def evolution(self, recipe: Recipe, path: SearchPath, images: int, statistics: Statistics | Recorder) -> Evolution:
        numbers = torch.arange(images, device=self.device)
        return Evolution(self.network, numbers % self.classes, recipe, numbers, statistics, path)

    def opened(self, evolution: Evolution, layer: int, best: Tensor | None) -> tuple[Tensor, Tensor]:
        """The first parents of a layer: from the images, or from the best candidates of the layer before."""
        if best is not None:
            return evolution.open_next(best, layer)
        return evolution.open(self.x[: len(evolution.labels)].to(self.device), layer)

    def shortened(self, recipe: Recipe, path: SearchPath) -> Recipe:
        """With as many generations as are measured. A dense block's cost does not depend on what is selected."""
        fused = backends.choose(self.network, recipe, path) is not None
        whole = [
            settings.generations if fused or layer == LOGITS else SETTLED
            for layer, settings in enumerate(recipe.layers)
        ]
        return _limited(recipe, [self.generations or generations for generations in whole])

    @torch.no_grad()
    def reference_rate(self, recipe: Recipe, layer: int, parents: Tensor, loss: Tensor) -> float:
        """New candidates per second of the reference: dense, in float32, the first image for one generation.

        parents: [B, k, …], loss: [B, k], of the layer.
        """
        numbers = torch.zeros(1, dtype=torch.int64, device=self.device)
        reference = Reference(self.network.network, self.statistics(recipe), numbers, recipe, numbers)
        duration = seconds(lambda: reference.generation(parents[:1], loss[:1], layer, 1), self.device, 1)
        return (recipe.explorers + recipe.refiners) / duration


def _limited(recipe: Recipe, generations: list[int]) -> Recipe:
    """With at most so many generations per search layer."""
    limits = zip(recipe.layers, generations, strict=True)
    return recipe.with_generations(min(layer.generations, limit) for layer, limit in limits)


@torch.no_grad()
def bench_search(bench: Bench, path: SearchPath, scaling: bool) -> dict[str, Any]:
    """A whole search by noise and layer, each layer from the opening that it has in a search.

    scaling: also vary images, population and width. rows: see benchmarks/README.md, which explains them.
    """
    measured = ceilings(bench.device)
    about = machine(bench.device, measured)
    rows: list[dict[str, Any]] = []
    hours: dict[str, float] = {}
    for noise in ("channel", "element"):
        recipe = replace(PAPER, mutation=noise)
        searched = [
            row | {"device": about["device"]} | _limits(bench, recipe, row, measured)
            for row in _search(bench, recipe, path)
        ]
        rows += searched
        per_image = sum(row["opening_milliseconds"] + row["paper_milliseconds"] for row in searched) / 1000
        hours[noise] = round(DATASET_IMAGES * per_image / 3600, 2)
    result: dict[str, Any] = {
        "machine": about,
        "settings": {name: getattr(bench, name) for name in ("width", "classes", "images")}
        | {"generations": bench.generations or "the paper's", "trained network": bench.trained},
        "rows": rows,
        "hours_per_dataset": hours,
        "hours_of_the_paper": {
            noise: round(value * PAPER_IMAGES / DATASET_IMAGES, 2) for noise, value in hours.items()
        },
    }
    if bench.device.type == "cpu":
        result["threads"] = _by_threads(bench, path)
    return result | ({"scaling": _scaling(bench, path)} if scaling else {})


def _search(bench: Bench, recipe: Recipe, path: SearchPath) -> list[dict[str, Any]]:
    """One search of the images; a row for each layer."""
    recipe = bench.shortened(recipe, path)
    children, rows = recipe.explorers + recipe.refiners, []
    evolution = bench.evolution(recipe, path, bench.images, bench.statistics(recipe))
    for layer, (name, timed) in enumerate(zip(SEARCH_LAYERS, timed_layers(bench, evolution, path), strict=True)):
        generations = recipe.layers[layer].generations
        rate = bench.images * generations * children / timed.evolving
        reference = bench.reference_rate(recipe, layer, timed.parents, timed.loss)
        improved = (timed.history[:, 1:] < timed.history[:, :-1]).float().mean()
        rows.append(
            {
                "layer": name,
                "noise": recipe.mutation,
                "path": "fused" if layer < LOGITS and evolution.fused else "dense",
                "generations": generations,
                "new_best_per_generation": round(float(improved), 2),
                "candidates_per_second": round(rate, 1),
                "reference_candidates_per_second": round(reference, 1),
                "ratio": round(rate / reference, 1),
                "opening_milliseconds": round(1000 * timed.opening / bench.images, 2),
                "paper_milliseconds": round(1000 * PAPER.layers[layer].generations * children / rate, 2),
            }
        )
    return rows


class Timed(NamedTuple):
    """A search layer's first parents, their loss, its history; seconds of its opening and of its evolution."""

    parents: Tensor
    loss: Tensor
    history: Tensor
    opening: float
    evolving: float


def timed_layers(bench: Bench, evolution: Evolution, path: SearchPath) -> Iterator[Timed]:
    """One search of the images, layer by layer. What is compiled is compiled before."""
    _compile(bench, evolution, path)
    best = None
    for layer in range(len(SEARCH_LAYERS)):
        started = _now(bench)
        parents, loss = bench.opened(evolution, layer, best)
        opened = _now(bench)
        best, history = evolution.evolve(parents, loss, layer)
        yield Timed(parents, loss, history, opened - started, _now(bench) - opened)


def _compile(bench: Bench, timed: Evolution, path: SearchPath) -> None:
    """Runs a generation of every layer, so that what is timed later is compiled and warm."""
    recipe, statistics = _limited(timed.recipe, [1] * len(SEARCH_LAYERS)), timed.statistics
    evolution, best = bench.evolution(recipe, path, len(timed.labels), statistics), None
    for layer in range(len(SEARCH_LAYERS)):
        best, _ = evolution.evolve(*bench.opened(evolution, layer, best), layer)


def _now(bench: Bench) -> float:
    wait(bench.device)
    return time.perf_counter()


def _limits(bench: Bench, recipe: Recipe, row: dict[str, Any], measured: Ceilings) -> dict[str, Any]:
    """What the machine allows: the share of the floor; with convolutions, that of a matrix product's speed."""
    layer, rate, cuda = SEARCH_LAYERS.index(row["layer"]), row["candidates_per_second"], bench.device.type == "cuda"
    if layer == LOGITS:
        return {"share_of_floor": None}
    if bench.trained:
        ceiling = measured.half_operations if cuda else measured.operations
        operations = convolution_operations(bench.shape, layer + 1)
        return {"share_of_ceiling": round(rate * operations / ceiling, 3) if operations else None}
    cost = child_cost(bench.shape, recipe, layer, 2 if cuda else 4)
    return {
        "share_of_floor": round(rate * cost.seconds(measured), 3),
        "operations_per_candidate": round(cost.operations),
        "normals_per_candidate": round(cost.normals),
        "bytes_per_candidate": round(cost.bytes),
    }


def _rate(bench: Bench, recipe: Recipe, path: SearchPath) -> float:
    """New candidates per second of block 0, from its opening."""
    recipe = bench.shortened(recipe, path)
    statistics = bench.statistics(recipe, 0)
    evolution = bench.evolution(recipe, path, bench.images, statistics)
    opened = bench.opened(evolution, 0, None)
    short = _limited(recipe, [1] * len(SEARCH_LAYERS))
    bench.evolution(short, path, bench.images, statistics).evolve(*opened, 0)
    started = _now(bench)
    evolution.evolve(*opened, 0)
    children = bench.images * recipe.layers[0].generations * (recipe.explorers + recipe.refiners)
    return children / (_now(bench) - started)


def _by_threads(bench: Bench, path: SearchPath) -> list[dict[str, Any]]:
    """Block 0 with one thread, then with all: as many images as threads. efficiency: of a thread, compared with one."""
    threads = torch.get_num_threads()
    rows: list[dict[str, Any]] = []
    try:
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            rate = _rate(replace(bench, images=count), PAPER, path)
            alone = rows[0]["candidates_per_second"] if rows else rate
            efficiency = round(rate / count / alone, 2)
            rows.append({"threads": count, "candidates_per_second": round(rate, 1), "efficiency": efficiency})
    finally:
        torch.set_num_threads(threads)
    return rows


def _scaling(bench: Bench, path: SearchPath) -> list[dict[str, Any]]:
    """Candidates per second of block 0, as images, population and width grow one at a time."""
    images = [("images", factor * bench.images, replace(bench, images=factor * bench.images)) for factor in (1, 2, 4)]
    widths = [("width", width, replace(bench, width=width)) for width in (32, 64, 128, 256)]
    cases = [(what, value, changed, PAPER) for what, value, changed in [*images, *widths]]
    cases += [("population", count, bench, scaled_population(PAPER, count)) for count in (60, 120, 240, 480)]
    return [
        {"varied": what, "value": value, "candidates_per_second": round(_rate(changed, recipe, path), 1)}
        for what, value, changed, recipe in cases
    ]
