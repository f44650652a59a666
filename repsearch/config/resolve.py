"""Recipes, variants and training settings by name: bases filled in, sweeps and alternatives made from them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, NamedTuple

from repsearch.config import alternatives
from repsearch.config.alternatives import Changes
from repsearch.config.parsing import parse
from repsearch.config.schema import Config, NetworkSettings
from repsearch.errors import UserError
from repsearch.learning.settings import Training, Variant, defaults
from repsearch.search.recipe import Recipe, scaled

LEARNS = ("labels", "targets")  # sections of `training`: what a variant learns from decides its defaults


class Cycle(NamedTuple):
    """One cycle of search and learning in turn. Cycle 0 searches the untrained network, if any."""

    chain: str
    number: int
    seed: int  # of training


class Resolved:
    """What the names in a configuration stand for. Raises UserError, naming the key, where one stands for nothing."""

    def __init__(self, config: Config) -> None:
        self.config = config

    # Recipes

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Recipes by name: the configured ones; and, as `<base>--<field>-<value>`, those of a data set's further
        searches (`seed`), of the sweeps of figures 4 and 8 (`population`, `generations`, `runs`), of the chains' cycles
        (`cycles`), and the alternatives of the study of readings.
        """
        config = self.config
        recipes = {name: self.recipe(name) for name in config.recipes}
        figure = config.figure4
        derived = [("figure4", figure.dataset, changes) for panel in self._sweep().values() for changes in panel]
        for dataset, entry in config.datasets.items():
            ensembles = config.ensembles
            more = ensembles.members * ensembles.repeats if ensembles and dataset in ensembles.datasets else 0
            seeds = self._seeds(dataset, recipes, max(entry.searches, more))
            derived += [(f"datasets.{dataset}.searches", dataset, seed) for seed in seeds]
        for dataset in config.compute.datasets if config.compute else ():
            derived += [("compute", dataset, changes) for changes in self._compute_changes(dataset, recipes)]
        for key, dataset, changes in derived:
            base = config.datasets[dataset].recipe
            try:
                recipe = scaled(recipes[base], changes)
            except ValueError as error:
                raise UserError(f"{key}: {error}") from None
            name = alternatives.name(base, changes)
            if recipes.setdefault(name, recipe) != recipe:
                raise UserError(f"{key}: two recipes would be called {name}: choose values that differ more")
        recipes |= {name: recipes[alternatives.family(name)] for name in filter(alternatives.has_targets, self.cycles)}
        for dataset in config.readings.datasets if config.readings else ():
            for base, changes in self.readings_recipes(dataset, recipes):
                name = alternatives.name(base, changes)
                recipe = parse(Recipe, {**self._settings(base), **changes}, "readings: recipe")
                if recipes.setdefault(name, recipe) != recipe:
                    raise UserError(f"readings: two recipes would be called {name}: choose values that differ more")
        return recipes

    def recipe(self, name: str) -> Recipe:
        """A configured recipe."""
        return parse(Recipe, self._settings(name), f"recipes.{name}")

    def readings_recipes(self, dataset: str, recipes: Mapping[str, Recipe] | None = None) -> list[tuple[str, Changes]]:
        """The recipes of the study of readings for a data set, (base, what is changed), each with every search's seed:
        the grid, all other changes, and further recipes.
        """
        study, base = self.config.readings, self.config.datasets[dataset].recipe
        tried = [(base, changes) for changes in self.search_readings(base)]
        tried += [(name, {}) for name in (study.recipes.get(dataset, []) if study else [])]
        seeds = self._seeds(dataset, recipes or self.recipes, self.config.datasets[dataset].searches)
        return [(name, {**changes, **seed}) for name, changes in tried for seed in seeds]

    @cached_property
    def cycles(self) -> dict[str, Cycle]:
        """The cycles of all chains in which a learned network is searched, from 1, by the names of their recipes."""
        cycles, found = self.config.cycles, {}
        for chain, settings in cycles.chains.items() if cycles else ():
            assert cycles is not None
            for number in range(1, settings.cycles + 1):
                for seed in range(cycles.seeds):
                    cycle = Cycle(chain, number, seed)
                    found[self.cycle_recipe(cycle)] = cycle
        return found

    def cycle_recipe(self, cycle: Cycle) -> str:
        """The name of the recipe of a cycle, from 1; its family is `none` where the chain has no search."""
        assert self.config.cycles is not None
        base = self.config.cycles.chains[cycle.chain].recipe or alternatives.NO_RECIPE
        return alternatives.name(base, {"chain": cycle.chain, "cycle": cycle.number, "network": cycle.seed})

    def searches(self, dataset: str, count: int | None = None) -> list[str]:
        """The recipes of a data set's searches, which differ by their seed: `<recipe>`, `<recipe>--seed-1`, …

        count: of them, in place of as many as tables 1 and 2 have.
        """
        base, count = self.config.datasets[dataset].recipe, count or self.config.datasets[dataset].searches
        return [alternatives.name(base, seed) for seed in self._seeds(dataset, self.recipes, count)]

    def _seeds(self, dataset: str, recipes: Mapping[str, Recipe], count: int) -> list[Changes]:
        """What each of several searches of a data set changes in its recipe: nothing, then the seed."""
        first = recipes[self.config.datasets[dataset].recipe].seed
        return [{}, *({"seed": first + number} for number in range(1, count))]

    def _settings(self, name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
        """A configured recipe with its `base` filled in."""
        settings = dict(self.config.recipes[name])
        base = settings.pop("base", None)
        if base is not None:
            if base not in self.config.recipes or base in (*seen, name):
                choices = ", ".join(self.config.recipes)
                raise UserError(f"recipes.{name}.base: {base!r} is not another recipe (there are {choices})")
            settings = {**self._settings(base, (*seen, name)), **settings}
        return parse(Recipe, settings, f"recipes.{name}").to_dict()

    def sweep(self) -> dict[str, list[str]]:
        """Figure 4's recipes by panel; the point that equals the base recipe is the base recipe."""
        base = self.config.datasets[self.config.figure4.dataset].recipe
        of_base = _size(self.recipes[base])
        return {
            panel: [alternatives.name(base, alternatives.differing(of_base, changes)) for changes in sweep]
            for panel, sweep in self._sweep().items()
        }

    def _sweep(self) -> dict[str, list[Changes]]:
        figure = self.config.figure4
        axes = {"population": figure.populations, "generations": figure.generations}
        return {axis: [{axis: count} for count in counts] for axis, counts in axes.items()}

    def compute_recipes(self, dataset: str) -> list[str]:
        """Figure 8's recipes of a data set."""
        base = self.config.datasets[dataset].recipe
        return [alternatives.name(base, changes) for changes in self._compute_changes(dataset, self.recipes)]

    def _compute_changes(self, dataset: str, recipes: Mapping[str, Recipe]) -> list[Changes]:
        """Figure 8's changes to a data set's recipe: more of one axis; or more runs, each with fewer generations or a
        smaller population, at about equal search compute. Of every search.
        """
        compute = self.config.compute
        assert compute is not None
        size = _size(recipes[self.config.datasets[dataset].recipe])
        swept = [{"population": count} for count in compute.populations]
        swept += [{"generations": count} for count in compute.generations]
        for runs in compute.runs:
            swept += [{"runs": runs}]
            each = size["runs"] / runs  # of the compute
            swept += [{"runs": runs, axis: max(1, round(size[axis] * each))} for axis in ("generations", "population")]
        changes = _once(alternatives.differing(size, change) for change in [{}, *swept])
        seeds = self._seeds(dataset, recipes, self.config.datasets[dataset].searches)
        return [{**change, **seed} for change in changes for seed in seeds]

    def network(self, dataset: str) -> NetworkSettings:
        """The search network's settings, with what the data set changes in them."""
        changes = self.config.datasets[dataset].network
        merged = {**self.config.network.model_dump(), **changes}
        return parse(NetworkSettings, merged, f"datasets.{dataset}.network")

    # Variants and their training settings

    def variant(self, name: str) -> Variant:
        """What a variant, or an alternative to it, learns from."""
        settings = self.config.variants[alternatives.family(name)]
        plain = {"learns": settings.learns, "blocks": settings.blocks}
        return parse(Variant, plain, f"variants.{alternatives.family(name)}")

    def training(self, dataset: str, variant: str) -> Training:
        """The training settings of a run, later ones overriding earlier ones: the defaults for what the variant learns,
        `training`, its section for what the variant learns, the variant's own, the data set's, its section, and what an
        alternative to the variant changes. Checked after each step, so that a mistake is named where it was made.
        """
        base, config = alternatives.family(variant), self.config
        learns = config.variants[base].learns
        section = "targets" if learns == "targets" else "labels"
        steps = [
            *_with_section("training", config.training, section),
            (f"variants.{base}.training", config.variants[base].training),
            *_with_section(f"datasets.{dataset}.training", config.datasets[dataset].training, section),
        ]
        if variant != base:
            steps.append((f"alternative {variant}", self.alternative_training[variant]))
        merged, settings = asdict(defaults(learns)), defaults(learns)
        for where, changes in steps:
            merged |= changes
            settings = parse(Training, merged, where)
        return settings

    def depths(self, dataset: str, variant: str) -> list[int]:
        """Depths at which a variant is trained, in units of the search network's (§4.2)."""
        return self.config.variants[alternatives.family(variant)].depths or [self.config.datasets[dataset].search_depth]

    # Alternatives: what tables tune, and the study of readings

    def tuned(self, dataset: str, variant: str) -> list[str]:
        """The names of the runs of a variant among which validation chooses: itself, and what `tune` changes."""
        return [alternatives.name(variant, changes) for changes in self._tuning(dataset, variant)]

    def _tuning(self, dataset: str, variant: str) -> list[Changes]:
        combinations = alternatives.every_combination(self.config.variants[variant].tune)
        return self._training_changes(dataset, variant, combinations)

    def _training_changes(self, dataset: str, variant: str, tried: Iterable[Changes]) -> list[Changes]:
        """What of the changes tried does change a run's training settings, once each."""
        settings = asdict(self.training(dataset, variant))
        return _once(alternatives.differing(settings, changes) for changes in tried)

    @cached_property
    def alternative_training(self) -> dict[str, Changes]:
        """Training settings that an alternative to a variant changes, by its name."""
        changed: dict[str, Changes] = {}
        for dataset in self.config.datasets:
            for variant in self.config.variants:
                for changes in (*self._tuning(dataset, variant), *self.training_readings(dataset, variant)):
                    name = alternatives.name(variant, changes)
                    if changes and changed.setdefault(name, changes) != changes:
                        raise UserError(f"two alternatives would be called {name}: choose values that differ more")
        return changed

    def grid_readings(self, base: str) -> list[Changes]:
        """What the grid of the study of readings changes in the recipe `base`, once each, the empty change first."""
        study = self.config.readings
        return self._recipe_changes(base, [{}, *alternatives.every_combination(study.grid)]) if study else []

    def search_readings(self, base: str) -> list[Changes]:
        """What the study of readings changes in the recipe `base`, once each: the grid, then all other changes."""
        study = self.config.readings
        return self._recipe_changes(base, [*self.grid_readings(base), *study.search]) if study else []

    def _recipe_changes(self, base: str, tried: list[Changes]) -> list[Changes]:
        recipe = self._settings(base)
        chosen = _once(alternatives.differing(recipe, changes) for changes in tried)
        # Where no child is smoothed, statistics frozen on unsmoothed candidates are the same.
        same = {"batch_norm": "frozen-unsmoothed", "smooth": "noise"}
        return [changes for changes in chosen if not changes or not same.items() <= {**recipe, **changes}.items()]

    def training_readings(self, dataset: str, variant: str) -> list[Changes]:
        """What the study of readings changes in a run's training settings, once each, the empty change first."""
        study = self.config.readings
        if study is None:
            return []
        if variant == study.baseline:
            tried = [*alternatives.every_combination(study.baseline_training)]
        else:
            tried = study.training if variant == study.variants[0] else []
        return self._training_changes(dataset, variant, [{}, *tried])


def _size(recipe: Recipe) -> dict[str, int]:
    """The axes of a search's compute (§4.4), and its runs."""
    return {"population": recipe.population, "generations": recipe.layers[0].generations, "runs": recipe.runs}


def _with_section(where: str, settings: Changes, section: str) -> list[tuple[str, Changes]]:
    """Training settings for everything, then those of a section, each with its key."""
    general = {key: value for key, value in settings.items() if key not in LEARNS}
    return [(where, general), (f"{where}.{section}", settings.get(section, {}))]


def _once(changes: Iterable[Changes]) -> list[Changes]:
    """Each change only once, in order."""
    distinct: list[Changes] = []
    for change in changes:
        if change not in distinct:
            distinct.append(change)
    return distinct
