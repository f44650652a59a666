"""Measure a new machine in one run: benchmarks/device.py OUT [--images data.npz] [--small]

Needs torch and numpy alone, besides triton for a GPU's fused path and numba for a CPU's. Writes one JSON and one
Markdown file per part into OUT; where a part fails, its error, and the others are still run:

    agreement   the fused path, compared with the dense one in double precision, for every reading and block
    search      candidates per second, and how they scale
    dense       candidates per second of a trained network, which takes the dense path
    train       training images per second
    full        the paper's full search of images of a real data set (npz: x_train, y_train)

--small: widths and counts for a CPU and a minute, to check that the script runs.
"""

import argparse
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repsearch.bench.report import text
from repsearch.bench.search import PAPER, Bench, bench_search
from repsearch.bench.training import bench_train
from repsearch.network import Shape
from repsearch.search import backends
from repsearch.search.evolution import Evolution, search
from repsearch.search.recipe import BLOCKS
from repsearch.search.statistics import initialise

READINGS: list[dict[str, Any]] = [
    {},
    {"mutation": "element"},
    {"smooth": "noise"},
    {"mutation": "element", "smooth": "noise"},
    {"count_padding": False},
    {"refine_from": "parents"},
]


def agreement(device: torch.device, width: int) -> dict[str, Any]:
    """Differences after three generations of 240 candidates, and how many images have the same best candidate.

    map: the median over images of the largest difference within the best map; loss: the largest difference of all.
    """
    rows = []
    shape = Shape(3, 32, 10, width)
    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    calibration = PAPER.calibration(32, 0.3)
    fast = initialise(shape, x, 0, calibration).to(device)
    exact = initialise(shape, x, 0, calibration).to(device, torch.float64)
    numbers = torch.arange(4, device=device)
    for reading in READINGS:
        layers = tuple(replace(layer, generations=3) for layer in PAPER.layers)
        recipe = replace(PAPER, layers=layers, **reading)  # type: ignore[arg-type]
        for layer in range(len(BLOCKS)):
            plain = Evolution(exact, numbers, recipe, numbers, "dense")
            with torch.no_grad():
                parents, loss = plain.open(x[:4].to(device, torch.float64), layer)
                best, history = plain.generations(parents, loss, layer)
                evolve = backends.choose(fast, recipe, "fused")
                assert evolve is not None
                fused_best, losses = evolve(
                    fast.tail(layer), numbers, recipe, numbers, layer, parents.float(), loss.float()
                )
            difference = (fused_best - best).abs().flatten(1).amax(1)
            rows.append(
                {
                    "reading": json.dumps(reading),
                    "layer": BLOCKS[layer],
                    "map": float(difference.median()),
                    "loss": float((losses - history).abs().max()),
                    "same": int((difference < 0.05).sum()),
                    "of": len(difference),
                }
            )
    return {"rows": rows}


def full_search(device: torch.device, path: Path, images: int, batch: int, width: int) -> dict[str, Any]:
    """The time of full searches with the paper's recipe; mean cross-entropies of the start and of each layer's end."""
    with np.load(path, allow_pickle=False) as arrays:
        x = torch.from_numpy(arrays["x_train"][: max(images, 2000)]).float() / 255
        y = torch.from_numpy(arrays["y_train"][:images].astype(np.int64)).flatten().to(device)
    x = x.permute(0, 3, 1, 2) if x.dim() == 4 else x[:, None]
    variance, mean = torch.var_mean(x, (0, 2, 3), keepdim=True)
    x = ((x - mean) / variance.sqrt()).contiguous()
    shape = Shape(x.shape[1], x.shape[2], int(y.max()) + 1, width)
    network = initialise(shape, x, 0, PAPER.calibration(2000, 0.3)).to(device)
    results, numbers = [], torch.arange(images, device=device)
    started = time.perf_counter()
    for part in numbers.split(batch):
        results.append(search(network, x[part.cpu()].to(device), y[part], PAPER, part).cpu())
    seconds = time.perf_counter() - started
    losses = {
        name: float(torch.cat([result.history[name][:, -1] for result in results]).mean())
        for name in results[0].history
    }
    row = {"images": images, "batch": batch, "seconds": round(seconds, 1), "minutes_per_50000": seconds * 833 / images}
    return {"rows": [row | {"initial": float(torch.cat([result.initial for result in results]).mean())} | losses]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, help="npz with x_train and y_train")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width = 16 if arguments.small else 256
    at_scale = device.type == "cuda" and not arguments.small
    batch, generations, classes = (256 if at_scale else 2), (10 if at_scale else 3), 10
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "agreement": lambda: agreement(device, width),
        "search": lambda: bench_search(Bench(device, width, classes, batch, generations), "auto", scaling=at_scale),
        "dense": lambda: bench_search(
            Bench(device, width, classes, 8 if at_scale else 2, generations, trained=True), "auto", scaling=False
        ),
        "train": lambda: bench_train(device, width, classes, 20_000 if at_scale else 200, [1, 3], "bfloat16"),
    }
    if arguments.images:
        parts["full"] = lambda: full_search(device, arguments.images, 5120 if at_scale else 2, batch, width)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        started = time.perf_counter()
        try:
            result = part()
            (arguments.out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
            (arguments.out / f"{name}.md").write_text(text(result))
            print(text(result), flush=True)
        except Exception:
            (arguments.out / f"{name}.error").write_text(traceback.format_exc())
            traceback.print_exc()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
