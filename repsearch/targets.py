"""Searched targets on disk: one Zarr v3 store a shard, with a manifest; and one indexed view over all shards."""

import hashlib
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import ZipStore

from repsearch.errors import UserError
from repsearch.files import atomic, read_json, write_json
from repsearch.recipe import SEARCH_LAYERS

log = logging.getLogger(__name__)

CHUNK_IMAGES = 64
REMEDY = "delete it and its manifest, then run snakemake again"
Arrays = Mapping[str, NDArray[Any]]


def write(store: Path, manifest: Path, arrays: Arrays, attributes: dict[str, Any], key: dict[str, Any]) -> None:
    """Write one shard whole: the store, then the manifest that vouches for its content.

    arrays: `targets/<layer>` [n, …] float16, `history/<layer>` [n, generations + 1] float32, labels, indices and the
    cross-entropies, all with the same n. attributes: recipe, network digest and so on. key: what it was made from. The
    store is one zip file, so that it appears at once and a cluster's file system holds one file a shard.
    """
    with atomic(store) as temporary:
        temporary.unlink()
        with ZipStore(temporary, mode="w") as opened:
            group = zarr.create_group(opened, attributes=attributes)
            for name, values in arrays.items():
                group.create_array(
                    name,
                    data=np.ascontiguousarray(values),
                    chunks=(min(len(values), CHUNK_IMAGES), *values.shape[1:]),
                    compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
                )
    write_json(manifest, {**attributes, "images": len(arrays["indices"]), "sha256": content_digest(arrays), "key": key})


def content_digest(arrays: Arrays) -> str:
    """SHA-256 of the arrays' names, types, shapes and values: independent of chunks and compression."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        whole.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        whole.update(values.data)
    return whole.hexdigest()


def read(store: Path, manifest: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """One shard's arrays and attributes. Raises UserError, naming it, if missing, truncated or altered."""
    stated = read_json(manifest)
    if not store.exists():
        raise UserError(f"{store} is missing, but {manifest} is there: run snakemake again, asking for {store}")
    try:
        if not zipfile.is_zipfile(store):
            raise zipfile.BadZipFile("not a whole zip file")
        with ZipStore(store, mode="r") as opened:
            group = zarr.open_group(opened, mode="r", zarr_format=3)
            attributes = dict(group.attrs)
            arrays = {
                path: array[...] for path, array in group.members(max_depth=None) if isinstance(array, zarr.Array)
            }
    except Exception as error:  # zipfile, zarr, its codecs and json each have their own for a damaged file
        raise UserError(f"{store} is not a readable Zarr store ({type(error).__name__}: {error}): {REMEDY}") from None
    if content_digest(arrays) != stated.get("sha256"):  # type: ignore[arg-type]
        raise UserError(f"{store} is not what its manifest says (altered, truncated or of another shard): {REMEDY}")
    return arrays, attributes  # type: ignore[return-value]


def paths(manifest: Path) -> tuple[Path, Path]:
    """(store, manifest) of a shard, from its manifest's path."""
    return manifest.with_suffix(".zarr.zip"), manifest


class Targets:
    """All shards of one recipe as one indexed view, read whole into memory.

    arrays: search layer → [N, …] float16, in the order of the images. layers: which search layers to keep. expected:
    attributes that each shard must have, such as the recipe's digest. Raises UserError for a shard that is missing,
    truncated, altered or has other attributes, and where the shards do not cover images 0 … count-1 just once.
    """

    def __init__(
        self, manifests: Sequence[Path], count: int, expected: Mapping[str, Any], layers: Sequence[str] = SEARCH_LAYERS
    ) -> None:
        self.arrays: dict[str, NDArray[np.float16]] = {}
        covered = np.zeros(count, dtype=int)
        for path in manifests:
            store, manifest = paths(Path(path))
            arrays, attributes = read(store, manifest)
            for name, value in expected.items():
                if attributes.get(name) != value:
                    raise UserError(f"{store} has {name} {attributes.get(name)!r}, not {value!r}: {REMEDY}")
            indices = arrays["indices"]
            if indices.min(initial=0) < 0 or indices.max(initial=0) >= count:
                raise UserError(f"{store} holds images outside 0 … {count - 1}: {REMEDY}")
            covered[indices] += 1
            for layer in layers:
                values = arrays[f"targets/{layer}"]
                whole = self.arrays.setdefault(layer, np.empty((count, *values.shape[1:]), np.float16))
                whole[indices] = values
        if not (covered == 1).all():
            wrong = int(np.flatnonzero(covered != 1)[0])
            folder = Path(manifests[0]).parent if manifests else "the targets' folder"
            raise UserError(
                f"{folder}: image {wrong} is in {covered[wrong]} shards, not in one: a shard is missing or doubled"
            )
