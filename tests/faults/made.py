"""A prepared data set of 40 digits with its search network, and commands that search it and train on it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from repsearch.jobs import NetworkJob, PrepareJob, SearchJob, StatisticsJob, TrainJob, to_json
from repsearch.learning.settings import Training, Variant
from repsearch.search.recipe import Layer, Recipe
from repsearch.stages import dataset as stage_dataset
from repsearch.stages import network as stage_network
from repsearch.stages import search as stage_search
from repsearch.stages import statistics as stage_statistics
from repsearch.storage import resume
from repsearch.storage.files import digest
from tests.faults.fault import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
LAYER = Layer(generations=2, alpha=0.3, boost=2.0, blur=1)
RECIPE = Recipe(layers=(LAYER,) * 4, population=8, parents=2, explorers=3)
MIXED = replace(RECIPE, batch_norm="batch", statistics_images=3)
IMAGES = 40
NETWORK = NetworkJob(width=8, seed=0, head_bias=False, head_init="default")


def prepare(folder: Path) -> Path:
    stage_dataset.make(PrepareJob("sklearn:digits", 10, IMAGES, 20), folder, folder / "d.npz")
    stage_network.make(NETWORK, folder / "d.npz", folder / "n.pt")
    return folder


def statistics(folder: Path, recipe: Recipe = RECIPE) -> Path | None:
    """A recipe's statistics, made if need be; None for one that has none."""
    if not recipe.independent:
        return None
    out = folder / f"statistics-{digest(recipe.to_dict())}.npz"
    stage_statistics.make(StatisticsJob(recipe), folder / "d.npz", folder / "n.pt", out, CPU)
    return out


def search(folder: Path, name: str, recipe: Recipe = RECIPE, stop: int = IMAGES, save_seconds: float = 0.0) -> Path:
    """In this process; the manifest. save_seconds: of work between two saved parts."""
    store, job = folder / f"{name}.zarr.zip", SearchJob(recipe, 0, stop)
    with patch.object(resume, "SECONDS", save_seconds):
        stage_search.make(job, folder / "d.npz", folder / "n.pt", statistics(folder, recipe), store, CPU)
    return folder / f"{name}.json"


def search_command(folder: Path, name: str, recipe: Recipe = RECIPE) -> list[str]:
    settings = to_json(SearchJob(recipe, 0, IMAGES))
    inputs = ["--dataset", f"{folder}/d.npz", "--network", f"{folder}/n.pt", "--device", "cpu"]
    taken = statistics(folder, recipe)
    inputs += ["--statistics", str(taken)] if taken else []
    return ["search", "--settings", settings, *inputs, "--out", f"{folder}/{name}.zarr.zip"]


def train_job(learns: str, **training: float | str) -> TrainJob:
    return TrainJob(
        dataset="digits", augmentation="augmented", flip=True, pad=1, variant_name=learns,
        variant=Variant("labels") if learns == "labels" else Variant("targets", (0, 1, 2)), depth=1,
        recipe_name="none" if learns == "labels" else "tiny", recipe=None if learns == "labels" else RECIPE, seed=0,
        width=8, head_bias=False, head_init="default", training=Training(**{"epochs": 5, "batch": 10, **training}),  # type: ignore[arg-type]
    )  # fmt: skip


def train_command(folder: Path, name: str, job: TrainJob) -> list[str]:
    inputs = ["--dataset", f"{folder}/d.npz", "--device", "cpu"]
    if job.recipe is not None:
        inputs += ["--network", f"{folder}/n.pt", "--targets", f"{folder}/whole.json"]
    return ["train", "--settings", to_json(job), *inputs, "--out", f"{folder}/{name}"]


def start(fault: str, command: list[str], fault_folder: Path | None = None) -> "subprocess.Popen[str]":
    """A command in a separate process, with a fault (tests/faults/fault.py)."""
    words = [sys.executable, "-m", "tests.faults.fault", fault, *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FAULT_FOLDER": str(fault_folder)}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def run(fault: str, command: list[str]) -> tuple[int, str]:
    """The exit status of a command with a fault, and what it wrote to standard error."""
    process = start(fault, command)
    output = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, output
