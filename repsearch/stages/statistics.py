"""Stage: the BatchNorm statistics of a recipe's search (R3)."""

import logging
from pathlib import Path

import numpy as np
import torch

from repsearch.data import prepared as datasets
from repsearch.data.prepared import Prepared
from repsearch.errors import UserError
from repsearch.jobs import StatisticsJob
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.calibration import calibrate
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import Recipe
from repsearch.search.statistics import Statistics
from repsearch.stages import cache
from repsearch.storage import networks
from repsearch.storage import statistics as storage
from repsearch.storage.files import atomic, file_digest
from repsearch.storage.manifest import write_manifest

log = logging.getLogger(__name__)


def make(
    job: StatisticsJob, dataset: Path, network: Path, out: Path, device: torch.device, path: SearchPath = "auto"
) -> None:
    """Take the statistics from the first training images and write them (npz), with their manifest."""
    if cache.up_to_date(job, out, dataset, network):
        return
    net = SearchNetwork(networks.read(network)[0]).to(device)
    arrays = storage.arrays(of_recipe(net, datasets.read(dataset), job.recipe, path))
    if not all(np.isfinite(table).all() for table in arrays.values()):
        raise UserError("the search of the calibration images gave statistics that are not finite: check the recipe")
    with atomic(out) as temporary, temporary.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)
    computed_by = backends.computed_by(net, job.recipe, path, together=True)
    key = cache.key(job, dataset, network, backend=computed_by)
    write_manifest(cache.manifest_path(job, out), key, [out], {"sha256": file_digest(out)})


def of_recipe(
    network: SearchNetwork, data: Prepared, recipe: Recipe, path: SearchPath, layer: int | None = None
) -> Statistics:
    """A recipe's statistics, from as many of the data set's training images as it says, on the network's device.

    layer: of the search of one block alone. Raises UserError where they don't fit into the GPU's memory.
    """
    chosen = data.train[: recipe.statistics_images]
    images = torch.from_numpy(data.normalised(data.images[chosen])).to(network.device)
    labels, indices = (torch.from_numpy(x).to(network.device) for x in (data.labels[chosen], chosen))
    log.info("statistics (%s): searching %d images together", recipe.batch_norm, len(chosen))
    try:
        statistics = calibrate(network, images, labels, recipe, indices, layer, path)
    except torch.OutOfMemoryError as error:
        hint = f"lower statistics_images, population or width ({str(error).splitlines()[0]})"
        raise UserError(f"the GPU's memory does not hold {len(chosen)} calibration images: {hint}") from None
    log.info("statistics (%s) of %d images", recipe.batch_norm, len(chosen))
    return statistics
