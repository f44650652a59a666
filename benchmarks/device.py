"""Check and measure a new machine, part by part: benchmarks/device.py OUT [--only PART …] [--images data.npz] [--small]

Needs torch and numpy alone, besides triton for a GPU's fused path and numba for a CPU's. Each part ends within minutes,
compilation included; in this order, correctness before speed:

    graph       each block's generations launched one by one and replayed as a CUDA graph: equal bit by bit
    batches     the same image in batches of 1, 3 and 512: equal bit by bit
    agreement   the fused path against the dense one in double precision, for every reading and block
    sanitizer   compute-sanitizer (out-of-bounds accesses, races) over small searches
    statistics  seconds that the statistics of the paper's search (R3) take, over 32 and 128 images, and how far the
                dense path's are from the compiled path's
    profile     microseconds per image and generation of each kernel, by block, in the first 20 generations, with R3
                `trajectory` and `frozen`
    images      the paper's whole search of 1,024 images, with R3 `trajectory` and `frozen`: seconds by search layer
    training    the kernels of an epoch of search-based learning, three times as deep as the search network
    epochs      training images per second, by variant and depth
    search      candidates per second, compared with the reference, and how they scale
    dataset     the paper's whole search of every image

Writes OUT/PART.json and prints the same as a table; where a part fails, OUT/PART.error, and the others still run.
--images: npz with x_train, y_train; random images without. --small: for a CPU and a minute, to check that it runs.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsearch.bench.report import text
from repsearch.bench.search import PAPER, bench_search
from repsearch.bench.search import Bench as SearchBench
from repsearch.bench.training import TRAINING, bench_train
from repsearch.bench.training import profile as profile_training
from repsearch.network import Shape
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.calibration import calibrate
from repsearch.search.evolution import Evolution
from repsearch.search.network import SearchNetwork, initialise
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS, Recipe
from repsearch.search.statistics import Statistics

FROZEN: dict[str, Any] = {"batch_norm": "frozen"}
READINGS: list[dict[str, Any]] = [  # the first two are checked by every part: R3 `trajectory` with either noise
    {},
    {"mutation": "element"},
    FROZEN,
    {"mutation": "element", **FROZEN},
    {"smooth": "noise"},
    {"mutation": "element", "smooth": "noise"},
    {"count_padding": False},
    {"refine_from": "parents"},
]
Rows = list[dict[str, Any]]


@dataclass
class Bench:
    """What the parts share: normalised images on the CPU, their labels, the search network on the device."""

    device: torch.device
    x: Tensor
    y: Tensor
    network: SearchNetwork
    batch: int
    small: bool
    made: dict[Recipe, Statistics] = field(default_factory=dict)

    @staticmethod
    def of(device: torch.device, path: Path | None, small: bool) -> "Bench":
        if path:
            with np.load(path, allow_pickle=False) as arrays:
                x, y = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"].astype(np.int64))
            x = x.float() / 255
            x = x.permute(0, 3, 1, 2) if x.dim() == 4 else x[:, None]
            variance, mean = torch.var_mean(x, (0, 2, 3), keepdim=True)
            x, y = ((x - mean) / variance.sqrt()).contiguous(), y.flatten()
        else:
            x, y = torch.randn(2000, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(2000) % 10
        shape = Shape(x.shape[1], x.shape[2], int(y.max()) + 1, 16 if small else 256)
        network = initialise(shape, x[:2000], 0).to(device)
        return Bench(device, x, y, network, 4 if small else 512, small)

    def calibrated(self, network: SearchNetwork, recipe: Recipe, count: int, path: SearchPath = "auto") -> Statistics:
        """The recipe's statistics, from the last images, in the network's precision."""
        numbers = torch.arange(len(self.x) - count, len(self.x))
        images = self.x[numbers].to(self.device, network.network.head.weight.dtype)
        return calibrate(network, images, self.y[numbers].to(self.device), recipe, numbers.to(self.device), path=path)

    def evolution(self, numbers: Tensor, recipe: Recipe) -> Evolution:
        """Its statistics are made once."""
        if recipe not in self.made:
            self.made[recipe] = self.calibrated(self.network, recipe, 4 if self.small else 32)
        labels, indices = self.y[numbers].to(self.device), numbers.to(self.device)
        return Evolution(self.network, labels, recipe, indices, self.made[recipe], "auto")

    @torch.no_grad()
    def openings(self, numbers: Tensor, recipe: Recipe) -> Iterator[tuple[Evolution, int, Tensor, Tensor]]:
        """(evolution, layer, parents, loss) of each block, as they follow from the best of the block before."""
        evolution, best = self.evolution(numbers, recipe), None
        for layer in range(len(BLOCKS)):
            if best is None:
                parents, loss = evolution.open(self.x[numbers].to(self.device), layer)
            else:
                parents, loss = evolution.open_next(best, layer)
            yield evolution, layer, parents, loss
            best = parents[:, 0]


def shortened(recipe: Recipe, generations: int) -> Recipe:
    layers = tuple(replace(layer, generations=min(generations, layer.generations)) for layer in recipe.layers)
    return replace(recipe, layers=layers)  # type: ignore[arg-type]


@contextmanager
def launched_one_by_one() -> Iterator[None]:
    from repsearch.search.gpu import evolve

    repeat = evolve._repeat
    evolve._repeat = lambda step, times, cuda: repeat(step, times, False)
    try:
        yield
    finally:
        evolve._repeat = repeat


def graph(bench: Bench) -> Rows:
    rows, numbers = [], torch.arange(3)
    for reading in READINGS[:2]:
        recipe = replace(shortened(PAPER, 6), **reading)
        for evolution, layer, parents, loss in bench.openings(numbers, recipe):
            replayed = evolution.evolve(parents, loss, layer)
            again = evolution.evolve(parents, loss, layer)
            if bench.device.type == "cuda":
                with launched_one_by_one():
                    eager = evolution.evolve(parents, loss, layer)
            else:
                eager = evolution.evolve(parents, loss, layer)
            rows.append(
                {
                    "reading": json.dumps(reading),
                    "layer": BLOCKS[layer],
                    "equal to eager": all(map(torch.equal, replayed, eager)),
                    "equal when repeated": all(map(torch.equal, replayed, again)),
                    "finite": bool(replayed[0].isfinite().all()),
                    "loss before": round(float(loss[:, 0].mean()), 4),
                    "loss after": round(float(replayed[1][:, -1].mean()), 4),
                }
            )
    return rows


def batches(bench: Bench) -> Rows:
    rows, numbers = [], torch.arange(bench.batch)
    for reading in READINGS[:2]:
        recipe = replace(shortened(PAPER, 6), **reading)
        whole = list(bench.openings(numbers, recipe))
        for size in (1, 3):
            for (evolution, layer, parents, loss), (part, _, few, few_loss) in zip(
                whole, bench.openings(numbers[:size], recipe), strict=True
            ):
                best, history = evolution.evolve(parents, loss, layer)
                alone, alone_history = part.evolve(few, few_loss, layer)
                rows.append(
                    {
                        "reading": json.dumps(reading),
                        "layer": BLOCKS[layer],
                        "batch": size,
                        "of": bench.batch,
                        "opening equal": torch.equal(few, parents[:size]) and torch.equal(few_loss, loss[:size]),
                        "result equal": torch.equal(alone, best[:size]) and torch.equal(alone_history, history[:size]),
                    }
                )
    return rows


def agreement(bench: Bench) -> Rows:
    """Differences after three generations, and how many images have the same best candidate.

    map: the median over images of the largest difference within the best map; loss: the largest difference of all.
    """
    rows, numbers = [], torch.arange(4)
    exact = initialise(bench.network.shape, bench.x[:2000], 0).to(bench.device, torch.float64)
    members, labels = numbers.to(bench.device), bench.y[numbers].to(bench.device)
    for reading in READINGS:
        recipe = replace(shortened(PAPER, 3), **reading)
        statistics = bench.calibrated(exact, recipe, 4 if bench.small else 32)
        for layer in range(len(BLOCKS)):
            plain = Evolution(exact, labels, recipe, members, statistics, "dense")
            with torch.no_grad():
                parents, loss = plain.open(bench.x[numbers].to(bench.device, torch.float64), layer)
                best, history = plain.generations(parents, loss, layer)
                evolve = backends.choose(bench.network, recipe, "fused")
                assert evolve is not None
                reevaluate = recipe.reevaluates and layer < len(BLOCKS) - 1
                tail = bench.network.tail(layer, statistics.generations(layer), reevaluate)
                fused_best, losses = evolve(tail, labels, recipe, members, layer, parents.float(), loss.float())
            difference = (fused_best - best).abs().flatten(1).amax(1)
            rows.append(
                {
                    "reading": json.dumps(reading),
                    "layer": BLOCKS[layer],
                    "map": float(f"{difference.median():.2g}"),
                    "loss": float(f"{(losses - history).abs().max():.2g}"),
                    "same": int((difference < 0.05).sum()),
                    "of": len(difference),
                }
            )
    return rows


def sanitizer(bench: Bench) -> Rows:
    """This script's part `graph` at its smallest, under the tools of compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if not program:
        return [{"tool": "compute-sanitizer", "found": False}]
    rows = []
    for tool in ("memcheck", "racecheck"):
        command = [program, "--tool", tool, sys.executable, __file__, "/tmp/sanitizer", "--small", "--only", "graph"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        lines = [line for line in done.stdout.splitlines() if line.startswith("=========")]
        rows.append({"tool": tool, "exit": done.returncode, "says": lines[-1] if lines else done.stderr[-300:]})
    return rows


def statistics(bench: Bench) -> Rows:
    """mean, variance: how far the dense path's statistics of the same images are from the compiled path's, averaged
    over channels and passes: |difference| in standard deviations, and |log ratio|; `first`: five generations alone.
    """
    rows: Rows = []
    recipe, few = (shortened(PAPER, 2), 2) if bench.small else (PAPER, 32)
    bench.calibrated(bench.network, shortened(PAPER, 1), 2)  # warm
    compiled: Statistics | None = None
    cases: list[tuple[int, SearchPath]] = [(few, "auto"), (few, "dense"), (4 * few, "auto")]
    for count, path in cases:
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        row: dict[str, Any] = {"images": count, "path": path}
        started = time.perf_counter()
        try:
            made = bench.calibrated(bench.network, recipe, count, path)
            if bench.device.type == "cuda":
                torch.cuda.synchronize()
            row["seconds"] = round(time.perf_counter() - started, 2)
            if path == "dense" and compiled is not None:
                row |= apart(compiled, made)
            compiled = compiled or made
        except torch.OutOfMemoryError:
            row["seconds"] = None
        most = torch.cuda.max_memory_allocated() / 1e9 if bench.device.type == "cuda" else 0.0
        rows.append(row | {"gigabytes": round(most, 1)})
    columns: dict[str, Any] = dict.fromkeys(name for row in rows for name in row)
    return [columns | row for row in rows]  # a table's rows have the same columns


def apart(compiled: Statistics, dense: Statistics) -> dict[str, float]:
    """What `statistics` says of two paths' statistics, of the passes that score each block's candidates (R3)."""
    differences: dict[str, list[Tensor]] = defaultdict(list)
    for layer in range(len(BLOCKS) - 1):
        (mean, variance), (other, spread) = (table.scorings[layer].double().unbind(2) for table in (compiled, dense))
        for name, values in (
            ("mean", (mean - other).abs() / variance.sqrt()),
            ("variance", (variance / spread).log().abs()),
        ):
            differences[name].append(values.flatten())
            differences[f"{name}, first"].append(values[:5].flatten())
    return {name: float(f"{torch.cat(values).mean():.2g}") for name, values in differences.items()}


def profile(bench: Bench) -> Rows:
    return [{"reading": json.dumps(reading)} | row for reading in ({}, FROZEN) for row in profiled(bench, reading)]


def profiled(bench: Bench, reading: dict[str, Any]) -> Rows:
    rows, generations, numbers = [], 20, torch.arange(bench.batch)
    recipe = replace(shortened(PAPER, generations), **reading)
    for evolution, layer, parents, loss in bench.openings(numbers, recipe):
        if bench.device.type == "cuda":
            with launched_one_by_one():
                evolution.evolve(parents, loss, layer)  # compiles
                spent = by_kernel(lambda e=evolution, p=parents, q=loss, n=layer: e.evolve(p, q, n))  # type: ignore[misc]
        else:
            started = time.perf_counter()
            evolution.evolve(parents, loss, layer)
            spent = {"all": (1, 1e6 * (time.perf_counter() - started))}
        for name, (calls, microseconds) in sorted(spent.items(), key=lambda item: -item[1][1])[:14]:
            per = microseconds / generations / len(numbers)
            rows.append(
                {"layer": BLOCKS[layer], "kernel": name[:60], "calls": calls, "µs per image-generation": round(per, 3)}
            )
        total = sum(microseconds for _, microseconds in spent.values()) / generations / len(numbers)
        rows.append(
            {"layer": BLOCKS[layer], "kernel": "all", "calls": None, "µs per image-generation": round(total, 3)}
        )
    return rows


def by_kernel(work: Callable[[], Any]) -> dict[str, tuple[int, float]]:
    """name → (calls, microseconds) of the kernels that `work` runs on the GPU."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    spent: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            calls, microseconds = spent[event.name]
            spent[event.name] = calls + 1, microseconds + event.device_time
    return spent


@torch.no_grad()
def searched(bench: Bench, count: int, batch: int, recipe: Recipe = PAPER) -> Rows:
    """Seconds of a whole search by search layer and phase, without its statistics, which are made before."""
    bench.evolution(torch.arange(1), recipe)
    spent: dict[str, float] = defaultdict(float)
    losses: dict[str, list[Tensor]] = defaultdict(list)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        result = work()
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
        spent[name] += time.perf_counter() - started
        return result

    started = time.perf_counter()
    for numbers in torch.arange(count).split(batch):
        evolution = bench.evolution(numbers, recipe)
        x = bench.x[numbers].to(bench.device)
        best: Tensor | None = None
        for layer, name in enumerate(SEARCH_LAYERS):
            opened = timed(
                f"{name}: opening",
                lambda e=evolution, b=best, n=layer, x=x: e.open(x, 0) if b is None else e.open_next(b, n),  # type: ignore[misc]
            )
            best, history = timed(f"{name}: generations", lambda e=evolution, o=opened, n=layer: e.evolve(*o, n))  # type: ignore[misc]
            timed("copying", lambda b=best: b.half().cpu())  # type: ignore[misc]
            losses[name].append(history[:, -1].cpu())
        losses["untouched"].append(timed("untouched", lambda e=evolution, x=x: e.untouched(x)).cpu())
    whole = time.perf_counter() - started
    rows: Rows = []
    for phase, taken in [*spent.items(), ("all", whole)]:
        row = {"phase": phase, "seconds": round(taken, 2), "µs per image": round(1e6 * taken / count, 1)}
        name = phase.removesuffix(": generations")
        row["cross-entropy"] = round(float(torch.cat(losses[name]).mean()), 4) if name in losses else None
        rows.append(row)
    return rows


def images(bench: Bench) -> Rows:
    rows, count = [], 4 if bench.small else 1024
    for reading in ({}, FROZEN):
        recipe = replace(shortened(PAPER, 20) if bench.small else PAPER, **reading)
        if bench.device.type == "cuda":
            searched(bench, bench.batch, bench.batch, recipe)  # compiles
        rows += [{"reading": json.dumps(reading)} | row for row in searched(bench, count, bench.batch, recipe)]
    return rows


def training(bench: Bench) -> Rows:
    width, images = bench.network.shape.width, 200 if bench.small else TRAINING
    return profile_training(bench.device, width, 10, images, 3, "auto")["rows"][:25]


def epochs(bench: Bench) -> Rows:
    width, images = bench.network.shape.width, 200 if bench.small else TRAINING
    return bench_train(bench.device, width, 10, images, [1] if bench.small else [1, 3], "auto")["rows"]


def search(bench: Bench) -> Rows:
    at_scale = bench.device.type == "cuda" and not bench.small
    searched = SearchBench(bench.device, bench.network.shape.width, 10, bench.batch, 0 if at_scale else 3)
    return bench_search(searched, "auto", scaling=False)["rows"]


def dataset(bench: Bench) -> Rows:
    return searched(bench, 8 if bench.small else len(bench.x), bench.batch)


PARTS: dict[str, Callable[[Bench], Rows]] = {
    "graph": graph,
    "batches": batches,
    "agreement": agreement,
    "sanitizer": sanitizer,
    "statistics": statistics,
    "profile": profile,
    "images": images,
    "training": training,
    "epochs": epochs,
    "search": search,
    "dataset": dataset,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--images", type=Path, help="npz with x_train and y_train")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    bench = Bench.of(device, arguments.images, arguments.small)
    for part in arguments.only:
        started = time.perf_counter()
        try:
            result = {"machine": {"device": name, "torch": torch.__version__}, "rows": PARTS[part](bench)}
            (arguments.out / f"{part}.json").write_text(json.dumps(result, indent=2) + "\n")
            print(text(result), flush=True)
        except Exception:
            (arguments.out / f"{part}.error").write_text(traceback.format_exc())
            traceback.print_exc()
        print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
