"""Made-up runs and probes with numbers that can be checked by hand. Nothing here was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RUN: dict[str, Any] = {
    "dataset": "toy",
    "label": "Toy (made up)",
    "paper": None,
    "augmentation": "plain",
    "variant": "search-all",
    "depth": 3,
    "recipe": "small",
    "recipe_digest": "111111111111",  # all digits, as a digest may be
    "population": 240,
    "generations": 300,
    "seed": 0,
    "epochs": 4,
    "epoch_chosen": 2,
    "validation_accuracy": 0.6,
    "test_accuracy": 0.5,
    "train_images": 46000,
    "validation_images": 4000,
    "test_images": 10000,
    "width": 256,
    "code_version": "12e456789012",  # a float, to a careless reader
    "device": "cpu",
    "torch": "2",
    "settings_digest": "333333333333",
}


def run(folder: Path, **changes: Any) -> Path:
    """A run's summary.json in a folder of its own."""
    values = {**RUN, **changes}
    names = ("dataset", "augmentation", "variant", "depth", "recipe", "seed")
    out = folder / "-".join(str(values[name]) for name in names)
    while out.exists():
        out = out.with_name(f"{out.name}x")
    out.mkdir(parents=True)
    (out / "summary.json").write_text(json.dumps(values), encoding="utf-8")
    return out / "summary.json"


def traced(folder: Path, offset: float = 0.0, **changes: Any) -> Path:
    """A run with epochs.csv: every measure of block b in epoch e is its own number + b + e / 10 + offset."""
    summary = run(folder, **changes)
    epochs = np.arange(1, {**RUN, **changes}["epochs"] + 1)
    columns: dict[str, Any] = {"epoch": epochs, "train_loss": 1.0}
    for start, name in ((0.0, "cosine_distance"), (3.0, "within_class"), (5.0, "between_class")):
        columns |= {f"{name}_block{block}": start + block + epochs / 10 + offset for block in range(3)}
    pd.DataFrame(columns).to_csv(summary.parent / "epochs.csv", index=False)
    return summary


def fitness_probe(folder: Path, block: int, population: int, last: int = 8, **changes: Any) -> Path:
    """Cross-entropy block + 1 / generation + 10 / population, std 0.1, over 40 images."""
    generations = np.arange(last + 1)
    frame = pd.DataFrame(
        {
            "block": f"block{block}",
            "population": population,
            "generation": generations,
            "mean": block + 1 / np.maximum(generations, 0.5) + 10 / population,
            "std": 0.1,
            "n": 40,
            "recipe_digest": f"{population:012d}",
            "code_version": "222222222222",
        }
    )
    path = folder / f"block{block}-population{population}-{last}.csv"
    frame.assign(**changes).to_csv(path, index=False)
    return path


def diversity_probe(folder: Path, runs: int = 5) -> Path:
    """N_eff = runs / (block + 1), std 0.2, over 10 images; one candidate in two counts."""
    rows = [
        {"block": f"block{b}", "runs": r, "mean": r / (b + 1), "std": 0.2, "n": 10, "probability": 0.5, "accepted": 0.5}
        for b in range(3)
        for r in range(1, runs + 1)
    ]
    path = folder / "diversity.csv"
    pd.DataFrame(rows).assign(recipe_digest="111111111111", code_version="222222222222").to_csv(path, index=False)
    return path
