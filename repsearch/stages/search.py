"""Stage: search one shard, a contiguous range of a data set's training images."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.data.prepared import Prepared
from repsearch.devices import computing_on
from repsearch.errors import UserError
from repsearch.jobs import SearchJob
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import SearchResult, search
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import SEARCH_LAYERS, Recipe
from repsearch.search.statistics import Statistics
from repsearch.stages import cache
from repsearch.stages.batches import batch_images, in_batches, one_ahead
from repsearch.storage import networks, shards
from repsearch.storage import statistics as storage
from repsearch.storage.files import digest
from repsearch.storage.resume import Arrays, Resume, forget

log = logging.getLogger(__name__)
T = TypeVar("T")


def make(
    job: SearchJob,
    dataset: Path,
    network: Path,
    statistics: Path | None,
    out: Path,
    device: torch.device,
    path: SearchPath = "auto",
) -> None:
    """Search images start … stop-1 (held-out ones included, for figure 5) and write the shard `out` and its manifest.

    statistics: those of the recipe; None with R3 `batch`. A search that was cut short resumes from its last part.
    Raises UserError where the images do not exist.
    """
    if cache.up_to_date(job, out, dataset, network, statistics):
        return
    data = datasets.read(dataset)
    if not 0 <= job.start < job.stop <= len(data.images):
        raise UserError(f"images {job.start} … {job.stop} are not among the {len(data.images)} of {dataset}")
    weights, network_digest = networks.read(network)
    net, indices = SearchNetwork(weights).to(device), np.arange(job.start, job.stop)
    given = read_statistics(net, job.recipe, statistics)
    computed_by = backends.computed_by(net, job.recipe, path)
    key = cache.key(job, dataset, network, statistics, backend=computed_by)

    def rest(done: int) -> Iterator[Arrays]:
        remaining = indices[done:]
        results = search_images(net, data, remaining, job.recipe, given, path, title=f"search {job.start}–{job.stop}")
        return map(_arrays, one_ahead(results) if device.type == "cuda" else results)

    searched = Resume(out, {**key, **computing_on(device)}).rows(rest)
    arrays: dict[str, NDArray[Any]] = {"indices": indices, "labels": data.labels[indices], **searched}
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise UserError(f"searching images {job.start} … {job.stop} gave values that are not finite: check the recipe")
    recipe, kind = job.recipe.to_dict(), "dense" if computed_by == "dense" else "fused"
    attributes = {"recipe": recipe, "recipe_digest": digest(recipe), "network": network_digest}
    attributes |= {"code_version": key["code"], "device": device.type, "path": kind}
    shards.write(out, cache.manifest_path(job, out), arrays, attributes, key)
    forget(out)
    initial, final = arrays["initial_cross_entropy"], arrays["final_cross_entropy"]
    log.info("%d images: cross-entropy %.3f → %.3f", len(indices), initial.mean(), final.mean())


def _arrays(result: SearchResult) -> dict[str, NDArray[Any]]:
    """What a shard keeps of each image, by the names of its arrays."""
    arrays = {"initial_cross_entropy": result.initial.float(), "final_cross_entropy": result.final.float()}
    for layer in SEARCH_LAYERS:
        arrays[f"targets/{layer}"] = result.targets[layer].half()
        arrays[f"history/{layer}"] = result.history[layer].float()
    return {name: values.numpy() for name, values in arrays.items()}


def search_images(
    network: SearchNetwork,
    data: Prepared,
    indices: NDArray[np.int64],
    recipe: Recipe,
    statistics: Statistics | None,
    path: SearchPath,
    title: str,
) -> Iterator[SearchResult]:
    """Search images of a data set on the network's device; the results come back on the CPU, batch by batch."""

    def work(images: Tensor, labels: Tensor, numbers: Tensor) -> SearchResult:
        return search(network, images, labels, recipe, numbers, statistics, path).cpu()

    return over_images(network, data, indices, recipe, path, work, title=title)


def over_images(
    network: SearchNetwork,
    data: Prepared,
    indices: NDArray[np.int64],
    recipe: Recipe,
    path: SearchPath,
    work: Callable[[Tensor, Tensor, Tensor], T],
    title: str,
) -> Iterator[T]:
    """`work` of (images, labels, indices) on the network's device, batch by batch."""

    def batch(part: slice) -> T:
        chosen = indices[part]
        images = torch.from_numpy(data.normalised(data.images[chosen]))
        on_device = (x.to(network.device) for x in (images, *map(torch.from_numpy, (data.labels[chosen], chosen))))
        return work(*on_device)

    if recipe.independent:
        return in_batches(len(indices), batch_images(network, recipe, path), batch, title=title)
    size = recipe.statistics_images  # of images that share their statistics: a part of the result
    return in_batches(len(indices), size, batch, title=title, smallest=size)


def read_statistics(network: SearchNetwork, recipe: Recipe, path: Path | None) -> Statistics | None:
    """A recipe's statistics on the network's device; None with R3 `batch`.

    Raises UserError where they are needed and missing.
    """
    if not recipe.independent:
        return None
    if path is None:
        raise UserError(f"--statistics must be given for a recipe with batch_norm: {recipe.batch_norm}")
    return storage.read(path, network.shape, recipe).to(network.device)
