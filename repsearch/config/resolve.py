"""Recipes, variants and training settings by name: bases filled in, sweeps and alternatives made from them."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from repsearch.config import alternatives
from repsearch.config.alternatives import Changes
from repsearch.config.parsing import parse
from repsearch.config.schema import Config
from repsearch.errors import UserError
from repsearch.learning.settings import Training, Variant, defaults
from repsearch.search.recipe import Recipe, scaled_generations, scaled_population

LEARNS = ("labels", "targets")  # sections of `training`: what a variant learns from decides its defaults


class Resolved:
    """What the names in a configuration stand for. Raises UserError, naming the key, where one stands for nothing."""

    def __init__(self, config: Config) -> None:
        self.config = config

    # Recipes

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Recipes by name: the configured ones; figure 4's sweeps, `<base>-population-N`, `<base>-generations-N`; a
        data set's further searches, `<base>--seed-N`; and the alternatives of the study of readings,
        `<base>--<field>-<value>`.
        """
        config = self.config
        recipes = {name: parse(Recipe, self._settings(name), f"recipes.{name}") for name in config.recipes}
        base = config.datasets[config.figure4.dataset].recipe
        swept = {f"{base}-population-{n}": scaled_population(recipes[base], n) for n in config.figure4.populations}
        try:
            for n in config.figure4.generations:
                swept[f"{base}-generations-{n}"] = scaled_generations(recipes[base], n)
        except ValueError as error:
            raise UserError(f"figure4.generations: {error}") from None
        for name in recipes.keys() & swept.keys():
            raise UserError(f"recipes.{name}: figure 4 makes a recipe of this name from {base}; choose another name")
        recipes |= swept
        for entry in config.datasets.values():
            first = recipes[entry.recipe]
            for number in range(1, entry.searches):
                seed = first.seed + number
                recipes[alternatives.name(entry.recipe, {"seed": seed})] = replace(first, seed=seed)
        for dataset in config.readings.datasets if config.readings else ():
            base = config.datasets[dataset].recipe
            for changes in self.search_readings(base):
                name = alternatives.name(base, changes)
                recipe = parse(Recipe, {**self._settings(base), **changes}, "readings: recipe")
                if recipes.setdefault(name, recipe) != recipe:
                    raise UserError(f"readings: two recipes would be called {name}: choose values that differ more")
        return recipes

    def searches(self, dataset: str) -> list[str]:
        """The recipes of a data set's searches, which differ by their seed: `<recipe>`, `<recipe>--seed-1`, …"""
        entry = self.config.datasets[dataset]
        seeds = range(self.recipes[entry.recipe].seed + 1, self.recipes[entry.recipe].seed + entry.searches)
        return [entry.recipe, *(alternatives.name(entry.recipe, {"seed": seed}) for seed in seeds)]

    def _settings(self, name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
        """A configured recipe with its `base` filled in."""
        settings = dict(self.config.recipes[name])
        base = settings.pop("base", None)
        if base is not None:
            if not isinstance(base, str) or base not in self.config.recipes or base in (*seen, name):
                choices = ", ".join(self.config.recipes)
                raise UserError(f"recipes.{name}.base: {base!r} is not another recipe (there are {choices})")
            settings = {**self._settings(base, (*seen, name)), **settings}
        return parse(Recipe, settings, f"recipes.{name}").to_dict()

    def sweep(self) -> dict[str, list[str]]:
        """Figure 4's recipes by panel; the point that equals the base recipe is the base recipe."""
        figure = self.config.figure4
        base = self.config.datasets[figure.dataset].recipe
        recipe = self.recipes[base]
        panels = {
            "population": (figure.populations, recipe.population),
            "generations": (figure.generations, recipe.layers[0].generations),
        }
        return {
            panel: [base if count == of_base else f"{base}-{panel}-{count}" for count in counts]
            for panel, (counts, of_base) in panels.items()
        }

    # Variants and their training settings

    def variant(self, name: str) -> Variant:
        """What a variant, or an alternative to it, learns from."""
        settings = self.config.variants[alternatives.family(name)]
        plain = {"learns": settings.learns, "blocks": settings.blocks}
        return parse(Variant, plain, f"variants.{alternatives.family(name)}")

    def training(self, dataset: str, variant: str) -> Training:
        """The training settings of a run, later ones overriding earlier ones: the defaults for what the variant learns,
        `training`, its section for what the variant learns, the variant's own, the data set's, and what an alternative
        to the variant changes. Checked after each step, so that a mistake is named where it was made.
        """
        base, config = alternatives.family(variant), self.config
        learns = config.variants[base].learns
        steps = [
            ("training", {key: value for key, value in config.training.items() if key not in LEARNS}),
            (f"training.{learns}", config.training.get(learns, {})),
            (f"variants.{base}.training", config.variants[base].training),
            (f"datasets.{dataset}.training", config.datasets[dataset].training),
        ]
        if variant != base:
            steps.append((f"alternative {variant}", self.alternative_training[variant]))
        merged, settings = asdict(defaults(learns)), defaults(learns)
        for where, changes in steps:
            if not isinstance(changes, dict):
                raise UserError(f"configuration: {where}: must be a mapping (got {changes!r})")
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
        return [changes for changes in chosen if not same.items() <= {**recipe, **changes}.items()]

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


def _once(changes: Iterable[Changes]) -> list[Changes]:
    """Each change only once, in order."""
    distinct: list[Changes] = []
    for change in changes:
        if change not in distinct:
            distinct.append(change)
    return distinct
