"""Stage: initialise the search network of a data set; read it back."""

import logging
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.errors import UserError, reason
from repsearch.jobs import NetworkJob
from repsearch.network import Network, Shape
from repsearch.search.network import SearchNetwork, initialise
from repsearch.stages import cache
from repsearch.storage.files import REMEDY, atomic, file_digest
from repsearch.storage.manifest import verify, write_manifest

log = logging.getLogger(__name__)


def make(job: NetworkJob, dataset: Path, out: Path) -> None:
    """Write the search network of a prepared data set and its manifest.

    Computed on the CPU in float32, so that the file does not depend on the device.
    """
    if cache.up_to_date(job, out, dataset):
        return
    data = datasets.read(dataset)
    channels, size, _ = data.manifest["shape"]
    shape = Shape(channels, size, data.classes, job.width, head_bias=job.head_bias, head_init=job.head_init)
    images = torch.from_numpy(data.normalised(data.images[data.train]))
    network = initialise(shape, images, job.seed)
    content = {"shape": asdict(shape), "weights": network.network.state_dict()}
    with atomic(out) as temporary, temporary.open("wb") as opened:  # torch would store a path's name
        torch.save(content, opened)
    key = cache.key(job, dataset)
    write_manifest(cache.manifest_path(job, out), key, [out], {"shape": asdict(shape), "sha256": file_digest(out)})
    log.info("search network: %s", shape)


def read(path: Path) -> tuple[SearchNetwork, str]:
    """The network and its digest. Raises UserError where the file is missing, damaged or not what its manifest says."""
    digest = verify(path.with_suffix(".json"))["sha256"]
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        stated_shape, weights = saved["shape"], saved["weights"]
        if sum(tensor.nbytes for tensor in weights.values()) > path.stat().st_size:
            raise ValueError("its weights are larger than the file")
        sizes = {name: value for name, value in stated_shape.items() if name != "head_init"}
        if not all(type(value) in (int, bool) for value in sizes.values()):
            raise ValueError("its shape is not made of numbers")
        shape = Shape(**stated_shape)
        if not _fit(shape, weights):
            raise ValueError("its weights are not of the shape that it states")
        network = Network(shape, weights["whiten.weight"])
        network.load_state_dict(weights)
    except Exception as error:  # pickle, zipfile and torch raise different ones for a damaged file
        raise UserError(f"{path} is not a search network ({reason(error)}): {REMEDY}") from None
    return SearchNetwork(network), str(digest)


def _fit(shape: Shape, weights: dict[str, Tensor]) -> bool:
    """Whether tensors have the sizes that the memory and the passes of a network of that shape depend on."""
    return (
        weights["head.weight"].shape == (shape.classes, shape.width * shape.map_sizes[-1] ** 2)
        and weights["whiten.weight"].shape[1:] == (shape.channels, 2, 2)
        and all(torch.isfinite(tensor).all() for tensor in weights.values())
    )
