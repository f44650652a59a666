"""Everything that a new machine is measured for, in one run: benchmarks/device.py OUT [--images data.npz] [--small]

Needs torch and numpy alone (and triton on a GPU, numba for the CPU's fused path). Writes one JSON and one Markdown file
a part into OUT, and goes on where a part fails:

    agreement   the fused path against the dense one in double precision, every reading and layer
    search      candidates a second, with scaling; the dense path of a trained network
    whole       images of a real data set (npz: x_train, y_train) searched whole, at the paper's recipe
    train       training images a second

--small: widths and counts for a CPU and a minute, to see that the script runs.
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

from repsearch.bench import search as bench
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
    """Largest differences after three generations of 240 candidates, and how many images kept the same candidate."""
    rows = []
    shape = Shape(3, 32, 10, width)
    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    calibration = bench.PAPER.calibration(32, 0.3)
    fast = initialise(shape, x, 0, calibration).to(device)
    exact = initialise(shape, x, 0, calibration).to(device, torch.float64)
    numbers = torch.arange(4, device=device)
    for reading in READINGS:
        layers = tuple(replace(layer, generations=3) for layer in bench.PAPER.layers)
        recipe = replace(bench.PAPER, layers=layers, **reading)  # type: ignore[arg-type]
        for layer in range(len(BLOCKS)):
            plain = Evolution(exact, numbers, recipe, numbers, "dense")
            with torch.no_grad():
                parents, loss = plain.open(x[:4].to(device, torch.float64), layer)
                best, history = plain.generations(parents, loss, layer)
                evolve = backends.choose(fast, recipe, "fused")
                assert evolve is not None
                found, losses = evolve(fast.tail(layer), numbers, recipe, numbers, layer, parents.float(), loss.float())
            apart = (found - best).abs().flatten(1).amax(1)
            rows.append(
                {
                    "reading": json.dumps(reading),
                    "layer": BLOCKS[layer],
                    "map": float(apart.median()),
                    "loss": float((losses - history).abs().max()),
                    "same": int((apart < 0.05).sum()),
                    "of": len(apart),
                }
            )
    return {"rows": rows}


def whole(device: torch.device, path: Path, images: int, batch: int, width: int) -> dict[str, Any]:
    """Images searched whole at the paper's recipe, first and last cross-entropies, and 50,000 images' minutes."""
    with np.load(path, allow_pickle=False) as arrays:
        x = torch.from_numpy(arrays["x_train"][: max(images, 2000)]).float() / 255
        y = torch.from_numpy(arrays["y_train"][:images].astype(np.int64)).flatten().to(device)
    x = x.permute(0, 3, 1, 2) if x.dim() == 4 else x[:, None]
    variance, mean = torch.var_mean(x, (0, 2, 3), keepdim=True)
    x = ((x - mean) / variance.sqrt()).contiguous()
    shape = Shape(x.shape[1], x.shape[2], int(y.max()) + 1, width)
    network = initialise(shape, x, 0, bench.PAPER.calibration(2000, 0.3)).to(device)
    found, numbers = [], torch.arange(images, device=device)
    started = time.perf_counter()
    for part in numbers.split(batch):
        found.append(search(network, x[part.cpu()].to(device), y[part], bench.PAPER, part).cpu())
    seconds = time.perf_counter() - started
    losses = {name: float(torch.cat([f.history[name][:, -1] for f in found]).mean()) for name in found[0].history}
    row = {"images": images, "batch": batch, "seconds": round(seconds, 1), "minutes_per_50000": seconds * 833 / images}
    return {"rows": [row | {"initial": float(torch.cat([f.initial for f in found]).mean())} | losses]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, help="npz with x_train and y_train")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width = 16 if given.small else 256
    many = device.type == "cuda" and not given.small
    batch, generations, classes = (256 if many else 2), (10 if many else 3), 10
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "agreement": lambda: agreement(device, width),
        "search": lambda: bench.bench_search(device, width, classes, batch, generations, "auto", scaling=many),
        "dense": lambda: bench.bench_search(device, width, classes, 8 if many else 2, generations, "auto", False, True),
        "train": lambda: bench.bench_train(device, width, classes, 20_000 if many else 200, [1, 3], "bfloat16"),
    }
    if given.images:
        parts["whole"] = lambda: whole(device, given.images, 5120 if many else 2, batch, width)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        started = time.perf_counter()
        try:
            result = part()
            (given.out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
            (given.out / f"{name}.md").write_text(bench.text(result))
            print(bench.text(result), flush=True)
        except Exception:
            (given.out / f"{name}.error").write_text(traceback.format_exc())
            traceback.print_exc()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
