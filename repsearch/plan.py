"""The experiment: which jobs each result needs, and their settings. Plain Python, without Snakemake, torch or pandas.

Rules ask a `Plan` for the settings of a job by its wildcards, and for the names of the jobs that a result needs; where
their files lie is decided in `workflow/rules/common.smk`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from repsearch import jobs, paper
from repsearch.config import alternatives, load
from repsearch.config.resolve import Resolved
from repsearch.config.schema import Config, Table
from repsearch.data.sources import training_images
from repsearch.errors import UserError
from repsearch.jobs import DatasetName, FigureJob
from repsearch.search.recipe import BLOCKS, Recipe, scaled_population

NO_RECIPE = "none"  # of a run that has no targets
AUGMENTATIONS = {1: "plain", 2: "augmented"}  # of table 1 and 2


class Targets(NamedTuple):
    """The searched targets of a data set: all shards of one recipe."""

    dataset: str
    recipe: str


class Run(NamedTuple):
    """One training run, by the wildcards of its folder."""

    dataset: str
    augmentation: str
    variant: str
    recipe: str
    depth: int
    seed: int


class Probe(NamedTuple):
    """One probe of figure 2."""

    layer: int
    population: int


class Plan:
    """What a configuration asks for. Numbers among the arguments may come as text, as wildcards do.

    Raises UserError, naming the key, where a configuration can't be planned.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.resolved = Resolved(config)
        self.recipes = self.resolved.recipes
        self.variants = [*config.variants, *self.resolved.alternative_training]

    # Data sets and search networks

    def prepare(self, dataset: str) -> jobs.PrepareJob:
        entry = self.config.datasets[dataset]
        return jobs.PrepareJob(entry.source, entry.validation_images, entry.images, entry.test_images)

    def image_count(self, dataset: str) -> int:
        """Training images, held-out ones included, known before anything is downloaded."""
        entry = self.config.datasets[dataset]
        try:
            return entry.images or training_images(entry.source)
        except UserError as error:
            raise UserError(f"datasets.{dataset}.source: {error}") from None

    def network(self, dataset: str) -> jobs.NetworkJob:
        settings = self.config.network
        return jobs.NetworkJob(settings.width, settings.seed, settings.head_bias, settings.head_init)

    # Search

    def statistics(self, dataset: str, recipe: str) -> jobs.StatisticsJob:
        return jobs.StatisticsJob(self.recipes[recipe])

    def has_statistics(self, recipe: str) -> bool:
        """R3: whether there are any before the search."""
        return self.recipes[recipe].independent

    def shards(self, dataset: str) -> list[str]:
        """The names of a data set's shards."""
        count = load.shards(self.config, dataset, self.image_count(dataset))
        return [f"{number:04d}" for number in range(count)]

    def search(self, dataset: str, recipe: str, shard: str) -> jobs.SearchJob:
        start = int(shard) * self.config.shard_images
        return jobs.SearchJob(
            self.recipes[recipe], start, min(start + self.config.shard_images, self.image_count(dataset))
        )

    def describe(self, dataset: str, recipe: str) -> jobs.DescribeJob:
        return jobs.DescribeJob(dataset, recipe)

    def fitness(self, layer: int | str, population: int | str) -> jobs.FitnessJob:
        """The data set's recipe with another population; each block has as many generations as figure 2 needs."""
        figure = self.config.figure2
        recipe = scaled_population(self.recipe_of(figure.dataset), int(population))
        first, second, third, logits = (
            replace(settings, generations=max(figure.generations)) for settings in recipe.layers
        )
        recipe = replace(recipe, layers=(first, second, third, logits))
        return jobs.FitnessJob(recipe, int(layer), figure.images)

    def fitness_probes(self) -> list[Probe]:
        populations = {*self.config.figure2.populations, self.recipe_of(self.config.figure2.dataset).population}
        return [Probe(layer, population) for layer in range(len(BLOCKS)) for population in sorted(populations)]

    def diversity(self) -> jobs.DiversityJob:
        figure = self.config.figure3
        return jobs.DiversityJob(self.recipe_of(figure.dataset), figure.images, figure.runs, figure.probability)

    def recipe_of(self, dataset: str) -> Recipe:
        return self.recipes[self.config.datasets[dataset].recipe]

    # Training runs

    def train(
        self, dataset: str, augmentation: str, variant: str, recipe: str, depth: int | str, seed: int | str
    ) -> jobs.TrainJob:
        entry, augmented = self.config.datasets[dataset], augmentation == "augmented"
        if int(depth) > 1 and self.starts_from_search(dataset, variant):
            raise UserError(f"training.start: 'search' needs depth 1, but {variant} is trained at depth {depth}")
        return jobs.TrainJob(
            dataset=dataset,
            augmentation="augmented" if augmented else "plain",
            flip=entry.flip and augmented,
            pad=entry.pad if augmented else 0,
            variant_name=variant,
            variant=self.resolved.variant(variant),
            depth=int(depth),
            recipe_name=recipe,
            recipe=None if recipe == NO_RECIPE else self.recipes[recipe],
            seed=int(seed),
            width=self.config.network.width,
            head_bias=self.config.network.head_bias,
            head_init=self.config.network.head_init,
            training=self.resolved.training(dataset, variant),
        )

    def starts_from_search(self, dataset: str, variant: str) -> bool:
        """R19: whether a run starts from the search network's weights."""
        return self.resolved.training(dataset, variant).start == "search"

    def runs(
        self, dataset: str, augmentation: str, variant: str, depths: Iterable[int], seeds: int, recipe: str = ""
    ) -> list[Run]:
        """The runs of one variant. recipe: the data set's own where empty, none for a variant that learns labels."""
        if not recipe:
            learns = self.resolved.variant(variant).learns
            recipe = self.config.datasets[dataset].recipe if learns == "targets" else NO_RECIPE
        return [Run(dataset, augmentation, variant, recipe, depth, seed) for depth in depths for seed in range(seeds)]

    def table_runs(self, number: int | str) -> list[Run]:
        """All runs of table 1 or 2."""
        return self._tuned_runs(self._table(number), AUGMENTATIONS[int(number)])

    def image_runs(self) -> list[Run]:
        """The runs of figures that compare data sets by their number of images."""
        return self._tuned_runs(self.config.images, "plain") if self.config.images else []

    def _tuned_runs(self, table: Table, augmentation: str) -> list[Run]:
        """Of each variant every depth and every setting that is tuned, with the targets of every search."""
        runs: list[Run] = []
        for dataset in table.datasets:
            for name in table.variants:
                for variant in self.resolved.tuned(dataset, name):
                    depths = self.resolved.depths(dataset, variant)
                    for recipe in self.searches(dataset, variant):
                        runs += self.runs(dataset, augmentation, variant, depths, self.config.seeds, recipe)
        return runs

    def searches(self, dataset: str, variant: str) -> list[str]:
        """The recipes whose targets a variant learns in tables 1 and 2: of each search of the data set."""
        learns = self.resolved.variant(variant).learns
        return self.resolved.searches(dataset) if learns == "targets" else [NO_RECIPE]

    def scaling_runs(self) -> list[Run]:
        """Figure 4's runs: one variant on the targets of every recipe of the sweeps."""
        figure = self.config.figure4
        depths = self.resolved.depths(figure.dataset, figure.variant)
        runs: list[Run] = []
        for recipe in sorted({name for panel in self.resolved.sweep().values() for name in panel}):
            runs += self.runs(figure.dataset, "plain", figure.variant, depths, figure.seeds, recipe)
        return runs

    def trajectory_runs(self) -> list[Run]:
        """The runs of figures 5 to 7; SGD's distance to the targets is traced too, so that it has a recipe."""
        chosen = self.config.trajectories
        recipe = self.config.datasets[chosen.dataset].recipe
        runs: list[Run] = []
        for variant in chosen.variants:
            runs += self.runs(chosen.dataset, "plain", variant, [chosen.depth], chosen.seeds, recipe)
        return runs

    def readings_runs(self) -> list[Run]:
        """The runs of the study of readings: for each data set the readings of the training, then of the search."""
        study = self.config.readings
        runs: list[Run] = []
        for dataset in study.datasets if study else ():
            assert study is not None
            base = self.config.datasets[dataset].recipe
            for variant in [*study.variants, study.baseline]:
                for changes in self.resolved.training_readings(dataset, variant):
                    name = alternatives.name(variant, changes)
                    runs += self.runs(dataset, "plain", name, [study.depth], study.seeds)
            grid = [alternatives.name(base, changes) for changes in self.resolved.grid_readings(base)]
            for recipe in self.readings_recipes(dataset):
                for variant in study.variants if recipe in grid else study.variants[:1]:
                    runs += self.runs(dataset, "plain", variant, [study.depth], study.seeds, recipe)
        return list(dict.fromkeys(runs))

    def readings_recipes(self, dataset: str) -> list[str]:
        study, base = self.config.readings, self.config.datasets[dataset].recipe
        names = [alternatives.name(base, changes) for changes in self.resolved.search_readings(base)]
        return list(dict.fromkeys([*names, *(study.recipes.get(dataset, []) if study else [])]))

    def readings_targets(self) -> list[Targets]:
        datasets = self.config.readings.datasets if self.config.readings else []
        return [Targets(dataset, recipe) for dataset in datasets for recipe in self.readings_recipes(dataset)]

    # Results

    def _table(self, number: int | str) -> Table:
        return {1: self.config.table1, 2: self.config.table2}[int(number)]

    def _names(self, datasets: Iterable[str]) -> dict[str, DatasetName]:
        entries = {dataset: self.config.datasets[dataset] for dataset in datasets}
        return {
            dataset: DatasetName(entry.label, entry.paper if self._is_papers(dataset) else None)
            for dataset, entry in entries.items()
        }

    def _is_papers(self, dataset: str) -> bool:
        """Whether a data set has all images of the paper's, from a lossless source."""
        entry = self.config.datasets[dataset]
        settings = paper.SETTINGS.get(entry.source)
        complete = entry.images is None and entry.test_images is None
        return complete and settings is not None and settings.column == entry.paper

    def table(self, number: int | str) -> jobs.TableJob:
        return jobs.TableJob(int(number), self._names(self._table(number).datasets))

    def figure_runs(self, figure: str) -> list[Run]:
        """The training runs that a figure is drawn from; none for one that is drawn from probes."""
        match self.config.figures[figure]:
            case "scaling":
                return self.scaling_runs()
            case "trajectories":
                return self.trajectory_runs()
            case "table1" | "table2" as table:
                return self.table_runs(table[-1])
            case "images":
                return self.image_runs()
        return []

    def figure(self, figure: str) -> FigureJob:
        config, inputs = self.config, self.config.figures[figure]
        if inputs in ("table1", "table2", "images"):
            table = config.images if inputs == "images" else self._table(inputs[-1])
            return FigureJob(figure, self._names(table.datasets if table else []), "")
        datasets = {"fitness": config.figure2.dataset, "diversity": config.figure3.dataset}
        datasets |= {"scaling": config.figure4.dataset, "trajectories": config.trajectories.dataset}
        dataset = datasets[inputs]
        job = FigureJob(figure, self._names([dataset]), dataset, config.datasets[dataset].recipe)
        if inputs != "fitness":
            return job
        populations, generations = config.figure2.populations, config.figure2.generations
        base = self.recipe_of(dataset).population
        return replace(job, populations=populations, generations=generations, base_population=base)

    def readings(self) -> jobs.ReadingsJob:
        return jobs.ReadingsJob(self._names(self.config.readings.datasets if self.config.readings else []))

    def all_runs(self) -> list[Run]:
        """The runs that `all` asks for."""
        if self.config.readings:
            return self.readings_runs()
        tables = [*self.table_runs(1), *self.table_runs(2)]
        figures = [run for figure in self.config.figures for run in self.figure_runs(figure)]
        return sorted({*tables, *figures})

    def all_targets(self) -> list[Targets]:
        """The targets that `all` asks for: those of all its runs."""
        return sorted({Targets(run.dataset, run.recipe) for run in self.all_runs() if run.recipe != NO_RECIPE})

    # The scale

    def used_datasets(self) -> list[str]:
        """The data sets that results come from, in the order in which they are named."""
        config = self.config
        if config.readings:
            return config.readings.datasets
        figures = (config.figure2, config.figure3, config.figure4, config.trajectories)
        names = [*config.table1.datasets, *config.table2.datasets, *(figure.dataset for figure in figures)]
        names += config.images.datasets if config.images else []
        return list(dict.fromkeys(names))

    @cached_property
    def full_scale(self) -> bool:
        """Whether every result is at the paper's scale: all official images from a lossless source, and the paper's
        width, depths, search and training lengths (`repsearch.paper`)."""
        return self.config.network.width == paper.WIDTH and all(map(self._at_full_scale, self.used_datasets()))

    def _at_full_scale(self, dataset: str) -> bool:
        entry, settings = self.config.datasets[dataset], paper.SETTINGS.get(self.config.datasets[dataset].source)
        if settings is None or not self._is_papers(dataset):
            return False
        runs = [run for run in self.all_runs() if run.dataset == dataset]
        trained = [self.resolved.training(dataset, run.variant) for run in runs]
        return (
            entry.validation_images == paper.VALIDATION_IMAGES
            and entry.search_depth == settings.search_depth
            and paper.schedule(self.recipe_of(dataset)) == settings.schedule
            and all(training.epochs >= settings.epochs for training in trained)
            and all(training.batch == paper.BATCH for training in trained)
        )

    def reproduction(self, configfiles: Sequence[str]) -> jobs.ReproductionJob:
        """What the results are called, and how to make one of their files again. configfiles: as given to Snakemake,
        relative to the working directory."""
        config = self.config
        overlays = [path for path in configfiles if path != "config.yaml"]
        names = dict.fromkeys(config.datasets[dataset].recipe for dataset in self.used_datasets())
        searches = [
            f"recipe {name}: population {self.recipes[name].population}, "
            f"{'/'.join(str(layer.generations) for layer in self.recipes[name].layers)} generations"
            for name in names
        ]
        others = [config.datasets[name].label for name in self.used_datasets() if not self._is_papers(name)]
        data = f"; only a part of the paper's data, or a copy or other data: {', '.join(others)}" if others else ""
        return jobs.ReproductionJob(
            name="paper" if config.results == "results" else Path(config.results).name,
            what=f"width {config.network.width}; {'; '.join(searches)}{data}",
            results=config.results,
            options=f"--configfile {' '.join(overlays)}" if overlays else "",
            full=self.full_scale,
        )
