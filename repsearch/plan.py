"""The experiment: which jobs each result needs, and their settings. Plain Python, without Snakemake, torch or pandas.

Rules ask a `Plan` for the settings of a job by its wildcards, and for the names of the jobs that a result needs; where
their files lie is decided in `workflow/rules/common.smk`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from repsearch import jobs, paper
from repsearch.config import alternatives, load
from repsearch.config.alternatives import NO_RECIPE, has_targets
from repsearch.config.resolve import Cycle, Resolved
from repsearch.config.schema import Config, Table
from repsearch.data.sources import Size, is_code, is_there, size
from repsearch.errors import UserError
from repsearch.jobs import ChainNames, DatasetName, FigureJob
from repsearch.search.recipe import Recipe, scaled_population


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


class EnsembleOf(NamedTuple):
    """One ensemble: which of its kind."""

    dataset: str
    kind: str
    repeat: int


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
        load.check_split(dataset, entry, self._size(dataset))
        return jobs.PrepareJob(entry.source, entry.validation_images, entry.images, entry.test_images)

    def image_count(self, dataset: str) -> int:
        """Training images, held-out ones included, known before anything is downloaded."""
        images = self.config.datasets[dataset].images
        if images is None:
            known = self._size(dataset)
            assert known is not None
            return known.train
        return images

    def _size(self, dataset: str) -> Size | None:
        """How many images a data set's source has; None where that can't be known yet, but the settings say enough."""
        entry = self.config.datasets[dataset]
        try:
            return size(entry.source) if entry.images is None or is_there(entry.source) else None
        except UserError as error:
            raise UserError(f"datasets.{dataset}.source: {error}") from None

    def check_source(self, dataset: str) -> None:
        """Raise UserError where the file or folder that a data set is prepared from is not there."""
        source = self.config.datasets[dataset].source
        if not is_code(source) and not is_there(source):
            raise UserError(f"datasets.{dataset}.source: {source.partition(':')[2]} does not exist")

    def network(self, dataset: str) -> jobs.NetworkJob:
        settings = self.resolved.network(dataset)
        return jobs.NetworkJob(settings.width, settings.seed, settings.head_bias, settings.head_init)

    def learned(self, dataset: str, recipe: str) -> Run | None:
        """The run whose network a recipe's search is of; None for the untrained one."""
        cycle = self.resolved.cycles.get(recipe)
        return self._of_cycle(dataset, cycle._replace(number=cycle.number - 1)) if cycle else None

    def learned_network(self, dataset: str, recipe: str) -> jobs.LearnedNetworkJob:
        run = self.learned(dataset, recipe)
        assert run is not None  # the rule has no such wildcards
        return jobs.LearnedNetworkJob(**run._asdict())

    # Search

    def statistics(self, dataset: str, recipe: str) -> jobs.StatisticsJob:
        return jobs.StatisticsJob(self.recipes[recipe].run(0))  # which all runs share

    def has_statistics(self, recipe: str) -> bool:
        """R3: whether there are any before the search."""
        return self.recipes[recipe].independent

    def shards(self, dataset: str) -> list[str]:
        """The names of a data set's shards."""
        count = load.shards(self.config, dataset, self.image_count(dataset))
        return [f"{number:04d}" for number in range(count)]

    def search(self, dataset: str, recipe: str, shard: str) -> jobs.SearchJob:
        shards = self.shards(dataset)
        if shard not in shards:
            raise UserError(f"shard {shard} of {dataset}: there is none (its shards: {shards[0]} to {shards[-1]})")
        start = int(shard) * self.config.shard_images
        return jobs.SearchJob(
            self.recipes[recipe], start, min(start + self.config.shard_images, self.image_count(dataset))
        )

    def describe(self, dataset: str, recipe: str) -> jobs.DescribeJob:
        return jobs.DescribeJob(dataset, recipe)

    def fitness(self, population: int | str) -> jobs.FitnessJob:
        """The data set's recipe with another population; each block has as many generations as figure 2 needs."""
        figure = self.config.figure2
        load.check_figure("figure2", self.config, self.image_count(figure.dataset))
        recipe = scaled_population(self.recipe_of(figure.dataset).run(0), int(population))
        return jobs.FitnessJob(recipe.with_generations([max(figure.generations)] * len(recipe.layers)), figure.images)

    def fitness_populations(self) -> list[int]:
        """Each has a probe."""
        return sorted({*self.config.figure2.populations, self.recipe_of(self.config.figure2.dataset).population})

    def diversity(self) -> jobs.DiversityJob:
        figure = self.config.figure3
        load.check_figure("figure3", self.config, self.image_count(figure.dataset))
        recipe = self.recipe_of(figure.dataset).run(0)
        return jobs.DiversityJob(recipe, figure.images, figure.runs, figure.probability)

    @property
    def gallery_dataset(self) -> str:
        return self.config.gallery.dataset or self.config.figure3.dataset

    def gallery(self) -> jobs.GalleryJob:
        return jobs.GalleryJob(self.recipe_of(self.gallery_dataset).run(0), self.config.gallery.images)

    def recipe_of(self, dataset: str) -> Recipe:
        return self.recipes[self.config.datasets[dataset].recipe]

    # Training runs

    def train(
        self, dataset: str, augmentation: str, variant: str, recipe: str, depth: int | str, seed: int | str
    ) -> jobs.TrainJob:
        entry, augmented = self.config.datasets[dataset], augmentation == "augmented"
        network, untrained = self.resolved.network(dataset), self.learned(dataset, recipe) is None
        if int(depth) > 1 and self.starts_from_search(dataset, variant) and untrained:
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
            recipe=self.recipes[recipe] if has_targets(recipe) else None,
            seed=int(seed),
            width=network.width,
            head_bias=network.head_bias,
            head_init=network.head_init,
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
            recipe = NO_RECIPE if learns == "labels" else self.config.datasets[dataset].recipe
        return [Run(dataset, augmentation, variant, recipe, depth, seed) for depth in depths for seed in range(seeds)]

    def table_runs(self, number: int | str) -> list[Run]:
        """All runs of table 1 or 2."""
        return self._tuned_runs(self._table(number), paper.AUGMENTATIONS[int(number)])

    def image_runs(self) -> list[Run]:
        """The runs of figures that compare data sets by their number of images."""
        return self._tuned_runs(self.config.images, "plain") if self.config.images else []

    def compute_runs(self) -> list[Run]:
        """Figure 8's runs: the baseline at every depth and setting that is tuned, with augmentation too where the data
        set has any; the variants on every recipe, at the search depth, without."""
        compute, runs = self.config.compute, []
        for dataset in compute.datasets if compute else ():
            assert compute is not None
            entry, baseline = self.config.datasets[dataset], Table(datasets=[dataset], variants=[compute.baseline])
            for augmentation in ("plain", "augmented") if entry.flip or entry.pad else ("plain",):
                runs += self._tuned_runs(baseline, augmentation)
            for recipe in self.resolved.compute_recipes(dataset):
                for variant in compute.variants:
                    runs += self.runs(dataset, "plain", variant, [entry.search_depth], self.config.seeds, recipe)
        return runs

    def cycle_runs(self) -> list[Run]:
        """The runs of all cycles of all chains; chains that begin alike share their first."""
        cycles = self.config.cycles
        if cycles is None:
            return []
        every = [
            Cycle(chain, number, seed)
            for chain, settings in cycles.chains.items()
            for number in range(settings.cycles + 1)
            for seed in range(cycles.seeds)
        ]
        return list(dict.fromkeys(self._of_cycle(dataset, cycle) for dataset in cycles.datasets for cycle in every))

    def cycle_targets(self) -> list[Targets]:
        """The targets that are learned in the cycles, the first ones included."""
        targets = (Targets(run.dataset, run.recipe) for run in self.cycle_runs() if has_targets(run.recipe))
        return list(dict.fromkeys(targets))

    def _of_cycle(self, dataset: str, cycle: Cycle) -> Run:
        """The run of a cycle, at the data set's search depth."""
        assert self.config.cycles is not None
        chain, depth = self.config.cycles.chains[cycle.chain], self.config.datasets[dataset].search_depth
        if cycle.number:
            return Run(dataset, "plain", chain.then, self.resolved.cycle_recipe(cycle), depth, cycle.seed)
        recipe = self.searches(dataset, chain.first)[0]
        return Run(dataset, "plain", chain.first, recipe, depth, cycle.seed)

    def ensembles(self) -> list[EnsembleOf]:
        chosen = self.config.ensembles
        if chosen is None:
            return []
        repeats = range(chosen.repeats)
        return [EnsembleOf(dataset, kind, n) for dataset in chosen.datasets for kind in chosen.kinds for n in repeats]

    def members(self, dataset: str, kind: str, repeat: int | str) -> list[Run]:
        """The runs whose networks make up an ensemble; those of a kind share neither a training seed nor a search.

        Over training seeds: of the repeat's search. Over searches: of the repeat's training seed.
        """
        assert self.config.ensembles is not None
        ensemble, count, repeat = self.config.ensembles.kinds[kind], self.config.ensembles.members, int(repeat)
        if ensemble.chain is not None:
            assert self.config.cycles is not None
            cycles = range(min(count, self.config.cycles.chains[ensemble.chain].cycles + 1))
            return [self._of_cycle(dataset, Cycle(ensemble.chain, cycle, repeat)) for cycle in cycles]
        variant, depth = str(ensemble.variant), self.config.datasets[dataset].search_depth
        own = slice(repeat * count, (repeat + 1) * count)
        if ensemble.over == "searches":
            recipes = self.resolved.searches(dataset, own.stop)[own]
            return [Run(dataset, "plain", variant, recipe, depth, repeat) for recipe in recipes]
        searched = self.resolved.variant(variant).learns != "labels"
        recipe = self.resolved.searches(dataset, repeat + 1)[-1] if searched else NO_RECIPE
        return [Run(dataset, "plain", variant, recipe, depth, seed) for seed in range(own.start, own.stop)]

    def ensemble(self, dataset: str, kind: str, repeat: int | str) -> jobs.EnsembleJob:
        members = self.members(dataset, kind, repeat)
        training = self.resolved.training(dataset, members[-1].variant)
        return jobs.EnsembleJob(dataset, kind, int(repeat), training.evaluation_batch, training.precision)

    def ensemble_runs(self) -> list[Run]:
        return list(dict.fromkeys(run for ensemble in self.ensembles() for run in self.members(*ensemble)))

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
        return [NO_RECIPE] if learns == "labels" else self.resolved.searches(dataset)

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
                    for recipe in self.searches(dataset, variant):
                        runs += self.runs(dataset, "plain", name, [study.depth], study.seeds, recipe)
            grid = self.resolved.grid_readings(base)
            for origin, changes in self.resolved.readings_recipes(dataset):
                but_seed = {field: value for field, value in changes.items() if field != "seed"}
                for variant in study.variants if origin == base and but_seed in grid else study.variants[:1]:
                    recipe = alternatives.name(origin, changes)
                    runs += self.runs(dataset, "plain", variant, [study.depth], study.seeds, recipe)
        return list(dict.fromkeys(runs))

    def readings_recipes(self, dataset: str) -> list[str]:
        return [alternatives.name(base, changes) for base, changes in self.resolved.readings_recipes(dataset)]

    def readings_targets(self) -> list[Targets]:
        datasets = self.config.readings.datasets if self.config.readings else []
        return [Targets(dataset, recipe) for dataset in datasets for recipe in self.readings_recipes(dataset)]

    # Results

    def _table(self, number: int | str) -> Table:
        return {1: self.config.table1, 2: self.config.table2}[int(number)]

    def _names(self, datasets: Iterable[str]) -> dict[str, DatasetName]:
        entries = {dataset: self.config.datasets[dataset] for dataset in datasets}
        return {
            dataset: DatasetName(entry.label, entry.paper if self.is_papers(dataset) else None)
            for dataset, entry in entries.items()
        }

    def is_papers(self, dataset: str) -> bool:
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
            case "tables":
                return [*self.table_runs(1), *self.table_runs(2)]
            case "images":
                return self.image_runs()
            case "compute":
                return self.compute_runs()
            case "cycles":
                return self.cycle_runs()
            case "ensembles":
                return self.ensemble_runs()
        return []

    def figure(self, figure: str) -> FigureJob:
        config, inputs = self.config, self.config.figures[figure]
        if inputs in ("table1", "table2", "images", "compute", "cycles", "ensembles"):
            section = getattr(config, inputs)
            job = FigureJob(figure, self._names(section.datasets), "")
            if inputs != "cycles":
                return job
            chains = {name: ChainNames(chain.first, chain.then) for name, chain in section.chains.items()}
            return replace(job, chains=chains)
        if inputs == "tables":
            return FigureJob(figure, self._names([*config.table1.datasets, *config.table2.datasets]), "")
        datasets = {"fitness": config.figure2.dataset, "diversity": config.figure3.dataset}
        datasets |= {"gallery": self.gallery_dataset}
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

    def unused_recipes(self) -> list[str]:
        """The configured recipes that nothing of what `all` asks for is searched with, nor has as a base."""
        names = {alternatives.family(target.recipe) for target in self.all_targets()}
        used: set[str] = set()
        while names:
            used |= names
            names = {str(self.config.recipes[name].get("base", name)) for name in names} - used
        return [name for name in self.config.recipes if name not in used]

    def all_targets(self) -> list[Targets]:
        """The targets that `all` asks for: those of all its runs."""
        return sorted({Targets(run.dataset, run.recipe) for run in self.all_runs() if has_targets(run.recipe)})
