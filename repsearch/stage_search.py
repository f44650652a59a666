"""Stage: search one shard, a contiguous range of a data set's training images."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from repsearch import datasets, stage_network, targets
from repsearch.errors import UserError
from repsearch.files import digest, read_json
from repsearch.progress import bar
from repsearch.provenance import code_version
from repsearch.recipe import SEARCH_LAYERS, Recipe
from repsearch.search import Found, search
from repsearch.search_network import SearchNetwork

log = logging.getLogger(__name__)

CPU_BATCH_NUMBERS = 2**23  # a population of this many numbers stays near the caches
GPU_MEMORY_SHARE = 0.02  # of the free memory for one population; children, pools and intermediate maps take the rest


def batch_images(network: SearchNetwork, recipe: Recipe, device: torch.device) -> int:
    """How many images to search side by side. It has no bearing on the result (R3 `frozen`)."""
    channels, height, width = network.shape.layer_shapes["block0"]
    numbers = recipe.population * channels * height * width
    if device.type == "cpu":
        return max(1, CPU_BATCH_NUMBERS // numbers)
    return max(1, int(GPU_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / (4 * numbers)))


def search_images(
    network: SearchNetwork,
    data: datasets.Prepared,
    indices: NDArray[np.int64],
    recipe: Recipe,
    device: torch.device,
    title: str,
) -> Iterator[Found]:
    """Search images of a data set, a batch at a time, on a network that lies on `device`."""
    size = batch_images(network, recipe, device)
    for start in bar(range(0, len(indices), size), title, unit="batch"):
        chosen = indices[start : start + size]
        images = torch.from_numpy(data.normalised(data.images[chosen])).to(device)
        labels, numbers = (torch.from_numpy(x).to(device) for x in (data.labels[chosen], chosen))
        yield search(network, images, labels, recipe, numbers)


def make(
    dataset: Path,
    network: Path,
    recipe: Recipe,
    start: int,
    stop: int,
    store: Path,
    manifest: Path,
    device: torch.device,
) -> None:
    """Search images start … stop-1 (held-out ones included: figure 5) and write the shard and its manifest."""
    version = code_version("stage_search")
    key: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "images": [start, stop],
        "code": version,
        "dataset": read_json(dataset.with_suffix(".json"))["sha256"],
        "network": read_json(network.with_suffix(".json"))["sha256"],
    }
    if _unchanged(store, manifest, key):
        log.info("%s is up to date: its inputs did not change", store)
        return
    data = datasets.read(dataset)
    if not 0 <= start < stop <= len(data.images):
        raise UserError(f"images {start} … {stop} are not among the {len(data.images)} of {dataset}")
    net, network_digest = stage_network.read(network)
    indices = np.arange(start, stop)
    found = list(search_images(net.to(device), data, indices, recipe, device, f"search {start}–{stop}"))
    arrays: dict[str, NDArray[Any]] = {"indices": indices, "labels": data.labels[indices]}
    arrays["initial_cross_entropy"] = torch.cat([part.initial for part in found]).float().cpu().numpy()
    arrays["final_cross_entropy"] = torch.cat([part.final for part in found]).float().cpu().numpy()
    for layer in SEARCH_LAYERS:
        arrays[f"targets/{layer}"] = torch.cat([part.targets[layer] for part in found]).half().cpu().numpy()
        arrays[f"history/{layer}"] = torch.cat([part.history[layer] for part in found]).float().cpu().numpy()
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise UserError(f"the search of images {start} … {stop} gave values that are not finite: check the recipe")
    attributes = {
        "recipe": recipe.to_dict(),
        "recipe_digest": digest(recipe.to_dict()),
        "network": network_digest,
        "code_version": version,
    }
    targets.write(store, manifest, arrays, attributes, key)
    initial, final = arrays["initial_cross_entropy"], arrays["final_cross_entropy"]
    log.info("%d images: cross-entropy %.3f → %.3f", len(indices), initial.mean(), final.mean())


def _unchanged(store: Path, manifest: Path, key: dict[str, Any]) -> bool:
    try:
        return read_json(manifest).get("key") == key and bool(targets.read(store, manifest))
    except UserError:
        return False


def seeded(recipe: Recipe, run: int) -> Recipe:
    """The recipe of independent run number `run` (§3.2): another seed, else the same."""
    return replace(recipe, seed=recipe.seed + run)
