"""Compare the search of this version with that of another: benchmarks/versions.py OTHER [--noise element] [--pairs 5] …

OTHER: a checkout of the other version, such as one made by `git worktree add ../other COMMIT`. Both search the same
images, in turns, in one process, on one thread, each layer from its own opening. Prints, and writes to --out, CPU time
per child (microseconds) by search layer, of the openings and of the whole search (seconds per image), as medians over
the pairs, and the ratio of each pair. Run it on an idle machine, pinned to a core: taskset -c 1 python benchmarks/…
"""

import argparse
import importlib
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsearch.bench.roofline import ceilings, machine

HERE, OTHER = "repsearch", "repsearch_other"


def renamed(checkout: Path, folder: Path) -> None:
    """A copy of the package in `checkout` that can be imported beside this one, as OTHER."""
    shutil.copytree(checkout / HERE, folder / OTHER)
    for path in (folder / OTHER).rglob("*.py"):
        path.write_text(re.sub(rf"\b{HERE}\b", OTHER, path.read_text()))


class Version:
    """A version of the package with its search network and the paper's recipe."""

    def __init__(self, name: str, x: Tensor, arguments: argparse.Namespace) -> None:
        def module(path: str) -> Any:
            return importlib.import_module(f"{name}.{path}")

        paper = module("bench.search").PAPER
        shape = module("network").Shape(x.shape[1], x.shape[2], arguments.classes, arguments.width)
        layers = tuple(
            replace(layer, generations=min(layer.generations, most))
            for layer, most in zip(paper.layers, arguments.generations, strict=True)
        )
        self.recipe = replace(paper, layers=layers, mutation=arguments.noise, batch_norm=arguments.batch_norm)
        count, kind = min(arguments.calibrated, len(x)), module("search.evolution").Evolution
        if not hasattr(paper, "calibration"):
            network = module("search.network").initialise(shape, x, 0)
            numbers = torch.arange(count)
            made = module("search.calibration").calibrate(
                network, x[:count], numbers % arguments.classes, self.recipe, numbers
            )
            self.evolution = lambda labels, recipe, indices: kind(network, labels, recipe, indices, made, "auto")
        else:  # a version whose networks hold their statistics
            network = module("search.statistics").initialise(shape, x, 0, paper.calibration(count, 0.3))
            self.evolution = lambda labels, recipe, indices: kind(network, labels, recipe, indices, "auto")

    @torch.no_grad()
    def search(self, x: Tensor, classes: int, recipe: Any) -> tuple[dict[str, float], list[float]]:
        """What a search of x took, and the mean cross-entropy after each search layer."""
        numbers, children = torch.arange(len(x)), recipe.explorers + recipe.refiners
        spent: dict[str, float] = {}
        losses, openings, best, started = [], 0.0, None, time.process_time()
        evolution = self.evolution(numbers % classes, recipe, numbers)
        for layer, settings in enumerate(recipe.layers):
            before = time.process_time()
            opened = evolution.open(x, 0) if best is None else evolution.open_next(best, layer)
            between = time.process_time()
            best, history = evolution.evolve(*opened, layer)
            openings += between - before
            duration = time.process_time() - between
            spent[f"layer {layer}"] = 1e6 * duration / len(x) / settings.generations / children
            losses.append(round(float(history[:, -1].mean()), 7))
        evolution.untouched(x)
        whole = (time.process_time() - started) / len(x)
        return spent | {"openings": openings / len(x), "whole search": whole}, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--images", type=Path, help="npz with x_train; random images without")
    parser.add_argument("--count", type=int, default=2, help="images searched together")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--noise", choices=["channel", "element"], default="channel")
    parser.add_argument("--batch-norm", default="frozen", help="R3: one that both versions know")
    parser.add_argument("--calibrated", type=int, default=64, help="images that its statistics are taken over")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--generations", type=int, nargs=4, default=[300, 100, 100, 10])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.images:
        with np.load(arguments.images, allow_pickle=False) as arrays:
            x = torch.from_numpy(arrays["x_train"][:200]).float().movedim(-1, 1)
    else:
        x = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    variance, mean = torch.var_mean(x, (0, 2, 3), keepdim=True)
    x = ((x - mean) / variance.sqrt()).contiguous()
    device = torch.device("cpu")
    about = machine(device, ceilings(device))
    with tempfile.TemporaryDirectory() as folder:
        renamed(arguments.other, Path(folder))
        sys.path.append(folder)
        versions = {"other": Version(OTHER, x, arguments), "here": Version(HERE, x, arguments)}
        taken: dict[str, list[dict[str, float]]] = {"other": [], "here": []}
        losses = {}
        for pair in range(-1, arguments.pairs):  # the first compiles
            for name, version in versions.items():
                recipe = version.recipe
                if pair < 0:
                    few = tuple(replace(layer, generations=2) for layer in recipe.layers)
                    version.search(x[:1], arguments.classes, replace(recipe, layers=few))
                    continue
                spent, losses[name] = version.search(x[: arguments.count], arguments.classes, recipe)
                taken[name].append(spent)
    rows = []
    for what in taken["here"][0]:
        other, here = ([spent[what] for spent in taken[name]] for name in ("other", "here"))
        ratios = [round(a / b, 2) for a, b in zip(other, here, strict=True)]
        row = {"what": what, "other": float(f"{statistics.median(other):.4g}")}
        row |= {"here": float(f"{statistics.median(here):.4g}"), "ratio": statistics.median(ratios), "ratios": ratios}
        rows.append(row)
        print(row, flush=True)
    settings = {k: v for k, v in vars(arguments).items() if k not in ("other", "images", "out")}
    result = {"machine": about, "settings": settings, "rows": rows, "cross_entropies": losses}
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
