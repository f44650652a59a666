"""Stage: search one shard, a contiguous range of a data set's training images."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.devices import computing_on
from repsearch.errors import UserError
from repsearch.progress import counter
from repsearch.search import backends as fused
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import SearchResult, search
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import SEARCH_LAYERS, Recipe
from repsearch.stages import network as stage_network
from repsearch.storage import partial, shards, targets
from repsearch.storage.files import digest, read_manifest
from repsearch.storage.provenance import code_version, code_versions

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH_NUMBERS = 2**23  # of the batch's populations, on a CPU and for R3 `batch`
GPU_MEMORY_SHARE = 0.5  # of the free memory for the batch; what else lives for a moment takes the rest
GPU_BATCH_IMAGES = 512  # more do not make a GPU busier


def batch_images(network: SearchNetwork, recipe: Recipe, path: SearchPath) -> int:
    """How many images to search side by side, from the device's free memory. No bearing on the result (R3 `frozen`)."""
    shape = network.shape.layer_shapes["block0"]
    numbers = recipe.population * math.prod(shape)
    if not recipe.frozen:  # whose result depends on the batch: so never on the machine
        return max(1, BATCH_NUMBERS // numbers)
    if network.device.type == "cpu":
        return max(torch.get_num_threads(), BATCH_NUMBERS // numbers)
    cached = torch.cuda.memory_reserved(network.device) - torch.cuda.memory_allocated(network.device)
    free = torch.cuda.mem_get_info(network.device)[0] + cached
    if fused.choose(network, recipe, path):
        from repsearch.search.gpu.evolve import bytes_per_image

        each = bytes_per_image(network.shape, recipe)
    else:  # float32: the population, the pool, the pairs drawn from it, the noise and the blocks' maps
        each = 4 * 8 * numbers
    return max(1, min(GPU_BATCH_IMAGES, int(GPU_MEMORY_SHARE * free / each)))


def in_batches(count: int, size: int, work: Callable[[slice], T], title: str, smallest: int = 1) -> Iterator[T]:
    """`work` of consecutive ranges of 0 … count-1, at most `size` long; halved, with a warning, where memory runs out.

    Raises UserError where not even a range of `smallest` fits.
    """
    start = 0
    with counter(count, title, "image") as bar:
        while start < count:
            part = slice(start, min(start + size, count))
            try:
                done = work(part)
            except torch.OutOfMemoryError as error:
                if size <= smallest:
                    raise UserError(
                        f"the GPU's memory does not hold {size} of the images at a time: free it of other jobs, or "
                        f"lower population or width ({str(error).splitlines()[0]})"
                    ) from None
                size = -(-size // 2)
                log.warning("out of memory: going on with batches of %d", size)
            else:
                yield done
                bar.update(part.stop - start)
                start = part.stop
                continue
            torch.cuda.empty_cache()  # outside the handler, which keeps the failed work's tensors alive


def over_images(
    network: SearchNetwork,
    data: datasets.Prepared,
    indices: NDArray[np.int64],
    recipe: Recipe,
    path: SearchPath,
    title: str,
    work: Callable[[Tensor, Tensor, Tensor], T],
) -> Iterator[T]:
    """`work` of (images, labels, indices) on the network's device, a batch of a data set's images at a time."""
    size = batch_images(network, recipe, path)

    def one(part: slice) -> T:
        chosen = indices[part]
        images = torch.from_numpy(data.normalised(data.images[chosen]))
        on_device = (x.to(network.device) for x in (images, *map(torch.from_numpy, (data.labels[chosen], chosen))))
        return work(*on_device)

    started = time.perf_counter()
    smallest = 1 if recipe.frozen else size
    yield from in_batches(len(indices), size, one, title, smallest)
    kind, seconds = path_name(network, recipe, path), time.perf_counter() - started
    log.info("%s: %d images in %.1f s (%s, %s path)", title, len(indices), seconds, network.device, kind)


def path_name(network: SearchNetwork, recipe: Recipe, path: SearchPath) -> str:
    """The path that `path` comes to for this network and recipe."""
    return "fused" if fused.choose(network, recipe, path) else "dense"


def backend(network: SearchNetwork, recipe: Recipe, path: SearchPath) -> str:
    """What computes the generations of blocks: a key of `provenance.BACKENDS`."""
    if not fused.choose(network, recipe, path):
        return "dense"
    return "gpu" if network.device.type == "cuda" else "cpu"


def search_images(
    network: SearchNetwork,
    data: datasets.Prepared,
    indices: NDArray[np.int64],
    recipe: Recipe,
    path: SearchPath,
    title: str,
) -> Iterator[SearchResult]:
    """Search images of a data set on the network's device; results come back on the CPU, a batch at a time."""

    def work(images: Tensor, labels: Tensor, numbers: Tensor) -> SearchResult:
        return search(network, images, labels, recipe, numbers, path).cpu()

    return over_images(network, data, indices, recipe, path, title, work)


def make(
    dataset: Path,
    network: Path,
    recipe: Recipe,
    start: int,
    stop: int,
    store: Path,
    manifest: Path,
    device: torch.device,
    path: SearchPath = "auto",
    save_seconds: float = partial.SEARCH_SECONDS,
) -> None:
    """Search images start … stop-1 (held-out ones included: figure 5) and write the shard and its manifest.

    What was searched is kept every `save_seconds`; a search that was cut short goes on from there.
    """
    key: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "images": [start, stop],
        "dataset": read_manifest(dataset.with_suffix(".json"))["sha256"],
        "network": read_manifest(network.with_suffix(".json"))["sha256"],
    }
    if _unchanged(store, manifest, key):
        partial.forget(store)
        log.info("%s is up to date: its inputs did not change", store)
        return
    data = datasets.read(dataset)
    if not 0 <= start < stop <= len(data.images):
        raise UserError(f"images {start} … {stop} are not among the {len(data.images)} of {dataset}")
    net, network_digest = stage_network.read(network)
    net, indices, title = net.to(device), np.arange(start, stop), f"search {start}–{stop}"
    computed_on = {**computing_on(device), "path": path_name(net, recipe, path)}
    key["code"] = code_version("stages.search", backend(net, recipe, path))

    def rest(done: int) -> Iterator[partial.Arrays]:
        return map(_arrays, search_images(net, data, indices[done:], recipe, path, title=title))

    searched = partial.Parts(store, {**key, **computed_on}, save_seconds).rows(rest)
    arrays: dict[str, NDArray[Any]] = {"indices": indices, "labels": data.labels[indices], **searched}
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise UserError(f"the search of images {start} … {stop} gave values that are not finite: check the recipe")
    attributes = {
        "recipe": recipe.to_dict(),
        "recipe_digest": digest(recipe.to_dict()),
        "network": network_digest,
        "code_version": key["code"],
        "device": device.type,
        "path": computed_on["path"],
    }
    shards.write(store, manifest, arrays, attributes, key)
    partial.forget(store)
    initial, final = arrays["initial_cross_entropy"], arrays["final_cross_entropy"]
    log.info("%d images: cross-entropy %.3f → %.3f", len(indices), initial.mean(), final.mean())


def _arrays(found: SearchResult) -> dict[str, NDArray[Any]]:
    """What a shard keeps of each image, by the names of its arrays."""
    arrays = {
        "initial_cross_entropy": found.initial.float().numpy(),
        "final_cross_entropy": found.final.float().numpy(),
    }
    for layer in SEARCH_LAYERS:
        arrays[f"targets/{layer}"] = found.targets[layer].half().numpy()
        arrays[f"history/{layer}"] = found.history[layer].float().numpy()
    return arrays


def _unchanged(store: Path, manifest: Path, key: dict[str, Any]) -> bool:
    try:
        codes = code_versions("stages.search")
        same = read_manifest(manifest).get("key") in [{**key, "code": code} for code in codes]
        return same and bool(targets.read(store, manifest))
    except UserError:
        return False


def seeded(recipe: Recipe, run: int) -> Recipe:
    """The recipe of independent run number `run` (§3.2): another seed, else the same."""
    return replace(recipe, seed=recipe.seed + run)
