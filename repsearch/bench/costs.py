"""What a configuration costs: its jobs, what each computes and stores, counted. How fast is measured in `rates`."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from repsearch.bench.roofline import convolution_operations
from repsearch.config.alternatives import has_targets
from repsearch.errors import UserError
from repsearch.learning.settings import Training
from repsearch.network import Shape
from repsearch.plan import Plan, Run, Targets
from repsearch.search.recipe import BLOCKS, OPERATORS, SEARCH_LAYERS, Recipe

EVERYTHING = ("all", "report", "reproduction")  # what needs every result
ORDER = [
    "prepare_dataset", "initialise_network", "learned_network", "take_statistics", "search_shard", "probe_fitness",
    "probe_diversity", "probe_gallery", "describe_targets", "train", "evaluate_ensemble", "table", "table3", "figure",
    "readings", "reproduction", "assemble_report",
]  # fmt: skip


class Searched(NamedTuple):
    """What the speed of a candidate depends on. learned: whether the network is. how: operators and readings."""

    shape: Shape
    learned: bool
    how: tuple[str, ...]


class Trained(NamedTuple):
    """What the speed of a convolution's operation in training depends on. shape: of depth 1 and 10 classes."""

    shape: Shape
    targets: bool  # whether they are learned
    batch: int
    precision: str


class Unit(NamedTuple):
    """What a job does many times. what: of a search, an `opening` of an image's, a child of a search layer, a candidate
    that is searched `together` with other images; of training, an `operation`; with no kind, an operation of comparing
    all pairs of maps (`pairs`).
    """

    kind: Searched | Trained | None
    what: str


@dataclass(frozen=True)
class Task:
    """One job: how often it does what, and the bytes that it stores."""

    rule: str
    amounts: Mapping[Unit, float] = field(default_factory=dict)
    stored: float = 0

    def seconds(self, rates: Mapping[Unit, float], start: float) -> float:
        """rates: seconds of each unit. start: seconds in which a job starts."""
        return start + sum(amount * rates[unit] for unit, amount in self.amounts.items())


@dataclass
class Work:
    """The jobs of some results. recipes: of each kind of search the largest, to be measured."""

    tasks: list[Task] = field(default_factory=list)
    recipes: dict[Searched, Recipe] = field(default_factory=dict)

    @property
    def units(self) -> set[Unit]:
        return {unit for task in self.tasks for unit in task.amounts}


def summary(work: Work, rates: Mapping[Unit, float], start: float, slots: int) -> dict[str, Any]:
    """rows: rule, jobs, hours (of all its jobs, one after the other), longest (hours of one job), gigabytes. hours,
    gigabytes: of all rows. wall_hours: with so many jobs at a time as there are slots; at least, since a job waits for
    those that it is made from: not less than one job of each rule, the longest, after the other.
    """
    rows: list[dict[str, Any]] = []
    for rule in ORDER:
        tasks = [task for task in work.tasks if task.rule == rule]
        if tasks:
            hours = [task.seconds(rates, start) / 3600 for task in tasks]
            stored = sum(task.stored for task in tasks) / 1e9
            row = {"rule": rule, "jobs": len(tasks), "hours": sum(hours), "longest": max(hours), "gigabytes": stored}
            rows.append(row)
    hours_in_all, longest, gigabytes = (sum(row[name] for row in rows) for name in ("hours", "longest", "gigabytes"))
    totals = {"jobs": len(work.tasks), "hours": hours_in_all, "gigabytes": gigabytes}
    return {"rows": rows, **totals, "slots": slots, "wall_hours": max(hours_in_all / slots, longest)}


def search_amounts(kind: Searched, recipe: Recipe, images: int, layer: int | None = None) -> dict[Unit, float]:
    """Of a search of some images, in all runs: their openings, and children by search layer. layer: of one alone."""
    layers = range(len(SEARCH_LAYERS)) if layer is None else [layer]
    searches, children = images * recipe.runs, recipe.population - recipe.parents
    amounts = {Unit(kind, SEARCH_LAYERS[at]): searches * recipe.layers[at].generations * children for at in layers}
    return {Unit(kind, "opening"): float(searches), **amounts}


def together_amounts(kind: Searched, recipe: Recipe, layer: int | None = None) -> dict[Unit, float]:
    """Of the calibration images, searched together: candidates, with the parents, who are scored anew."""
    layers = recipe.layers if layer is None else recipe.layers[layer : layer + 1]
    generations = sum(each.generations for each in layers) if recipe.batch_norm == "trajectory" else 0
    return {Unit(kind, "together"): recipe.statistics_images * recipe.population * (1 + generations)}


