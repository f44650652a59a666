"""The benchmark of the search: candidates per second, compared with the reference and with the machine's limits."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from repsearch.bench.roofline import ceilings, child_cost, convolution_operations, machine, seconds
from repsearch.network import Shape
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


@dataclass
class Bench:
    """A search network on random images, and how long a search layer takes on it.

    images: how many the measured path searches at once; the reference searches one. generations: per measurement.
    trained: whether the network is like a trained one, whose convolutions are not identities and must be computed.
    """

    device: torch.device
    width: int
    classes: int
    images: int
    generations: int
    trained: bool = False

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

    @torch.no_grad()
    def rate(self, recipe: Recipe, layer: int, path: SearchPath) -> float:
        """New candidates per second of a search layer."""
        layers = tuple(replace(settings, generations=self.generations) for settings in recipe.layers)
        recipe = replace(recipe, layers=layers)  # type: ignore[arg-type]
        evolution = self._evolution(recipe, path, self.images)
        parents, loss = self._parents(recipe, layer, self.images)
        duration = seconds(lambda: evolution.evolve(parents, loss, layer), self.device)
        return self.images * self.generations * (recipe.explorers + recipe.refiners) / duration

    @torch.no_grad()
    def reference_rate(self, recipe: Recipe, layer: int) -> float:
        """The same of the reference: dense, in float32, one image for one generation."""
        numbers = torch.zeros(1, dtype=torch.int64, device=self.device)
        reference = Reference(self.network.network, self.network.statistics, numbers, recipe, numbers)
        parents, loss = self._parents(recipe, layer, 1)
        duration = seconds(lambda: reference.generation(parents, loss, layer, 1), self.device)
        return (recipe.explorers + recipe.refiners) / duration

    @torch.no_grad()
    def opening_seconds(self, recipe: Recipe) -> float:
        """Per image, what its first population takes: made, propagated to block 0, scored, its parents selected."""
        count = min(self.images, 4)
        evolution = self._evolution(recipe, "auto", count)
        x = self.x[:count].to(self.device)
        return seconds(lambda: evolution.open(x, 0), self.device, 1) / count


def bench_search(bench: Bench, path: SearchPath, scaling: bool) -> dict[str, Any]:
    """Candidates per second by layer and noise, and the hours that DATASET_IMAGES would take.

    scaling: also vary images, generations, population and width. rows: layer, noise, path, device,
    candidates_per_second, reference_candidates_per_second, ratio, share_of_roofline; if trained, share_of_ceiling
    instead: the convolutions' operations, compared with a matrix product's in the precision that the dense path uses.
    """
    measured = ceilings(bench.device)
    about, cuda = machine(bench.device, measured), bench.device.type == "cuda"
    rows, hours = [], {}
    for noise in ("channel", "element"):
        recipe = replace(PAPER, mutation=noise)
        dataset_seconds = DATASET_IMAGES * bench.opening_seconds(recipe)
        for layer, name in enumerate(SEARCH_LAYERS):
            reference = bench.reference_rate(recipe, layer)
            rate = bench.rate(recipe, layer, path)
            taken = "fused" if layer < len(BLOCKS) and backends.choose(bench.network, recipe, path) else "dense"
            row = {
                "layer": name,
                "noise": noise,
                "path": taken,
                "device": about["device"],
                "candidates_per_second": round(rate, 1),
                "reference_candidates_per_second": round(reference, 1),
                "ratio": round(rate / reference, 1),
                "share_of_roofline": None,
            }
            if layer < len(BLOCKS) and bench.trained:
                ceiling = measured.half_operations if cuda else measured.operations
                operations = convolution_operations(bench.shape, layer + 1)
                row["share_of_ceiling"] = round(rate * operations / ceiling, 3) if operations else None
            elif layer < len(BLOCKS):
                cost = child_cost(bench.shape, recipe, layer, 2 if cuda else 4)
                row |= {
                    "share_of_roofline": round(rate * cost.seconds(measured), 3),
                    "operations_per_candidate": round(cost.operations),
                    "normals_per_candidate": round(cost.normals),
                    "bytes_per_candidate": round(cost.bytes),
                }
            rows.append(row)
            candidates = recipe.layers[layer].generations * (recipe.population - recipe.parents)
            dataset_seconds += DATASET_IMAGES * candidates / rate
        hours[noise] = round(dataset_seconds / 3600, 2)
    settings = {name: getattr(bench, name) for name in ("width", "classes", "images", "generations")}
    settings["trained network"] = bench.trained
    result = {"machine": about, "settings": settings, "rows": rows, "hours_per_dataset": hours}
    return result | ({"scaling": _scaling(bench, path)} if scaling else {})


def _scaling(bench: Bench, path: SearchPath) -> list[dict[str, Any]]:
    """Candidates per second of block 0, as images, generations, population and width grow one at a time."""
    rows = []

    def row(what: str, value: int, changed: Bench, recipe: Recipe = PAPER) -> None:
        rate = changed.rate(recipe, 0, path)
        rows.append({"varied": what, "value": value, "candidates_per_second": round(rate, 1)})

    for factor in (1, 2, 4):
        row("images", factor * bench.images, replace(bench, images=factor * bench.images))
    for factor in (1, 2, 4):
        generations = factor * bench.generations
        row("generations", generations, replace(bench, generations=generations))
    for population in (60, 120, 240, 480):
        row("population", population, bench, scaled_population(PAPER, population))
    for width in (32, 64, 128, 256):
        row("width", width, replace(bench, width=width))
    return rows
