"""A prepared data set of 40 digits with its search network, and commands that search it and train on it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from repsearch.data import prepared as datasets
from repsearch.learning.settings import Training, Variant
from repsearch.search.recipe import Layer, Recipe
from repsearch.stages import network as stage_network
from repsearch.stages import search as stage_search
from repsearch.stages.runs import RunSettings
from repsearch.storage import targets
from tests.faults.fault import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
LAYER = Layer(generations=2, alpha=0.3, boost=2.0, blur=1)
RECIPE = Recipe(layers=(LAYER,) * 4, population=8, parents=2, explorers=3)
MIXED = replace(RECIPE, batch_norm="batch")
IMAGES = 40


def prepare(folder: Path) -> Path:
    datasets.prepare(
        "sklearn:digits", folder, folder / "d.npz", validation_images=10, images=IMAGES, test_images=20, key={}
    )
    stage_network.make(folder / "d.npz", folder / "n.pt", 8, 0, 30, 0.3, False, (1, 1), True)
    return folder


def search(folder: Path, name: str, recipe: Recipe = RECIPE, stop: int = IMAGES, save_seconds: float = 0.0) -> Path:
    """In this process; the manifest."""
    store, manifest = targets.paths(folder / f"{name}.json")
    stage_search.make(
        folder / "d.npz", folder / "n.pt", recipe, 0, stop, store, manifest, CPU, save_seconds=save_seconds
    )
    return manifest


def search_command(folder: Path, name: str, recipe: Recipe = RECIPE) -> list[str]:
    store, manifest = targets.paths(folder / f"{name}.json")
    settings = json.dumps({"recipe": recipe.to_dict(), "start": 0, "stop": IMAGES})
    inputs = ["--dataset", f"{folder}/d.npz", "--network", f"{folder}/n.pt", "--device", "cpu"]
    return ["search", "--settings", settings, *inputs, "--out", str(store), "--manifest", str(manifest)]


def run_settings(learns: str, **training: float | str) -> RunSettings:
    return RunSettings(
        dataset="digits", label="Digits", paper=None, augmentation="augmented", flip=True, pad=1, variant_name=learns,
        variant=Variant("labels") if learns == "labels" else Variant("targets", (0, 1, 2)), depth=1,
        recipe_name="none" if learns == "labels" else "tiny", recipe=None if learns == "labels" else RECIPE, seed=0,
        width=8, head_bias=False, training=Training(**{"epochs": 5, "batch": 10, **training}),  # type: ignore[arg-type]
    )  # fmt: skip


def train_command(folder: Path, name: str, settings: RunSettings) -> list[str]:
    inputs = ["--dataset", f"{folder}/d.npz", "--device", "cpu"]
    if settings.recipe is not None:
        inputs += ["--network", f"{folder}/n.pt", "--targets", f"{folder}/whole.json"]
    return ["train", "--settings", json.dumps(asdict(settings)), *inputs, "--out", f"{folder}/{name}"]


def start(fault: str, command: list[str], fault_folder: Path | None = None) -> "subprocess.Popen[str]":
    """A command in a process of its own, with a fault (tests/faults/fault.py)."""
    words = [sys.executable, "-m", "tests.faults.fault", fault, *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FAULT_FOLDER": str(fault_folder)}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def run(fault: str, command: list[str]) -> tuple[int, str]:
    """Its exit status and what it said."""
    process = start(fault, command)
    said = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, said