def store_bytes(shape: Shape, recipe: Recipe, images: int) -> int:
    """Of a shard's arrays, before compression, which saves about a fifth: float16 targets, float32 histories, indices,
    labels and two cross-entropies.
    """
    values = sum(math.prod(size) for size in shape.layer_shapes.values())
    history = sum(layer.generations + 1 for layer in recipe.layers)
    return images * (recipe.runs * (2 * values + 4 * history + 4) + 2 * 8 + 4)


def weights_bytes(shape: Shape) -> int:
    """Of a network's float32 parameters: whitening, convolutions, BatchNorm's weights and biases, head."""
    whitened = 8 * shape.channels
    convolutions = 9 * shape.width * (whitened + (len(BLOCKS) * shape.convolutions - 1) * shape.width)
    biases = whitened + 2 * len(BLOCKS) * shape.convolutions * shape.width + shape.head_bias * shape.classes
    head = shape.width * shape.map_sizes[-1] ** 2 * shape.classes
    return 4 * (4 * shape.channels * whitened + convolutions + biases + head)


def train_amounts(
    shape: Shape, training: Training, targets: bool, traced: bool, images: int, validation: int
) -> dict[Unit, float]:
    """Of a training run: the convolutions' operations, for each image of each epoch three times those of a forward
    pass, for each that is validated once; if it is traced (§4.5), those of all pairs of validation images' maps.
    """
    kind = Trained(replace(_plain(shape), classes=10), targets, training.batch, training.precision)
    passes = training.epochs * (3 * images + validation)
    amounts = {Unit(kind, "operation"): float(passes * convolution_operations(shape))}
    if traced:
        numbers = sum(math.prod(shape.layer_shapes[block]) for block in BLOCKS)
        amounts[Unit(None, "pairs")] = float(training.epochs * 2 * validation**2 * numbers)
    return amounts


def _plain(shape: Shape) -> Shape:
    """What of a network decides how fast it is: not its head's bias, nor its depth, which the operations count."""
    return Shape(shape.channels, shape.size, shape.classes, shape.width)


