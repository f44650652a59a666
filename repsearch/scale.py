"""What the results of a configuration are called, and whether they are at the paper's scale."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from repsearch import paper
from repsearch.config import alternatives
from repsearch.config.schema import Config
from repsearch.jobs import ReproductionJob
from repsearch.plan import Plan


def used_datasets(config: Config) -> list[str]:
    """The data sets that results come from, in the order in which they are named."""
    if config.readings:
        return config.readings.datasets
    figures = (config.figure2, config.figure3, config.figure4, config.trajectories)
    names = [*config.table1.datasets, *config.table2.datasets, *(figure.dataset for figure in figures)]
    names += [config.gallery.dataset] if config.gallery.dataset else []
    for section in (config.images, config.compute, config.cycles, config.ensembles):
        names += section.datasets if section else []
    return list(dict.fromkeys(names))


def is_full(plan: Plan) -> bool:
    """Whether every result is at the paper's scale: all official images from a lossless source, and the paper's width,
    depths, search and training, as far as it states them (`repsearch.paper`).
    """
    config = plan.config
    counts = config.seeds >= paper.SEEDS and config.figure2.images >= paper.FITNESS_IMAGES
    return counts and all(_is_full(plan, dataset) for dataset in used_datasets(config))


def _is_full(plan: Plan, dataset: str) -> bool:
    entry, settings = plan.config.datasets[dataset], paper.SETTINGS.get(plan.config.datasets[dataset].source)
    if settings is None or not plan.is_papers(dataset):
        return False
    variants = {run.variant for run in plan.all_runs() if run.dataset == dataset}
    trained = [plan.resolved.training(dataset, variant) for variant in variants]
    tried: dict[str, set[float]] = {}
    for variant, training in zip(variants, trained, strict=True):
        tried.setdefault(alternatives.family(variant), set()).add(training.learning_rate)
    recipe = plan.recipe_of(dataset)
    return (
        plan.resolved.network(dataset).width == paper.WIDTH
        and entry.validation_images == paper.VALIDATION_IMAGES
        and entry.search_depth == settings.search_depth
        and paper.schedule(recipe) == settings.schedule
        and all(getattr(recipe, name) == value for name, value in paper.OPERATORS.items())
        and all(training.epochs >= settings.epochs for training in trained)
        and all(training.batch == paper.BATCH for training in trained)
        and all(training.momentum == paper.MOMENTUM for training in trained)
        and all(training.kl_weight == paper.KL_WEIGHT for training in trained)
        and all(paper.LEARNING_RATE in rates for rates in tried.values())  # others may be tried too
    )


def reproduction(plan: Plan, configfiles: Sequence[str], settings: Sequence[str] = ()) -> ReproductionJob:
    """What the results are called, and how to make one of their files again. configfiles: as given to Snakemake,
    relative to the working directory. settings: the words after its option `--config`.
    """
    config, datasets = plan.config, used_datasets(plan.config)
    overlays = [path for path in configfiles if path != "config.yaml"]
    options = ["--configfile", *overlays] if overlays else []
    options += ["--config", *settings] if settings else []
    recipes = {name: plan.recipes[name] for name in (config.datasets[dataset].recipe for dataset in datasets)}
    searches = [
        f"recipe {name}: population {recipe.population}, "
        f"{'/'.join(str(layer.generations) for layer in recipe.layers)} generations"
        for name, recipe in recipes.items()
    ]
    widths = dict.fromkeys(str(plan.resolved.network(dataset).width) for dataset in datasets)
    others = dict.fromkeys(config.datasets[name].label for name in datasets if not plan.is_papers(name))
    data = f"; only a part of the paper's data, or a copy or other data: {', '.join(others)}" if others else ""
    return ReproductionJob(
        name="paper" if config.results == "results" else Path(config.results).name,
        what=f"width {' and '.join(widths)}; {'; '.join(searches)}{data}",
        results=config.results,
        options=shlex.join(options),
        full=is_full(plan),
    )
