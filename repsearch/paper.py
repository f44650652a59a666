"""Numbers that the paper states: its settings (A.1 to A.5), which make up "the paper's scale", and tables 1 and 2."""

from typing import NamedTuple

from repsearch.search.recipe import Recipe

WIDTH = 256  # A.1: channels of each block
BATCH = 2000  # A.3
LEARNING_RATE = 4.0  # A.3
MOMENTUM = 0.85  # A.3
KL_WEIGHT = 0.03  # A.3: λ
VALIDATION_IMAGES = 4000  # A.3
SEEDS = 3  # tables 1 and 2
AUGMENTATIONS = {1: "plain", 2: "augmented"}  # §4.3: of tables 1 and 2
FITNESS_IMAGES = 1000  # §3.2, figure 2
OPERATORS = {"crossover": "mean", "smoothing": "average", "normalisation": "standard"}  # A.4


class Schedule(NamedTuple):
    """What decides how far a search goes. layers: (generations, α, exploration boost, blur passes) per search layer."""

    population: int
    parents: int
    explorers: int
    layers: tuple[tuple[int, float, float, int], ...]
    runs: int = 1


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
    return Schedule(recipe.population, recipe.parents, recipe.explorers, layers, recipe.runs)


TABLES: dict[tuple[int, str, str], tuple[float, float]] = {
    (1, "sgd", "MNIST"): (99.1, 0.1),
    (1, "sgd", "CIFAR-10"): (89.1, 0.3),
    (1, "sgd", "CIFAR-100"): (62.3, 0.5),
    (1, "search-all", "MNIST"): (99.0, 0.1),
    (1, "search-all", "CIFAR-10"): (88.3, 0.3),
    (1, "search-all", "CIFAR-100"): (61.6, 0.2),
    (2, "sgd", "CIFAR-10"): (93.0, 0.2),
    (2, "sgd", "CIFAR-100"): (71.8, 0.4),
    (2, "search-skip0", "CIFAR-10"): (92.0, 0.1),
    (2, "search-skip0", "CIFAR-100"): (69.2, 0.3),
    (2, "search-all", "CIFAR-10"): (90.6, 0.3),
    (2, "search-all", "CIFAR-100"): (66.5, 0.3),
}
"""Test accuracy in per cent, (mean, std over 3 runs), by (table, variant, column): the paper's Table 1 ("without data
augmentation") and Table 2 ("with data augmentation")."""
