"""The configuration: its schema, its defaults and its checks. `config.yaml` says what each key means."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from repsearch.config import alternatives
from repsearch.config.alternatives import MARK, Changes
from repsearch.config.parsing import check_plain, parse
from repsearch.data.sources import known_training_images
from repsearch.errors import UserError, reason
from repsearch.learning.settings import Training, Variant
from repsearch.search.recipe import Recipe, scaled_generations, scaled_population

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
Seeds = Annotated[int, Field(ge=1, le=1000)]


MOST_SHARDS = 9999  # of a data set: four digits in the files' names


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{,99}", name):
        raise ValueError("a name must be letters, digits, '-' and '_', at most 100 (it becomes a folder)")
    if MARK in name:
        raise ValueError(f"a name must not have {MARK!r}, which marks alternatives")
    return name


def _inside(path: str) -> str:
    parts = Path(path).parts
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", path):
        raise ValueError("must be letters, digits, '.', '_', '-' and '/' alone, such as 'results/mine'")
    if Path(path).is_absolute() or ".." in parts or parts[:1] != ("results",):
        raise ValueError("must be 'results' or a folder below it, such as 'results/mine'")
    if len(path) > 200:
        raise ValueError("must be at most 200 characters")
    return Path(path).as_posix()


def _distinct(values: list[T]) -> list[T]:
    twice = sorted({value for value in values if values.count(value) > 1}, key=str)
    if twice:
        raise ValueError(f"must not name {', '.join(map(str, twice))} twice")
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


class Dataset(Section):
    """One data set: where it comes from, how much of it to use, and what is special about it."""

    source: str
    label: str
    paper: Literal["MNIST", "CIFAR-10", "CIFAR-100"] | None = None
    images: Count | None = None  # training images kept, held-out ones included; None: all
    test_images: Count | None = None
    validation_images: Count
    flip: bool
    pad: Annotated[int, Field(ge=0)]
    recipe: Name
    search_depth: Count = 3
    training: dict[str, Any] = {}


class NetworkSettings(Section):
    width: Count = 256
    seed: Annotated[int, Field(ge=0)] = 0
    calibration_images: Count = 2000
    calibration_noise: Annotated[float, Field(ge=0, le=100)] = 0.3
    head_bias: bool = False


class VariantSettings(Section):
    learns: Literal["labels", "targets"]
    blocks: list[int] = []
    depths: Counts | None = None  # None: the data set's search_depth
    training: dict[str, Any] = {}
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


class Readings(Section):
    """The readings study: which recipes and training settings are compared (docs/readings.md)."""

    datasets: Names
    variants: Names  # that learn targets: each on the grid, the first on all else
    baseline: Name  # that learns labels
    depth: Count = 1
    seeds: Seeds
    grid: Alternatives  # recipe settings: all combinations
    search: list[dict[Name, Value]] = []  # recipe settings that are changed together
    recipes: dict[Name, Names] = {}  # data set → whole recipes beside
    training: list[dict[Name, Value]] = []  # training settings that are changed together
    baseline_training: Alternatives = {}  # of the baseline: all combinations


class Config(Section):
    results: Annotated[str, AfterValidator(_inside)] = "results"
    data: Annotated[str, Field(min_length=1)] = "data"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    search_path: Literal["auto", "fused", "dense"] = "auto"
    threads: Count = 1
    shard_images: Count = 2500
    seeds: Seeds = 3
    network: NetworkSettings
    datasets: Annotated[dict[Name, Dataset], Field(max_length=100)]
    recipes: Annotated[dict[Name, dict[str, Any]], Field(max_length=100)]
    training: dict[str, Any]
    variants: Annotated[dict[Name, VariantSettings], Field(max_length=100)]
    table1: Table
    table2: Table
    figure2: Figure2
    figure3: Figure3
    figure4: Figure4
    trajectories: Trajectories
    readings: Readings | None = None

    @cached_property
    def all_recipes(self) -> dict[str, Recipe]:
        """Recipes by name: the configured ones; figure 4's sweeps, `<base>-population-N`, `<base>-generations-N`; and
        the readings study's alternatives, `<base>--<field>-<value>`."""
        plain = {name: self._resolved(name) for name in self.recipes}
        base = self.datasets[self.figure4.dataset].recipe
        swept = {
            f"{base}-population-{count}": scaled_population(plain[base], count) for count in self.figure4.populations
        }
        try:
            for count in self.figure4.generations:
                swept[f"{base}-generations-{count}"] = scaled_generations(plain[base], count)
        except ValueError as error:
            raise UserError(f"figure4.generations: {error}") from None
        for name in plain.keys() & swept.keys():
            raise UserError(f"recipes.{name}: figure 4 makes a recipe of this name from {base}; choose another name")
        found = {name: parse(Recipe, settings, f"recipes.{name}") for name, settings in (plain | swept).items()}
        for dataset in self.readings.datasets if self.readings else ():
            base = self.datasets[dataset].recipe
            for changes in self.search_readings(base):
                name = alternatives.name(base, changes)
                recipe = parse(Recipe, {**plain[base], **changes}, "readings: recipe")
                if found.setdefault(name, recipe) != recipe:
                    raise UserError(f"readings: two recipes would be called {name}: choose values that differ more")
        return found

    def grid_readings(self, base: str) -> list[Changes]:
        """What the readings study's grid changes in the recipe `base`, once each, the empty change first."""
        study = self.readings
        return self._searched(base, [{}, *alternatives.every_combination(study.grid)]) if study else []

    def search_readings(self, base: str) -> list[Changes]:
        """What the readings study changes in the recipe `base`, once each: the grid, then all else."""
        study = self.readings
        return self._searched(base, [*self.grid_readings(base), *study.search]) if study else []

    def _searched(self, base: str, tried: list[Changes]) -> list[Changes]:
        recipe = self._resolved(base)
        chosen = _once(alternatives.differing(recipe, changes) for changes in tried)
        # Where no child is smoothed, statistics frozen on unsmoothed candidates are the same.
        same = {"batch_norm": "frozen-unsmoothed", "smooth": "noise"}
        return [changes for changes in chosen if not same.items() <= {**recipe, **changes}.items()]

    def training_readings(self, dataset: str, variant: str) -> list[Changes]:
        """What the readings study changes in a run's training settings, once each, the empty change first."""
        if self.readings is None:
            return []
        if variant == self.readings.baseline:
            tried = [*alternatives.every_combination(self.readings.baseline_training)]
        else:
            tried = self.readings.training if variant == self.readings.variants[0] else []
        return self._trained(dataset, variant, [{}, *tried])

    def tuned(self, dataset: str, variant: str) -> list[str]:
        """The names of the runs of a variant among which validation chooses: itself, and what `tune` changes."""
        return [alternatives.name(variant, changes) for changes in self._tuning(dataset, variant)]

    def _tuning(self, dataset: str, variant: str) -> list[Changes]:
        return self._trained(dataset, variant, alternatives.every_combination(self.variants[variant].tune))

    def _trained(self, dataset: str, variant: str, tried: Iterable[Changes]) -> list[Changes]:
        """What of the changes tried does change a run's training settings, once each."""
        own = asdict(self.run_training(dataset, variant))
        return _once(alternatives.differing(own, changes) for changes in tried)

    @cached_property
    def alternative_training(self) -> dict[str, Changes]:
        """Training settings that an alternative to a variant changes, by its name."""
        found: dict[str, Changes] = {}
        for dataset in self.datasets:
            for variant in self.variants:
                for each in (*self._tuning(dataset, variant), *self.training_readings(dataset, variant)):
                    name = alternatives.name(variant, each)
                    if each and found.setdefault(name, each) != each:
                        raise UserError(f"two alternatives would be called {name}: choose values that differ more")
        return found

    def _resolved(self, name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
        """A recipe with its `base` filled in."""
        own = dict(self.recipes[name])
        base = own.pop("base", None)
        if base is not None:
            if not isinstance(base, str) or base not in self.recipes or base in (*seen, name):
                known = ", ".join(self.recipes)
                raise UserError(f"recipes.{name}.base: {base!r} is not another recipe (there are {known})")
            own = {**self._resolved(base, (*seen, name)), **own}
        return parse(Recipe, own, f"recipes.{name}").to_dict()

    def sweep(self) -> dict[str, list[str]]:
        """Figure 4's recipes by panel; the point that equals the base recipe is the base recipe."""
        base = self.datasets[self.figure4.dataset].recipe
        recipe = self.all_recipes[base]

        def names(panel: str, counts: list[int], own: int) -> list[str]:
            return [base if count == own else f"{base}-{panel}-{count}" for count in counts]

        return {
            "population": names("population", self.figure4.populations, recipe.population),
            "generations": names("generations", self.figure4.generations, recipe.layers[0].generations),
        }

    def run_training(self, dataset: str, variant: str) -> Training:
        """The training settings of a run: the common ones, overridden by the variant's, the data set's, and what an
        alternative to the variant changes. Checked after each step, so that a mistake is named where it stands.
        """
        base = alternatives.family(variant)
        steps = [
            (f"variants.{base}.training", self.variants[base].training),
            (f"datasets.{dataset}.training", self.datasets[dataset].training),
        ]
        if variant != base:
            steps.append((f"alternative {variant}", self.alternative_training[variant]))
        merged = self.training
        settings = parse(Training, merged, "training")
        for where, own in steps:
            merged = {**merged, **own}
            settings = parse(Training, merged, where)
        return settings

    def run_variant(self, variant: str) -> Variant:
        settings = self.variants[alternatives.family(variant)]
        plain = {"learns": settings.learns, "blocks": settings.blocks}
        return parse(Variant, plain, f"variants.{variant}")

    def shards(self, dataset: str, images: int) -> int:
        """How many shards hold that many images. Raises UserError where the files' names have no room for them."""
        count = -(-images // self.shard_images)
        if count > MOST_SHARDS:
            raise UserError(f"shard_images: {self.shard_images} makes {count} shards of {dataset}, over {MOST_SHARDS}")
        return count

    def depths(self, dataset: str, variant: str) -> list[int]:
        return self.variants[alternatives.family(variant)].depths or [self.datasets[dataset].search_depth]


def _once(changes: Iterable[Changes]) -> list[Changes]:
    """Each but once, in order."""
    found: list[Changes] = []
    for each in changes:
        if each not in found:
            found.append(each)
    return found


def load(raw: Mapping[str, Any]) -> Config:
    """Validate a configuration. Raises UserError: one line a mistake, each naming the key."""
    check_plain(raw)
    config = parse(Config, raw, "")
    known: list[tuple[str, list[str], Mapping[str, Any]]] = [
        ("table1.datasets", config.table1.datasets, config.datasets),
        ("table2.datasets", config.table2.datasets, config.datasets),
        ("table1.variants", config.table1.variants, config.variants),
        ("table2.variants", config.table2.variants, config.variants),
        ("figure2.dataset", [config.figure2.dataset], config.datasets),
        ("figure3.dataset", [config.figure3.dataset], config.datasets),
        ("figure4.dataset", [config.figure4.dataset], config.datasets),
        ("figure4.variant", [config.figure4.variant], config.variants),
        ("trajectories.dataset", [config.trajectories.dataset], config.datasets),
        ("trajectories.variants", config.trajectories.variants, config.variants),
        *[(f"datasets.{name}.recipe", [entry.recipe], config.recipes) for name, entry in config.datasets.items()],
    ]
    if config.readings is not None:
        chosen = config.readings
        known += [
            ("readings.datasets", chosen.datasets, config.datasets),
            ("readings.variants", [*chosen.variants], config.variants),
            ("readings.baseline", [chosen.baseline], config.variants),
            ("readings.recipes", [*chosen.recipes], dict.fromkeys(chosen.datasets)),
            *[(f"readings.recipes.{name}", beside, config.recipes) for name, beside in chosen.recipes.items()],
        ]
    for key, names, there in known:
        for name in names:
            if name not in there:
                raise UserError(f"{key}: {name!r} is not defined (there are {', '.join(there)})")
    if config.run_variant(config.figure4.variant).learns != "targets":
        raise UserError("figure4.variant: must be a variant that learns targets")
    for variant in config.variants:
        config.run_variant(variant)
    if config.readings is not None:
        for variant in config.readings.variants:
            if config.run_variant(variant).learns != "targets":
                raise UserError(f"readings.variants: {variant} must learn targets")
        if config.run_variant(config.readings.baseline).learns != "labels":
            raise UserError(f"readings.baseline: {config.readings.baseline} must learn labels")
    for dataset in config.datasets:
        for variant in config.variants:
            config.run_training(dataset, variant)
    if "none" in config.recipes:
        raise UserError("recipes.none: 'none' stands for no recipe in the results' paths; choose another name")
    _ = config.all_recipes  # checks each
    for dataset in config.datasets:
        for variant in config.alternative_training:
            config.run_training(dataset, variant)
    _check_counts(config)
    return config


def _check_counts(config: Config) -> None:
    """Raise UserError where more images are asked for than there are, as far as that is known without reading files."""
    training: dict[str, int] = {}  # data set → images that are not held out
    for name, entry in config.datasets.items():
        try:
            there = known_training_images(entry.source)
        except UserError as error:
            raise UserError(f"datasets.{name}.source: {error}") from None
        if there is not None and (entry.images or 0) > there:
            raise UserError(f"datasets.{name}.images: {entry.images} asked for, but {entry.source} has {there}")
        kept = entry.images or there
        if kept is not None and entry.validation_images >= kept:
            raise UserError(
                f"datasets.{name}.validation_images: {entry.validation_images} leaves none of {kept} images to train on"
            )
        if kept is not None:
            training[name] = kept - entry.validation_images
            config.shards(name, kept)
    for key, figure in (("figure2", config.figure2), ("figure3", config.figure3)):
        there = training.get(figure.dataset)
        if there is not None and figure.images > there:
            raise UserError(f"{key}.images: {figure.images} asked for, but {figure.dataset} has {there} to train on")


def read(*paths: Path) -> Config:
    """The configuration of YAML files, later ones laid over earlier ones, as Snakemake does it."""
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            layer = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except Exception as error:  # beside yaml's own, what its constructors let through, and too deep a nesting
            raise UserError(f"{path} can't be read as YAML: {reason(error)}") from None
        if not isinstance(layer, dict):
            raise UserError(f"{path} must hold a mapping of settings")
        merged = _overlay(merged, layer)
    return load(merged)


def _overlay(base: dict[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in layer.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _overlay(result[key], value) if nested else value
    return result
