"""A recipe: every setting of one evolutionary search (§3.1, A.2, A.4)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from repsearch import extensions

SEARCH_LAYERS = ("block0", "block1", "block2", "logits")  # ℓ = 0, 1, 2, 3
BLOCKS = SEARCH_LAYERS[:3]
MOST_RUNS = 1000
# The built-in operators of each field that names one (`operators`, which is not imported here, since it needs torch).
OPERATORS = {
    "crossover": ("mean", "uniform"),
    "mutation": ("channel", "element"),
    "smoothing": ("average",),
    "normalisation": ("standard",),
}


def _check_types(settings: Any) -> None:
    """Raises ValueError, naming the field, for a value that is not of its field's type or not among its choices."""
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if name in OPERATORS:
            if value not in OPERATORS[name] and not (isinstance(value, str) and extensions.is_reference(value)):
                choices = ", ".join(map(repr, OPERATORS[name]))
                raise ValueError(f"{name} must be {choices} or your own 'module:function', not {value!r}")
        elif get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise ValueError(f"{name} must be {' or '.join(map(repr, get_args(kind)))}, not {value!r}")
        elif kind is float:
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{name} must be a number, not {value!r}")
        elif kind in (int, bool) and type(value) is not kind:
            raise ValueError(f"{name} must be {'an integer' if kind is int else 'True or False'}, not {value!r}")


def _at_least(low: float, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value) or value < low:
            raise ValueError(f"{name} must be finite and at least {low}, not {value}")


@dataclass(frozen=True)
class Layer:
    """How one search layer evolves (A.2, "Evolution schedule")."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic, which the core does not import)

    generations: int
    alpha: float  # mutation strength α, in units of the parents' standard deviation
    boost: float  # explorers mutate with α · boost
    blur: int  # passes of 3 × 3 average pooling; none for logits

    def __post_init__(self) -> None:
        _check_types(self)
        _at_least(0, generations=self.generations, alpha=self.alpha, boost=self.boost, blur=self.blur)


@dataclass(frozen=True)
class Recipe:
    """Settings of a search. `layers` has one entry per search layer: block 0, 1, 2, logits.

    crossover, mutation, smoothing, normalisation: a built-in operator (`OPERATORS`) or a function of one's own, as
    `module:function`; it is not loaded here. The readings (R1 to R17) are what the paper leaves open;
    `docs/readings.md` says what each value means. Raises ValueError, naming the field, for a value out of range.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    layers: tuple[Layer, Layer, Layer, Layer]
    population: int = 240
    parents: int = 20
    explorers: int = 100  # the other population - parents - explorers children are refiners
    initial_noise: float = 0.3  # R9: in units of the input's standard deviation per channel
    crossover: str = "mean"
    mutation: str = "channel"  # R1
    smoothing: str = "average"
    normalisation: str = "standard"
    smooth: Literal["child", "noise"] = "child"  # R2
    batch_norm: Literal["trajectory", "frozen", "frozen-unsmoothed", "batch"] = "trajectory"  # R3
    statistics_images: int = 128  # R3: the images that the statistics are taken over; with `batch`, those of a batch
    count_padding: bool = True  # R10
    refine_from: Literal["parents+explorers", "parents"] = "parents+explorers"  # R11
    start: Literal["best", "population"] = "best"  # R16: the population that opens layers 1, 2, 3
    normalise_start: bool = True  # R17: a layer's first population is normalised as every child is
    runs: int = 1  # independent searches of each image, §3.2's runs, with random numbers of their own
    seed: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        _at_least(1, population=self.population, parents=self.parents, statistics_images=self.statistics_images)
        _at_least(1, runs=self.runs)
        _at_least(0, explorers=self.explorers, initial_noise=self.initial_noise, seed=self.seed)
        if len(self.layers) != len(SEARCH_LAYERS) or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"layers must have {len(SEARCH_LAYERS)} entries (block 0, 1, 2, logits), each a Layer")
        if self.parents + self.explorers > self.population:
            made = f"{self.parents} parents and {self.explorers} explorers"
            raise ValueError(f"{made} exceed the population of {self.population}")
        if self.seed >= 2**64:
            raise ValueError(f"seed must be below 2^64, not {self.seed}")
        if self.runs > MOST_RUNS:
            raise ValueError(f"runs must be at most {MOST_RUNS}, not {self.runs}")

    def run(self, number: int) -> "Recipe":
        """The recipe of one run, 0 … runs - 1. Run 0 has the recipe's own seed.

        The others' differ from it in the upper half of the 64 bits, so that they are no small seed of another search.
        """
        return replace(self, runs=1, seed=(self.seed + (number << 32)) % 2**64)

    @property
    def candidates(self) -> int:
        """How many candidates the search of one image makes and evaluates, in all runs and layers."""
        opening = self.population if self.start == "population" else 1  # R16, of the layers after block 0
        openings = self.population + opening * (len(self.layers) - 1)
        children = (self.population - self.parents) * sum(layer.generations for layer in self.layers)
        return self.runs * (openings + children)

    def with_generations(self, counts: Iterable[int]) -> "Recipe":
        """The recipe with another number of generations in each search layer."""
        first, second, third, logits = (
            replace(layer, generations=count) for layer, count in zip(self.layers, counts, strict=True)
        )
        return replace(self, layers=(first, second, third, logits))

    @property
    def refiners(self) -> int:
        return self.population - self.parents - self.explorers

    @property
    def independent(self) -> bool:
        """R3: whether the statistics are there before the search, so that an image's result depends on no other's."""
        return self.batch_norm != "batch"

    @property
    def reevaluates(self) -> bool:
        """R3: whether every generation scores its parents anew, since its statistics differ from the last one's."""
        return self.batch_norm in ("trajectory", "batch")

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as JSON would hold them."""
        return asdict(self) | {"layers": [asdict(layer) for layer in self.layers]}


def scaled(recipe: Recipe, changes: Mapping[str, int]) -> Recipe:
    """The recipe with another population or another number of generations, all in proportion, and other fields changed.

    Raises ValueError where a value is out of range.
    """
    fields = dict(changes)
    if "population" in fields:
        recipe = scaled_population(recipe, fields.pop("population"))
    if "generations" in fields:
        recipe = scaled_generations(recipe, fields.pop("generations"))
    return replace(recipe, **fields)  # type: ignore[arg-type]


def scaled_population(recipe: Recipe, population: int) -> Recipe:
    """The recipe with another population, its parts in proportion (R12: 20 : 100 : 120 of 240 in the paper)."""
    parents = max(1, round(population * recipe.parents / recipe.population))
    explorers = min(population - parents, round(population * recipe.explorers / recipe.population))
    return replace(recipe, population=population, parents=parents, explorers=explorers)


def scaled_generations(recipe: Recipe, generations: int) -> Recipe:
    """The recipe with `generations` at layer 0 and the other layers in proportion, at least 1 each (§4.4)."""
    if recipe.layers[0].generations < 1:
        raise ValueError("generations of block 0 must be at least 1 to scale them")
    factor = generations / recipe.layers[0].generations
    counts = (layer.generations for layer in recipe.layers)
    return recipe.with_generations(max(1, round(count * factor)) if count else 0 for count in counts)
