"""A recipe: every setting of one evolutionary search (§3.1, A.2, A.4)."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

SEARCH_LAYERS = ("block0", "block1", "block2", "logits")  # ℓ = 0, 1, 2, 3
BLOCKS = SEARCH_LAYERS[:3]


def _at_least(low: float, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, not {value}")
        if value < low:
            raise ValueError(f"{name} must be at least {low}, not {value}")


@dataclass(frozen=True)
class Layer:
    """How one search layer evolves (A.2, "Evolution schedule")."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic, which the core does not import)

    generations: int
    alpha: float  # mutation strength α, in units of the parents' standard deviation
    boost: float  # explorers mutate with α · boost
    blur: int  # passes of 3 × 3 average pooling; none for logits

    def __post_init__(self) -> None:
        _at_least(0, generations=self.generations, alpha=self.alpha, boost=self.boost, blur=self.blur)


@dataclass(frozen=True)
class Calibration:
    """The candidates on which the search network's BatchNorm statistics are frozen (R3), one per image.

    images: how many training images, the first ones; noise: in units of their standard deviation per channel (R9);
    blur, count_padding: the smoothing of whole children of blocks 0 and 1 (`Recipe.child_blur`, R10).
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    images: int
    noise: float
    blur: tuple[int, int]
    count_padding: bool = True

    def __post_init__(self) -> None:
        _at_least(1, images=self.images)
        _at_least(0, noise=self.noise, **{f"blur of block {block}": passes for block, passes in enumerate(self.blur)})

    @property
    def name(self) -> str:
        """Of its network's file: recipes that share it share the network."""
        return f"blur-{self.blur[0]}-{self.blur[1]}" + ("" if self.count_padding else "-unpadded")


@dataclass(frozen=True)
class Recipe:
    """Settings of a search. `layers` has one entry a search layer: block 0, 1, 2, logits.

    The readings (noise … start) are what the paper leaves open; `docs/readings.md` says what each value means.
    Raises ValueError, naming the field, for a value out of range.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    layers: tuple[Layer, Layer, Layer, Layer]
    population: int = 240
    parents: int = 20
    explorers: int = 100  # the other population - parents - explorers children are refiners
    initial_noise: float = 0.3  # R9: in units of the input's standard deviation by channel
    noise: Literal["channel", "element"] = "channel"  # R1
    smooth: Literal["child", "noise"] = "child"  # R2
    batch_norm: Literal["frozen", "frozen-unsmoothed", "batch"] = "frozen"  # R3
    count_padding: bool = True  # R10
    refine_from: Literal["parents+explorers", "parents"] = "parents+explorers"  # R11
    start: Literal["best", "population"] = "best"  # R16: the population that opens layers 1, 2, 3
    normalise_start: bool = True  # R17: a layer's first population is normalised, as every child is
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(1, population=self.population, parents=self.parents)
        _at_least(0, explorers=self.explorers, initial_noise=self.initial_noise, seed=self.seed)
        if len(self.layers) != len(SEARCH_LAYERS):
            raise ValueError(f"layers must have {len(SEARCH_LAYERS)} entries (block 0, 1, 2, logits)")
        if self.parents + self.explorers > self.population:
            raise ValueError(
                f"parents ({self.parents}) and explorers ({self.explorers}) exceed the population ({self.population})"
            )
        if self.seed >= 2**64:
            raise ValueError(f"seed must be below 2^64, not {self.seed}")

    @property
    def refiners(self) -> int:
        return self.population - self.parents - self.explorers

    @property
    def child_blur(self) -> tuple[int, int, int]:
        """Passes of smoothing of a whole child of block 0, 1, 2: none where R2 smooths the noise alone."""
        first, second, third, _ = (layer.blur if self.smooth == "child" else 0 for layer in self.layers)
        return first, second, third

    @property
    def frozen(self) -> bool:
        """R3: whether the search's BatchNorm statistics were frozen before it, or are those of the batch."""
        return self.batch_norm != "batch"

    def calibration(self, images: int, noise: float) -> "Calibration":
        """R3: the candidates that freeze this recipe's BatchNorm statistics."""
        blur = (0, 0) if self.batch_norm == "frozen-unsmoothed" else self.child_blur[:2]
        return Calibration(images, noise, blur, self.count_padding)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as JSON would hold them."""
        plain = asdict(self)
        plain["layers"] = [dict(layer) for layer in plain["layers"]]
        return plain


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
    first, second, third, logits = (
        replace(layer, generations=max(1, round(layer.generations * factor)) if layer.generations else 0)
        for layer in recipe.layers
    )
    return replace(recipe, layers=(first, second, third, logits))
