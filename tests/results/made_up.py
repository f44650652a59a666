"""Made-up runs and probes with numbers that can be checked by hand. Nothing here was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from repsearch.jobs import DatasetName, FigureJob
from repsearch.results import readings, runs
from repsearch.storage.manifest import write_manifest

DATASETS = {
    "toy": DatasetName("Toy (made up)"),
    "mnist": DatasetName("MNIST", "MNIST"),
    "cifar100": DatasetName("CIFAR-100", "CIFAR-100"),
    "mine": DatasetName("MINE"),
    "a": DatasetName("A"),
    "b": DatasetName("B"),
}
FIGURES = [f"figure{number}" for number in range(2, 8)]
RUN: dict[str, Any] = {
    "dataset": "toy",
    "augmentation": "plain",
    "variant": "search-all",
    "depth": 3,
    "recipe": "small",
    "recipe_digest": "111111111111",  # all digits, as a digest may be
    "population": 240,
    "generations": 300,
    "runs": 1,
    "candidates": 112_561,
    "seed": 0,
    "epochs": 4,
    "epoch_chosen": 2,
    "validation_accuracy": 0.6,
    "test_accuracy": 0.5,
    "train_images": 46000,
    "validation_images": 4000,
    "test_images": 10000,
    "width": 256,
    "code_version": "12e456789012",  # looks like a float
    "device": "cpu",
    "torch": "2",
    "settings_digest": "333333333333",
    "precision": "bfloat16",
}
NO_RECIPE = {"recipe": "none", "recipe_digest": "", "population": 0, "generations": 0, "runs": 0, "candidates": 0}
SEARCHED: dict[str, Any] = {"mutation": "channel", "smooth": "child", "layers": [{"alpha": 0.3, "blur": 5}]}


def run(
    folder: Path, search: int = 0, searched: Mapping[str, Any] | None = None, inputs: str = "", **changes: Any
) -> Path:
    """A run's summary.json in a folder of its own. search: the seed of its search. searched: of its recipe. inputs: a
    digest of what it was made from.
    """
    values = {**RUN, **changes}
    recipe = None if values["recipe"] == "none" else {**SEARCHED, **(searched or {}), "seed": search}
    if search:
        values |= {"recipe": f"{values['recipe']}--seed-{search}", "recipe_digest": str(search + 1) * 12}
    names = ("dataset", "augmentation", "variant", "depth", "recipe", "seed")
    out = folder / "-".join(str(values[name]) for name in names)
    while out.exists():
        out = out.with_name(f"{out.name}x")
    out.mkdir(parents=True)
    write_manifest(out / "summary.json", {"job": {"recipe": recipe}, "inputs": [inputs]}, [], values)
    return out / "summary.json"


def read(paths: Sequence[Path]) -> pd.DataFrame:
    return runs.read(paths, DATASETS)


def traced(folder: Path, offset: float = 0.0, **changes: Any) -> Path:
    """A run with epochs.csv: each metric of block b in epoch e is the metric's number + b + e / 10 + offset."""
    summary = run(folder, **changes)
    epochs = np.arange(1, {**RUN, **changes}["epochs"] + 1)
    columns: dict[str, Any] = {"epoch": epochs, "train_loss": 1.0}
    for start, name in ((0.0, "cosine_distance"), (3.0, "within_class"), (5.0, "between_class")):
        columns |= {f"{name}_block{block}": start + block + epochs / 10 + offset for block in range(3)}
    pd.DataFrame(columns).to_csv(summary.parent / "epochs.csv", index=False)
    return summary


def fitness_probe(folder: Path, block: int, population: int, last: int = 8) -> Path:
    """Cross-entropy block + 1 / generation + 10 / population, std 0.1, over 40 images."""
    generations = np.arange(last + 1)
    frame = pd.DataFrame(
        {
            "block": f"block{block}",
            "population": population,
            "elitist": 1,
            "generation": generations,
            "mean": block + 1 / np.maximum(generations, 0.5) + 10 / population,
            "std": 0.1,
            "n": 40,
            "recipe_digest": f"{population:012d}",
            "code_version": "222222222222",
        }
    )
    return _probe(folder / f"block{block}-population{population}-{last}.csv", frame)