class Costs:
    """Of some results of a plan, whether or not they are finished; `work` has their jobs.

    targets: `all`, names (`table1`) or files of results. shape: data set → the shape of its search network. Raises
    UserError for a target that is no result.
    """

    def __init__(self, plan: Plan, targets: Sequence[str], shape: Callable[[str], Shape]) -> None:
        self.plan, self.config, self.shape, self.work = plan, plan.config, shape, Work()
        self.probes: dict[str, str] = {}  # fitness, diversity, gallery: their data sets
        self.described: set[Targets] = set()
        names = [target.rpartition("/")[2].partition(".")[0].removesuffix("_tried") for target in targets]
        if any(name in EVERYTHING for name in names):
            names = [*self._all(), "reproduction", "assemble_report"]
        names += self._beyond() if "table3" in names else []
        runs = [run for name in dict.fromkeys(names) for run in self._needed(name)]
        runs = list(dict.fromkeys(self._with_former(runs)))
        self._prepare(runs)
        self._search({Targets(run.dataset, run.recipe) for run in runs if has_targets(run.recipe)} | self.described)
        self._probe()
        self.work.tasks += [Task("describe_targets") for _ in self.described]
        self.work.tasks += [self._train(run) for run in runs]

    def _all(self) -> list[str]:
        if self.config.readings:
            return ["readings"]
        return ["table1", "table2", *self.config.figures, *(["table3"] if self._beyond() else [])]

    def _beyond(self) -> list[str]:
        """The figures that table 3 collects."""
        return [name for name in ("figure8", "cycles", "ensembles") if name in self.config.figures]

    def _needed(self, name: str) -> list[Run]:
        """The runs of one result, whose own job is added; its probes and described targets are noted."""
        plan, config = self.plan, self.config
        if name not in (*self._all(), *config.figures, "table1", "table2", "reproduction", "assemble_report"):
            choices = ", ".join([*self._all(), *EVERYTHING])
            raise UserError(f"--target: {name!r} is not a result of this configuration (there are {choices})")
        rule = {"table1": "table", "table2": "table"}.get(name, "figure" if name in config.figures else name)
        self.work.tasks.append(Task(rule))
        if rule == "table":
            return plan.table_runs(name[-1])
        if name == "readings":
            self.described.update(plan.readings_targets())
            return plan.readings_runs()
        inputs = config.figures.get(name, "")
        probed = {"fitness": config.figure2.dataset, "diversity": config.figure3.dataset}
        probed["gallery"] = plan.gallery_dataset
        if inputs in probed:
            self.probes[inputs] = probed[inputs]
        if inputs == "cycles":
            self.described.update(plan.cycle_targets())
        if inputs == "ensembles" and not any(task.rule == "evaluate_ensemble" for task in self.work.tasks):
            self.work.tasks += [Task("evaluate_ensemble") for _ in plan.ensembles()]  # seconds, as is to start it
        return plan.figure_runs(name) if inputs else []

    def _with_former(self, runs: Iterable[Run]) -> Iterator[Run]:
        """The runs, and those of earlier cycles, whose networks they search or start from."""
        for run in runs:
            former = self.plan.learned(run.dataset, run.recipe)
            yield from self._with_former([former] if former else [])
            yield run

    def _prepare(self, runs: Sequence[Run]) -> None:
        """Data sets, their search networks, and learned networks that are searched or trained on."""
        for dataset in {*(run.dataset for run in runs), *self.probes.values()}:
            shape = self.shape(dataset)
            stored = self.plan.image_count(dataset) * shape.channels * shape.size**2
            self.work.tasks.append(Task("prepare_dataset", stored=stored))
        networks = {(dataset, "") for dataset in self.probes.values()}
        for run in runs:
            if has_targets(run.recipe) or self.plan.starts_from_search(run.dataset, run.variant):
                networks.add((run.dataset, run.recipe if self.plan.learned(run.dataset, run.recipe) else ""))
        for dataset, recipe in networks:
            rule = "learned_network" if recipe else "initialise_network"
            self.work.tasks.append(Task(rule, stored=weights_bytes(self.shape(dataset))))

    def _search(self, searched: set[Targets]) -> None:
        """Shards, and the statistics of each recipe."""
        plan, statistics = self.plan, {*searched}
        for dataset in {self.probes[name] for name in ("diversity", "gallery") if name in self.probes}:
            statistics.add(Targets(dataset, self.config.datasets[dataset].recipe))
        for dataset, name in sorted(statistics):
            recipe, shape = plan.recipes[name], self.shape(dataset)
            kind = self._kind(dataset, recipe, plan.learned(dataset, name) is not None)
            if plan.has_statistics(name):
                self.work.tasks.append(Task("take_statistics", together_amounts(kind, recipe)))
            for shard in plan.shards(dataset) if Targets(dataset, name) in searched else ():
                job = plan.search(dataset, name, shard)
                amounts = search_amounts(kind, recipe, job.stop - job.start)
                stored = store_bytes(shape, recipe, job.stop - job.start)
                self.work.tasks.append(Task("search_shard", amounts, stored))

    def _probe(self) -> None:
        plan = self.plan
        for population in plan.fitness_populations() if "fitness" in self.probes else ():
            fitness = plan.fitness(population)
            kind = self._kind(self.probes["fitness"], fitness.recipe, False)
            amounts: Counter[Unit] = Counter()
            for block in range(len(BLOCKS)):
                amounts.update(search_amounts(kind, fitness.recipe, fitness.images, block))
                amounts.update(together_amounts(kind, fitness.recipe, block) if fitness.recipe.independent else {})
            self.work.tasks.append(Task("probe_fitness", amounts))
        if "diversity" in self.probes:
            diversity = plan.diversity()
            kind = self._kind(self.probes["diversity"], diversity.recipe, False)
            searched = search_amounts(kind, diversity.recipe, diversity.images * diversity.runs)
            self.work.tasks.append(Task("probe_diversity", searched))
        if "gallery" in self.probes:
            self.work.tasks.append(Task("probe_gallery"))  # a few images: seconds, as is to start it

    def _kind(self, dataset: str, recipe: Recipe, learned: bool) -> Searched:
        how = (*(str(getattr(recipe, name)) for name in OPERATORS), recipe.smooth, recipe.batch_norm)
        kind, one = Searched(_plain(self.shape(dataset)), learned, how), recipe.run(0)
        largest = self.work.recipes.setdefault(kind, one)
        if one.candidates > largest.candidates:
            self.work.recipes[kind] = one
        return kind

    def _train(self, run: Run) -> Task:
        job = self.plan.train(*run)
        shape = replace(self.shape(run.dataset), convolutions=2 * job.depth)
        validation = self.config.datasets[run.dataset].validation_images
        images = self.plan.image_count(run.dataset) - validation
        targets, traced = job.variant.learns == "targets", job.recipe is not None
        amounts = train_amounts(shape, job.training, targets, traced, images, validation)
        return Task("train", amounts, weights_bytes(shape))
