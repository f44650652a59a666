"""Reading the file of a network, one that is searched or was learned."""

from pathlib import Path

import torch
from torch import Tensor

from repsearch.errors import UserError, reason
from repsearch.network import Network, Shape
from repsearch.storage.files import REMEDY
from repsearch.storage.manifest import verify


def read(path: Path) -> tuple[Network, str]:
    """The network and its digest. Raises UserError where the file is missing, damaged or not what its manifest says."""
    digest = verify(path.with_suffix(".json"))["sha256"]
    return load(path), str(digest)


def load(path: Path) -> Network:
    """The network in a file, whatever a manifest says. Raises UserError where the file is missing or damaged."""
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
        raise UserError(f"{path} is not a network ({reason(error)}): {REMEDY}") from None
    return network


def _fit(shape: Shape, weights: dict[str, Tensor]) -> bool:
    """Whether tensors have the sizes that the memory and the passes of a network of that shape depend on."""
    return (
        weights["head.weight"].shape == (shape.classes, shape.width * shape.map_sizes[-1] ** 2)
        and weights["whiten.weight"].shape[1:] == (shape.channels, 2, 2)
        and all(torch.isfinite(tensor).all() for tensor in weights.values())
    )