def diversity_probe(folder: Path, runs: int = 5) -> Path:
    """Of 10 images every second run counts, the first too; each adds 1 / (block + 1) to N_eff, a tenth more or less."""
    rows = [
        {"block": f"block{block}", "image": 100 + image, "runs": r, "accepted": (r + 1) // 2}
        | {"effective": 1 + ((r + 1) // 2 - 1) * (1 + (image % 2 - 0.5) / 5) / (block + 1)}
        for block in range(3)
        for image in range(10)
        for r in range(1, runs + 1)
    ]
    frame = pd.DataFrame(rows).assign(probability=0.5, recipe_digest="111111111111", code_version="222222222222")
    return _probe(folder / "diversity.csv", frame)


def _probe(csv: Path, frame: pd.DataFrame) -> Path:
    csv.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(csv, index=False)
    write_manifest(csv.with_suffix(".json"), {}, [csv], {})
    return csv


def table_runs(folder: Path, augmentation: str, datasets: Sequence[str], accuracies: Mapping[str, float]) -> list[Path]:
    """Three seeds of each data set and variant, of two searches but for SGD; accuracies rise by 0.001 per seed and by
    0.002 per search.
    """
    return [
        run(
            folder, dataset=dataset, variant=variant, augmentation=augmentation, seed=seed, search=search,
            test_accuracy=accuracy + seed / 1000 + search / 500, **(NO_RECIPE if variant.startswith("sgd") else {}),
        )
        for dataset in datasets
        for variant, accuracy in accuracies.items()
        for search in range(1 if variant.startswith("sgd") else 2)
        for seed in range(3)
    ]  # fmt: skip


def sweep(folder: Path) -> list[Path]:
    """Runs of figure 4: two seeds of three recipes, with accuracy (population + generations + seed) / 1000."""
    sizes = {"small": (240, 300), "small--population-60": (60, 300), "small--generations-30": (240, 30)}
    return [
        run(folder, recipe=name, population=p, generations=g, seed=s, validation_accuracy=(p + g + s) / 1000)
        for name, (p, g) in sizes.items()
        for s in (0, 1)
    ]


def figure_inputs(figure: str, folder: Path) -> list[Path]:
    """Probes or runs from which `figure_job` can be made."""
    match figure:
        case "figure2":
            return [fitness_probe(folder, block, population) for block in range(3) for population in (10, 20, 40)]
        case "figure3":
            return [diversity_probe(folder)]
        case "figure4":
            return sweep(folder)
    return [traced(folder, offset=s, variant=v, seed=s) for v in ("sgd", "search-all") for s in (0, 1)]


def figure_job(figure: str, **changes: Any) -> FigureJob:
    sweeps = {"populations": [10, 20, 40], "generations": [1, 2, 8], "base_population": 40}
    return FigureJob(
        **{"figure": figure, "datasets": DATASETS, "dataset": "toy", "recipe": "small", **sweeps, **changes}
    )


UNSMOOTHED = {"layers": [{"alpha": 0.3, "blur": 0}]}


def facts(folder: Path, recipe: str, digest: str, cross_entropy: float = 1.5) -> Path:
    """The facts of a recipe's targets: the same cross-entropy after each layer, each cosine 0.25."""
    values: dict[str, Any] = {"dataset": "toy", "recipe": recipe, "recipe_digest": digest}
    values |= dict.fromkeys(readings.CROSS_ENTROPIES, cross_entropy) | dict.fromkeys(readings.COSINES, 0.25)
    write_manifest(folder / recipe / "facts.json", {}, [], values)
    return folder / recipe / "facts.json"


def study(folder: Path) -> tuple[list[Path], list[Path]]:
    """The summaries and the facts of a study of readings; the accuracies of seed 1 are 10 % above those of seed 0."""
    settings: list[dict[str, Any]] = [
        {"validation_accuracy": 0.5},
        {"validation_accuracy": 0.3, "variant": "search-skip0"},
        {"validation_accuracy": 0.4, "recipe": "small--smooth-noise", "recipe_digest": "2" * 12}
        | {"searched": {"smooth": "noise"}},
        {"validation_accuracy": 0.1, "variant": "search-all--compare-before_gelu"},
        {"validation_accuracy": 0.2, "recipe": "small-unsmoothed", "recipe_digest": "4" * 12, "searched": UNSMOOTHED},
        {"validation_accuracy": 0.6, "variant": "sgd", **NO_RECIPE},
        {"validation_accuracy": 0.1, "variant": "sgd--schedule-constant", **NO_RECIPE},
    ]
    summaries = []
    for seed in (0, 1):
        for changes in settings:
            accuracy = changes["validation_accuracy"] + seed / 10
            summaries.append(run(folder / "runs", seed=seed, **{**changes, "validation_accuracy": accuracy}))
    digests = {"small": "1" * 12, "small--smooth-noise": "2" * 12, "small-unsmoothed": "4" * 12}
    return summaries, [facts(folder / "targets", recipe, digest) for recipe, digest in digests.items()]
