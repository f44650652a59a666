"""What the stages' tests start from: a data set, its search network, one shard; jobs at a tiny scale."""

from pathlib import Path

import torch

from repsearch.jobs import NetworkJob, SearchJob, StatisticsJob, TrainJob
from repsearch.learning.settings import Training, Variant
from repsearch.search.recipe import Layer, Recipe
from repsearch.stages import search, statistics
from repsearch.storage.files import digest

LAYER = Layer(generations=2, alpha=0.3, boost=2.0, blur=1)
RECIPE = Recipe(layers=(LAYER, LAYER, LAYER, LAYER), population=8, parents=2, explorers=3)
NETWORK = NetworkJob(width=8, seed=0, head_bias=False, head_init="default")
CPU = torch.device("cpu")


def search_shard(folder: Path, start: int, stop: int, name: str, recipe: Recipe = RECIPE) -> Path:
    store = folder / f"{name}.zarr.zip"
    taken = folder / f"{digest(recipe.to_dict())}.npz"
    statistics.make(StatisticsJob(recipe), folder / "d.npz", folder / "n.pt", taken, CPU)
    search.make(SearchJob(recipe, start, stop), folder / "d.npz", folder / "n.pt", taken, store, CPU)
    return folder / f"{name}.json"


def train_job(learns: str, recipe: Recipe | None, **training: float) -> TrainJob:
    return TrainJob(
        dataset="digits", augmentation="plain", flip=False, pad=0, variant_name=learns,
        variant=Variant("labels") if learns == "labels" else Variant("targets", (0, 1, 2)), depth=1,
        recipe_name="none" if recipe is None else "tiny", recipe=recipe, seed=0, width=8, head_bias=False,
        head_init="default", training=Training(epochs=2, batch=10, **training),  # type: ignore[arg-type]
    )  # fmt: skip
