"""The configuration's schema and defaults; `config.yaml` says what each key means, `load` reads and checks it."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from repsearch.config.alternatives import MARK
from repsearch.config.partial import partial
from repsearch.learning.settings import Training
from repsearch.search.recipe import SEARCH_LAYERS, Layer, Recipe

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
Seeds = Annotated[int, Field(ge=1, le=1000)]


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_-]{,98}[A-Za-z0-9_])?", name):
        raise ValueError("a name must be letters, digits, '-' and '_', at most 100 and no '-' at the end")
    if MARK in name:
        raise ValueError(f"a name must not have {MARK!r}, which marks alternatives")
    return name


def _below_results(path: str) -> str:
    parts = Path(path).parts
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", path):
        raise ValueError("must be letters, digits, '.', '_', '-' and '/' alone, such as 'results/mine'")
    if Path(path).is_absolute() or ".." in parts or parts[:1] != ("results",):
        raise ValueError("must be 'results' or a folder below it, such as 'results/mine'")
    if len(path) > 200:
        raise ValueError("must be at most 200 characters")
    return Path(path).as_posix()


def _distinct(values: list[T]) -> list[T]:
    repeated = sorted({value for value in values if values.count(value) > 1}, key=str)
    if repeated:
        raise ValueError(f"must not name {', '.join(map(str, repeated))} twice")
    return values


def _few(alternatives: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if math.prod(map(len, alternatives.values())) > 1000:
        raise ValueError("must not have more than 1000 combinations")
    return alternatives


Name = Annotated[str, AfterValidator(_plain_name)]
Names = Annotated[list[Name], Field(min_length=1, max_length=100), AfterValidator(_distinct)]
Counts = Annotated[list[Count], Field(min_length=1, max_length=100), AfterValidator(_distinct)]
Value = bool | int | float | Name  # of a setting that becomes a part of a folder's name
Alternatives = Annotated[
    dict[Name, Annotated[list[Value], Field(min_length=1), AfterValidator(_distinct)]], AfterValidator(_few)
]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NetworkSettings(Section):
    width: Count = 256
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    head_bias: bool = False
    head_init: Literal["default", "kaiming"] = "default"


# Settings that are laid on top of others, each with what may stand there. Plain mappings, also once they are checked.
if TYPE_CHECKING:
    NetworkChanges = dict[str, Any]
    TrainingChanges = dict[str, Any]
    TrainingSection = dict[str, Any]
    RecipeSection = dict[str, Any]
else:
    _Layers = Annotated[
        list[partial("LayerSettings", Layer, complete=True)],
        Field(min_length=len(SEARCH_LAYERS), max_length=len(SEARCH_LAYERS)),
    ]
    NetworkChanges = partial("NetworkChanges", NetworkSettings)
    TrainingChanges = partial("TrainingChanges", Training)
    TrainingSection = partial("TrainingSection", Training, labels=TrainingChanges, targets=TrainingChanges)
    RecipeSection = partial("RecipeSection", Recipe, base=str | None, layers=_Layers)


class Dataset(Section):
    """One data set: where it comes from, how much of it to use, and what is special about it."""

    source: str
    label: str
    paper: Literal["MNIST", "CIFAR-10", "CIFAR-100"] | None = None
    images: Count | None = None  # training images in use, held-out ones included; None: all
    test_images: Count | None = None
    validation_images: Count
    flip: bool
    pad: Annotated[int, Field(ge=0)]
    recipe: Name
    searches: Annotated[int, Field(ge=1, le=100)] = 1
    search_depth: Count = 3
    network: NetworkChanges = {}  # what differs from the section of that name
    training: TrainingSection = {}


class VariantSettings(Section):
    learns: Literal["labels", "targets", "logits"]
    blocks: list[int] = []
    depths: Counts | None = None  # None: the data set's search_depth
    training: TrainingChanges = {}
    tune: Alternatives = {}  # training settings: every combination is run, validation chooses (tables 1 and 2)


class Table(Section):
    datasets: Names
    variants: Names


class Figure2(Section):
    dataset: Name
    images: Count
    populations: Counts
    generations: Counts


class Figure3(Section):
    dataset: Name
    images: Count
    runs: Count
    probability: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Gallery(Section):
    """The images of which the report shows what the search made of them."""

    dataset: Name | None = None  # None: figure 3's
    images: Annotated[int, Field(ge=1, le=20)] = 3


class Figure4(Section):
    dataset: Name
    variant: Name
    populations: Counts
    generations: Counts
    seeds: Seeds


class Trajectories(Section):
    dataset: Name
    variants: Names
    depth: Count
    seeds: Seeds


class Compute(Section):
    """What search compute is spent on (figure 8): population, generations, or independent runs of each image."""

    datasets: Names
    variants: Names  # that learn targets
    baseline: Name  # that learns labels, with augmentation too where the data set has any
    populations: Counts
    generations: Counts
    runs: Annotated[Counts, Field(max_length=20)]


class Chain(Section):
    """What is learned first, and what in every later cycle, from a search of the network that was learned before.

    `training.start: search` of `then` begins with that network's weights.
    """

    first: Name  # a variant; of those that learn targets, from the data set's own
    then: Name
    cycles: Annotated[int, Field(ge=1, le=100)]  # after the first
    recipe: Name | None = None  # of the searches; None: there are none, and `then` learns labels


class Cycles(Section):
    """Search and learning in turn (§6)."""

    datasets: Names
    seeds: Seeds  # training seeds: each has its own cycles
    chains: Annotated[dict[Name, Chain], Field(min_length=1, max_length=20)]


class Ensemble(Section):
    """What the members of an ensemble differ in: their training seed, their search, or their cycle of a chain."""

    variant: Name | None = None
    over: Literal["seeds", "searches"] | None = None  # None: seeds, of a variant
    chain: Name | None = None  # in place of a variant: its networks after each cycle

    @model_validator(mode="after")
    def _one_of_both(self) -> "Ensemble":
        if (self.variant is None) == (self.chain is None):
            raise ValueError("must have either a variant or a chain")
        if self.chain is not None and self.over is not None:
            raise ValueError("must not say `over` of a chain, whose cycles are the members")
        return self


class Ensembles(Section):
    """Ensembles of learned networks (§6)."""

    datasets: Names
    members: Annotated[int, Field(ge=2, le=100)]  # of a chain, as many as it has networks, at most these
    repeats: Seeds  # ensembles of each kind
    kinds: Annotated[dict[Name, Ensemble], Field(min_length=1, max_length=20)]


class Readings(Section):
    """The study of readings: which recipes and training settings are compared (docs/readings.md)."""

    datasets: Names
    variants: Names  # that learn targets: each on the grid, the first on everything else
    baseline: Name  # that learns labels
    depth: Count = 1
    seeds: Seeds
    grid: Alternatives  # recipe settings: all combinations
    search: list[dict[Name, Value]] = []  # recipe settings that are changed together
    recipes: dict[Name, Names] = {}  # data set → further recipes
    training: list[dict[Name, Value]] = []  # training settings that are changed together
    baseline_training: Alternatives = {}  # of the baseline: all combinations


FigureInputs = Literal[
    "fitness", "diversity", "gallery", "scaling", "trajectories", "table1", "table2", "tables", "images", "compute",
    "cycles", "ensembles",
]  # fmt: skip


class Config(Section):
    results: Annotated[str, AfterValidator(_below_results)] = "results"
    data: Annotated[str, Field(min_length=1)] = "data"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    search_path: Literal["auto", "fused", "dense"] = "auto"
    threads: Count = 1
    shard_images: Count = 10_000
    seeds: Seeds = 3
    formats: Annotated[list[Literal["png", "pdf", "svg", "latex"]], AfterValidator(_distinct)] = ["png"]
    network: NetworkSettings
    datasets: Annotated[dict[Name, Dataset], Field(max_length=100)]
    recipes: Annotated[dict[Name, RecipeSection], Field(max_length=100)]
    training: TrainingSection
    variants: Annotated[dict[Name, VariantSettings], Field(max_length=100)]
    table1: Table
    table2: Table
    figure2: Figure2
    figure3: Figure3
    gallery: Gallery = Gallery()
    figure4: Figure4
    trajectories: Trajectories
    images: Table | None = None
    compute: Compute | None = None
    cycles: Cycles | None = None
    ensembles: Ensembles | None = None
    figures: Annotated[dict[Name, FigureInputs], Field(max_length=100)]
    readings: Readings | None = None
