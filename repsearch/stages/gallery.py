"""Stage: what the search makes of a few images, for the report: maps by generation, logits, cross-entropy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.data.prepared import Prepared
from repsearch.errors import UserError
from repsearch.jobs import GalleryJob
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import SearchResult
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS, Recipe
from repsearch.search.statistics import Statistics
from repsearch.stages import cache
from repsearch.stages.search import read_statistics, search_images
from repsearch.storage import networks
from repsearch.storage.files import digest, write_csv
from repsearch.storage.manifest import write_manifest

SHOWN = (0.0, 0.05, 0.2, 0.5, 1.0)  # after which parts of a block's generations its best candidate is shown
CHANNELS = 4  # of an image's maps, those that vary most over space at the end of the blocks


def make(
    job: GalleryJob,
    dataset: Path,
    network: Path,
    statistics: Path | None,
    out: Path,
    device: torch.device,
    path: SearchPath = "auto",
) -> None:
    """§3.1: search the images; write the maps, logits and cross-entropies, with one number per row.

    CSV: image (its index), true_class, kind, block, generation, channel, y, x, value, class, and empty where a column
    says nothing of that kind. Kinds: `pixel` (0 to 255, by channel); `map` (of the best candidate after that generation
    of that block); `logit` (of the best candidate in the end, by class); `loss` (cross-entropy in nats of the best
    candidate, by search layer and generation). The candidates are those of the targets, except with R3 `batch`, where
    the statistics are those of these images. Raises UserError where the held-out images have too few classes.
    """
    if cache.up_to_date(job, out, dataset, network, statistics):
        return
    data, net = datasets.read(dataset), SearchNetwork(networks.read(network)[0]).to(device)
    indices, given = _images(data, job.images), read_statistics(net, job.recipe, statistics)
    key = cache.key(job, dataset, network, statistics, backend=backends.computed_by(net, job.recipe, path))

    def searched(layer: int, generation: int) -> list[SearchResult]:
        recipe, taken = up_to(job.recipe, given, layer, generation)
        title = f"{SEARCH_LAYERS[layer]}, generation {generation}"
        return list(search_images(net, data, indices, recipe, taken, path, title=title))

    whole = searched(len(BLOCKS), job.recipe.layers[-1].generations)
    channels = _channels([torch.cat([result.targets[block] for result in whole]) for block in BLOCKS])
    rows = [_tidy(data.images[indices], ["channel", "y", "x"], indices).assign(kind="pixel")]
    for layer, block in enumerate(BLOCKS):
        for generation in shown_generations(job.recipe, layer):
            maps = torch.cat([result.targets[block] for result in searched(layer, generation)])
            shown = maps.take_along_dim(channels[:, :, None, None], 1).float().numpy()
            frame = _tidy(shown, ["channel", "y", "x"], indices, channels.numpy())
            rows.append(frame.assign(kind="map", block=block, generation=generation))
    logits = _tidy(torch.cat([result.targets["logits"] for result in whole]).float().numpy(), ["class"], indices)
    logits["class"] = np.array(data.manifest["classes"])[logits["class"]]
    rows.append(logits.assign(kind="logit", block="logits"))
    for block in SEARCH_LAYERS:
        losses = torch.cat([result.history[block] for result in whole]).float().numpy()
        rows.append(_tidy(losses, ["generation"], indices).assign(kind="loss", block=block))
    frame = pd.concat(rows, ignore_index=True)
    integers = ["generation", "channel", "y", "x"]
    frame[integers] = frame[integers].astype("Int64")
    true = np.array(data.manifest["classes"])[data.labels[frame["image"]]]
    columns = ["image", "true_class", "kind", "block", *integers, "value", "class"]
    frame = frame.assign(true_class=true)[columns]
    write_csv(out, frame.assign(recipe_digest=digest(job.recipe.to_dict()), code_version=key["code"]))
    write_manifest(cache.manifest_path(job, out), key, [out], {})


def shown_generations(recipe: Recipe, layer: int) -> list[int]:
    """The generations of a layer after which its best candidate is shown, 0 and the last included."""
    return sorted({round(part * recipe.layers[layer].generations) for part in SHOWN})


def up_to(
    recipe: Recipe, statistics: Statistics | None, layer: int, generation: int
) -> tuple[Recipe, Statistics | None]:
    """The first part of a search, up to a generation of a layer: its recipe, and its part of the statistics.

    Random numbers are keyed by layer and generation, so that it finds what the whole search has found by then.
    """
    ends = [settings.generations if place < layer else 0 for place, settings in enumerate(recipe.layers)]
    ends[layer] = generation
    part = recipe.with_generations(ends)
    if statistics is None:
        return part, None
    scorings = {place: rows[: ends[place] + 1] for place, rows in statistics.scorings.items()}
    return part, replace(statistics, scorings=scorings)


def _images(data: Prepared, count: int) -> NDArray[np.int64]:
    """The first held-out images, each of another class."""
    _, first = np.unique(data.labels[data.validation], return_index=True)
    if count > len(first):
        raise UserError(f"gallery.images: {count} asked for, but the held-out images are of {len(first)} classes")
    return data.validation[np.sort(first)[:count]]


def _channels(maps: list[Tensor]) -> Tensor:
    """[images, 4]: the channels that vary most over space, on average over the blocks' maps [images, C, H, W]."""
    spread = torch.stack([block.float().std((-2, -1)) for block in maps]).mean(0)
    return spread.argsort(1, descending=True)[:, :CHANNELS].sort(1)[0]


def _tidy(
    values: NDArray[Any], axes: list[str], indices: NDArray[np.int64], channels: NDArray[np.int64] | None = None
) -> pd.DataFrame:
    """Values [images, …] as a frame with one value per row, its image's index and its position on the other axes.

    channels: [images, channels shown], the number of each channel on the first of these axes; None: all channels.
    """
    image, *places = np.indices(values.shape).reshape(values.ndim, -1)
    frame = pd.DataFrame(dict(zip(axes, places, strict=True)))
    if channels is not None:
        frame["channel"] = channels[image, places[0]]
    return frame.assign(image=indices[image], value=values.ravel().astype(np.float64))
