"""One dataclass per kind of job, with the settings that decide what it makes (and nothing that doesn't).

`plan` makes them, rules hand them on as JSON, commands read them back and call the stage. Input and output files,
devices, threads and logs are no part of a job.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from repsearch.config.parsing import parse
from repsearch.errors import UserError, reason
from repsearch.learning.settings import Training, Variant
from repsearch.search.recipe import Recipe

T = TypeVar("T", bound="Job")


@dataclass(frozen=True)
class Job:
    """What all jobs share: `from_json` refuses unknown keys."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class PrepareJob(Job):
    """A data set's source, and how many images are kept (None: all) and held out (A.3)."""

    source: str
    validation_images: int
    images: int | None = None
    test_images: int | None = None


@dataclass(frozen=True)
class NetworkJob(Job):
    """The search network of a data set (§3.1)."""

    width: int
    seed: int
    head_bias: bool
    head_init: Literal["default", "kaiming"]


@dataclass(frozen=True)
class LearnedNetworkJob(Job):
    """A network that was learned, to be searched in the next cycle (§6): the run it is from."""

    dataset: str
    augmentation: Literal["plain", "augmented"]
    variant: str
    recipe: str
    depth: int
    seed: int


@dataclass(frozen=True)
class StatisticsJob(Job):
    """The BatchNorm statistics of a recipe's search (R3)."""

    recipe: Recipe


@dataclass(frozen=True)
class SearchJob(Job):
    """One shard: training images start … stop-1, held-out ones included."""

    recipe: Recipe
    start: int
    stop: int


@dataclass(frozen=True)
class FitnessJob(Job):
    """Figure 2's probe: each block evolved alone, for a random choice of training images."""

    recipe: Recipe
    images: int


@dataclass(frozen=True)
class DiversityJob(Job):
    """Figure 3's probe: independent runs of a random choice of training images.

    probability: what the correct class must exceed for a run's candidate to count (½ in §3.2).
    """

    recipe: Recipe
    images: int
    runs: int
    probability: float


@dataclass(frozen=True)
class GalleryJob(Job):
    """What one search makes of the first held-out images, each of another class."""

    recipe: Recipe
    images: int


@dataclass(frozen=True)
class DescribeJob(Job):
    """A description of a recipe's targets. dataset, recipe: their names."""

    dataset: str
    recipe: str


@dataclass(frozen=True)
class TrainJob(Job):
    """One training run (§4.2). recipe: None for a run that has no targets to learn or to be compared with."""

    dataset: str
    augmentation: Literal["plain", "augmented"]
    flip: bool
    pad: int
    variant_name: str
    variant: Variant
    depth: int
    recipe_name: str
    recipe: Recipe | None
    seed: int
    width: int
    head_bias: bool
    head_init: Literal["default", "kaiming"]
    training: Training


@dataclass(frozen=True)
class EnsembleJob(Job):
    """One ensemble of a kind, and how its members are evaluated (R4: in batches)."""

    dataset: str
    kind: str
    repeat: int
    evaluation_batch: int
    precision: Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class DatasetName(Job):
    """How results call a data set; paper: the column of the paper's tables to compare with, None where the images are
    not all and exactly the paper's.
    """

    label: str
    paper: str | None = None


@dataclass(frozen=True)
class TableJob(Job):
    """Table 1 or 2, from the summaries of its runs."""

    number: int
    datasets: dict[str, DatasetName]


@dataclass(frozen=True)
class ChainNames(Job):
    """A chain of cycles (§6), by the variants that are learned first and then."""

    first: str
    then: str


@dataclass(frozen=True)
class FigureJob(Job):
    """A figure from its probes or its runs.

    figure: a module of `repsearch.results.figures`. recipe: the one that the sweeps start from. populations,
    generations: the points of figure 2's sweeps; base_population: that of the sweep over generations. chains: by name,
    those whose cycles are shown.
    """

    figure: str
    datasets: dict[str, DatasetName]
    dataset: str
    recipe: str = ""
    populations: list[int] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    base_population: int = 0
    chains: dict[str, ChainNames] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadingsJob(Job):
    """The study of readings, from the summaries of its runs and the facts of its targets."""

    datasets: dict[str, DatasetName]


@dataclass(frozen=True)
class ReproductionJob(Job):
    """The paper's claims against one results folder: its name, what was done there, and how to make a file of it.

    full: whether all of it is at the paper's scale (`scale.is_full`).
    """

    name: str
    what: str
    results: str
    options: str
    full: bool

    def command(self, file: str) -> str:
        return f"snakemake {self.results}/{file} {self.options}".strip()


def to_json(job: Job) -> str:
    """Keys sorted, so that their order is no change."""
    return json.dumps(asdict(job), sort_keys=True)


def from_json(kind: type[T], text: str) -> T:
    """A job that `to_json` wrote. Raises UserError, naming the key, where it is not one of `kind`."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--settings is not JSON: {reason(error)}") from None
    if not isinstance(plain, dict):
        raise UserError(f"--settings must be a JSON object with the keys of a {kind.__name__}")
    return parse(kind, plain, "", of=f"--settings ({kind.__name__})")
