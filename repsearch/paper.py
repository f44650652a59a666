"""The paper's settings (A.1 to A.5): what "the paper's scale" means."""

from typing import NamedTuple

from repsearch.search.recipe import Recipe

WIDTH = 256  # A.1: channels of each block
BATCH = 2000  # A.3
VALIDATION_IMAGES = 4000  # A.3


class Schedule(NamedTuple):
    """What decides how far a search goes. layers: (generations, α, exploration boost, blur passes) per search layer."""

    population: int
    parents: int
    explorers: int
    layers: tuple[tuple[int, float, float, int], ...]


class DatasetSettings(NamedTuple):
    """column: of tables 1 and 2; search_depth: in units of the search network's two convolutions per block (§4.2)."""

    column: str
    schedule: Schedule
    search_depth: int
    epochs: int


CIFAR = Schedule(240, 20, 100, ((300, 0.3, 5.0, 5), (100, 0.2, 3.0, 1), (100, 0.1, 3.0, 1), (10, 0.1, 1.0, 0)))  # A.2
MNIST = CIFAR._replace(layers=tuple((generations, 0.1, boost, blur) for generations, _, boost, blur in CIFAR.layers))
SETTINGS = {  # by source: the official images, lossless
    "torchvision:MNIST": DatasetSettings("MNIST", MNIST, 2, 1000),  # A.5
    "torchvision:CIFAR10": DatasetSettings("CIFAR-10", CIFAR, 3, 90),
    "torchvision:CIFAR100": DatasetSettings("CIFAR-100", CIFAR, 3, 90),
}


def schedule(recipe: Recipe) -> Schedule:
    layers = tuple((layer.generations, layer.alpha, layer.boost, layer.blur) for layer in recipe.layers)
    return Schedule(recipe.population, recipe.parents, recipe.explorers, layers)
