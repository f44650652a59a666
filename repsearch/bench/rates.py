"""How fast this machine does what jobs are made of: seconds of each unit of `costs`, measured on made-up images."""

import logging
import subprocess
import sys
import time
from dataclasses import replace

import torch

from repsearch import metrics
from repsearch.bench.costs import Searched, Trained, Unit, Work
from repsearch.bench.roofline import seconds, wait
from repsearch.bench.search import Bench, timed_layers
from repsearch.bench.training import epoch_operations, epoch_seconds
from repsearch.learning.precision import choose
from repsearch.search.backends import SearchPath
from repsearch.search.calibration import calibrate
from repsearch.search.recipe import SEARCH_LAYERS, Recipe, scaled_generations
from repsearch.search.statistics import Recorder
from repsearch.stages.batches import batch_images

log = logging.getLogger(__name__)
SECONDS = 2.0  # of training epochs that are measured, about
TOGETHER = 8  # images that are searched together
MOST = 512  # images of a batch: on a CPU a tiny network would have thousands
IDLE = 0.8  # of the CPU's time: with less, other processes had their part of it
SHARE = 60  # of the generations, measured of a search together: one in so many


def measure(work: Work, device: torch.device, path: SearchPath) -> dict[Unit, float]:
    """Seconds of each unit of the work, on the device, with torch's threads. What is compiled is compiled before."""
    rates: dict[Unit, float] = {}
    started, computed = time.perf_counter(), time.process_time()
    kinds = {unit.kind for unit in work.units}
    for number, kind in enumerate(sorted(kinds, key=repr), 1):
        log.info("measuring %s (%d of %d)", _in_words(kind), number, len(kinds))
        if isinstance(kind, Searched):
            rates |= _search(kind, work.recipes[kind], device, path)
        elif isinstance(kind, Trained):
            rates[Unit(kind, "operation")] = _train(kind, device)
        else:
            rates[Unit(None, "pairs")] = _pairs(device)
    share = (time.process_time() - computed) / (time.perf_counter() - started) / torch.get_num_threads()
    if device.type == "cpu" and share < IDLE:
        log.warning("this machine is busy: the measurement got %.0f %% of its time; idle, it is faster", 100 * share)
    return rates


def start_seconds() -> float:
    """In which a job starts: Python and what stages import."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import repsearch.stages.search, repsearch.stages.train"], check=True)
    return time.perf_counter() - started


def _in_words(kind: Searched | Trained | None) -> str:
    if kind is None:
        return "comparisons of maps"
    size = f"{kind.shape.channels} × {kind.shape.size} × {kind.shape.size}, width {kind.shape.width}"
    if isinstance(kind, Trained):
        return f"training from {'targets' if kind.targets else 'labels'}: {size}, batches of {kind.batch}"
    return f"the search of {'a learned' if kind.learned else 'an untrained'} network: {size}, {', '.join(kind.how)}"


def _search(kind: Searched, recipe: Recipe, device: torch.device, path: SearchPath) -> dict[Unit, float]:
    """From one batch of images, as large as those of a job, and a few images that are searched together."""
    shape = kind.shape
    image = shape.channels, shape.size
    bench = Bench(device, shape.width, shape.classes, TOGETHER, 0, kind.learned, image, TOGETHER)
    images = min(MOST, batch_images(bench.network, recipe, path)) if recipe.independent else recipe.statistics_images
    bench = replace(bench, images=images)
    shortened = bench.shortened(recipe, path)
    statistics = bench.statistics(shortened) if recipe.independent else Recorder()
    evolution = bench.evolution(shortened, path, bench.images, statistics)
    opening, rates = 0.0, {}
    for layer, timed in enumerate(timed_layers(bench, evolution, path)):
        opening += timed.opening / bench.images
        children = bench.images * shortened.layers[layer].generations * (recipe.population - recipe.parents)
        rates[Unit(kind, SEARCH_LAYERS[layer])] = timed.evolving / children if children else 0.0
    together = {Unit(kind, "together"): _together(bench, recipe, path)} if recipe.independent else {}
    return {Unit(kind, "opening"): opening, **rates, **together}


def _together(bench: Bench, recipe: Recipe, path: SearchPath) -> float:
    """Seconds of a candidate where images are searched together."""
    first = recipe.layers[0].generations
    few = scaled_generations(recipe, max(1, first // SHARE)) if first else recipe
    numbers = torch.arange(TOGETHER, device=bench.device)
    images = bench.x[:TOGETHER].to(bench.device)

    wait(bench.device)
    started = time.perf_counter()
    calibrate(bench.network, images, numbers % bench.classes, few, numbers, path=path)  # compiled for the statistics
    wait(bench.device)
    generations = sum(layer.generations for layer in few.layers) if recipe.batch_norm == "trajectory" else 0
    return (time.perf_counter() - started) / (TOGETHER * recipe.population * (1 + generations))


def _train(kind: Trained, device: torch.device) -> float:
    """Seconds of a convolution's operation in training, from epochs of a few batches."""
    variant, precision = "search-all" if kind.targets else "sgd", choose(kind.precision, device)  # type: ignore[arg-type]
    images = 32
    for _ in range(2):  # the first time to know how many images take long enough
        duration = epoch_seconds(device, kind.shape, images, variant, precision, kind.batch)
        rate, known = duration / epoch_operations(kind.shape, images), images
        images = max(32, min(4 * kind.batch, int(SECONDS / duration * known)))
    return rate


def _pairs(device: torch.device, count: int = 1000, numbers: int = 5000) -> float:
    """Seconds of an operation of comparing all pairs of maps (§4.5)."""
    maps, labels = torch.randn(count, numbers, device=device), torch.arange(count, device=device) % 10
    wait(device)
    work = seconds(lambda: metrics.class_collision_entropies(metrics.cosine_gram(maps), labels), device)
    return work / (2 * count**2 * numbers)
