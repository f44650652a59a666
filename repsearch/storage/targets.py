"""Reading searched targets: one shard, or all shards of a recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import ZipStore

from repsearch.errors import UserError, reason
from repsearch.search.recipe import SEARCH_LAYERS
from repsearch.storage.files import REMEDY
from repsearch.storage.manifest import read_manifest
from repsearch.storage.shards import content_digest
from repsearch.storage.untrusted import check_store


def read(store: Path, manifest: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and attributes of one shard. Raises UserError, naming it, where it is missing, truncated or altered."""
    stated = read_manifest(manifest)
    if not store.exists():
        raise UserError(f"{store} is missing, but {manifest} is there: run snakemake again, asking for {store}")
    try:
        names = check_store(store)
        with ZipStore(store, mode="r") as opened:
            # Each array by its own metadata: the "consolidated" metadata of a group could name other codecs.
            members = {name: zarr.open_array(opened, path=name, mode="r", zarr_format=3) for name in names}
            arrays = {name: np.asarray(member[...]) for name, member in members.items()}
            attributes = dict(zarr.open_group(opened, mode="r", zarr_format=3, use_consolidated=False).attrs)
    except Exception as error:  # zipfile, zarr, its codecs and json raise different ones for a damaged file
        problem = f"{type(error).__name__}: {reason(error)}"
        raise UserError(f"{store} is not a readable Zarr store ({problem}): {REMEDY}") from None
    if content_digest(arrays) != stated.get("sha256") or attributes != {n: stated.get(n) for n in attributes}:
        raise UserError(f"{store} is not what its manifest says (altered, truncated or of another shard): {REMEDY}")
    return arrays, attributes


def paths(manifest: Path) -> tuple[Path, Path]:
    """(store, manifest) of a shard, from the path of its manifest."""
    return manifest.with_suffix(".zarr.zip"), manifest


def read_all(manifests: Sequence[Path], count: int, expected: Mapping[str, Any]) -> dict[str, NDArray[np.float16]]:
    """The targets of all shards of one recipe: search layer → [count, …], in the order of the images.

    expected: attributes that each shard must have, such as the recipe's digest. Raises UserError for a shard that is
    missing, truncated, altered or has other attributes, and unless the shards hold each image 0 … count-1 exactly once.
    """
    targets: dict[str, NDArray[np.float16]] = {}
    shard_of = np.full(count, -1)  # per image: the number of its shard
    for number, path in enumerate(manifests):
        store, manifest = paths(path)
        arrays, attributes = read(store, manifest)
        for name, value in expected.items():
            if attributes.get(name) != value:
                raise UserError(f"{store} has {name} {attributes.get(name)!r}, not {value!r}: {REMEDY}")
        indices = arrays["indices"]
        if indices.min(initial=0) < 0 or indices.max(initial=0) >= count:
            raise UserError(f"{store} holds images outside 0 … {count - 1}: {REMEDY}")
        repeated = indices[shard_of[indices] >= 0]
        if len(repeated):
            other, _ = paths(manifests[shard_of[repeated[0]]])
            remedy = "delete both with their manifests, then run snakemake again"
            raise UserError(f"{other} and {store} both hold image {repeated[0]}: {remedy}")
        shard_of[indices] = number
        for layer in SEARCH_LAYERS:
            values = arrays[f"targets/{layer}"]
            rows = targets.setdefault(layer, np.empty((count, *values.shape[1:]), np.float16))
            rows[indices] = values
    if (shard_of < 0).any():
        folder, image = manifests[0].parent if manifests else "the targets' folder", np.flatnonzero(shard_of < 0)[0]
        raise UserError(f"{folder}: no shard holds image {image}: delete the shards, then run snakemake again")
    return targets
