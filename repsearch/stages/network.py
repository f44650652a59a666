"""Stage: initialise a data set's search network; read it back."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.errors import UserError, reason
from repsearch.network import Network, Shape
from repsearch.search.network import SearchNetwork, Statistics
from repsearch.search.recipe import Calibration
from repsearch.search.statistics import initialise
from repsearch.storage.files import atomic, file_digest, finish, read_manifest, unchanged, whole
from repsearch.storage.provenance import code_version

log = logging.getLogger(__name__)


def make(
    dataset: Path,
    out: Path,
    width: int,
    seed: int,
    calibration_images: int,
    calibration_noise: float,
    head_bias: bool,
    blur: Sequence[int],
    count_padding: bool,
) -> None:
    """Write the search network of a prepared data set (weights, whitening, frozen statistics) and its manifest.

    blur, count_padding: the smoothing of its recipes' children (`initialise`). Always computed on the
    CPU in float32, so that the file does not depend on the device.
    """
    key: dict[str, Any] = {
        "settings": [width, seed, calibration_images, calibration_noise, head_bias, list(blur), count_padding],
        "code": code_version("stages.network"),
        "dataset": read_manifest(dataset.with_suffix(".json"))["sha256"],
    }
    manifest = out.with_suffix(".json")
    if unchanged(manifest, key):
        log.info("%s is up to date: its inputs did not change", out)
        return
    data = datasets.read(dataset)
    channels, size, _ = data.manifest["shape"]
    shape = Shape(channels, size, data.classes, width, head_bias=head_bias)
    images = torch.from_numpy(data.normalised(data.images[data.train]))
    calibration = Calibration(calibration_images, calibration_noise, (blur[0], blur[1]), count_padding)
    network = initialise(shape, images, seed, calibration)
    with atomic(out) as temporary, temporary.open("wb") as opened:  # or torch.save puts the path's name into the file
        torch.save(
            {
                "shape": asdict(shape),
                "weights": network.network.state_dict(),
                "statistics": network.statistics,
            },
            opened,
        )
    finish(manifest, key, [out], {"shape": asdict(shape), "sha256": file_digest(out)})
    log.info("search network: %s, %d images calibrate", shape, min(calibration_images, len(images)))


def read(path: Path) -> tuple[SearchNetwork, str]:
    """The network and its digest. Raises UserError where the file is missing, damaged or not what its manifest says."""
    stated = whole(path.with_suffix(".json"))["sha256"]
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        stated_shape, weights, statistics = saved["shape"], saved["weights"], saved["statistics"]
        if sum(tensor.nbytes for tensor in (*weights.values(), *statistics.values())) > path.stat().st_size:
            raise ValueError("its weights are larger than the file")
        if not all(type(value) in (int, bool) for value in stated_shape.values()):
            raise ValueError("its shape is not made of numbers")
        shape = Shape(**stated_shape)
        if not _fit(shape, weights, statistics):
            raise ValueError("its weights are not of the shape that it states")
        network = Network(shape, weights["whiten.weight"])
        network.load_state_dict(weights)
    except Exception as error:  # pickle, zipfile and torch each have their own for a damaged file
        raise UserError(
            f"{path} is not a search network ({reason(error)}): delete it and run snakemake again"
        ) from None
    return SearchNetwork(network, statistics), str(stated)


def _fit(shape: Shape, weights: dict[str, Tensor], statistics: Statistics) -> bool:
    """Whether tensors have the sizes of a network of that shape, as far as its memory and its passes depend on them."""
    norms = {start: blocks * shape.convolutions for start, blocks in (("input", 1), ("block0", 2), ("block1", 1))}
    return (
        weights["head.weight"].shape == (shape.classes, shape.width * shape.map_sizes[-1] ** 2)
        and weights["whiten.weight"].shape[1:] == (shape.channels, 2, 2)
        and all(statistics[start].shape == (count, 2, shape.width) for start, count in norms.items())
        and all(torch.isfinite(tensor).all() for tensor in (*weights.values(), *statistics.values()))
    )
