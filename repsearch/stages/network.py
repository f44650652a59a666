"""Stage: initialise the search network of a data set."""

import logging
from dataclasses import asdict
from pathlib import Path

import torch

from repsearch.data import prepared as datasets
from repsearch.jobs import NetworkJob
from repsearch.network import Shape
from repsearch.search.network import initialise
from repsearch.stages import cache
from repsearch.storage.files import atomic, file_digest
from repsearch.storage.manifest import write_manifest

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
