"""Searched targets on disk, written: one Zarr v3 store per shard, with a manifest. `targets` reads them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import ZipStore

from repsearch.storage.files import atomic, write_manifest

FORMAT = 1  # raise it when a store's arrays or attributes change in name, type or meaning: all searches then run again
CHUNK_IMAGES = 64
Arrays = Mapping[str, NDArray[Any]]


def write(store: Path, manifest: Path, arrays: Arrays, attributes: dict[str, Any], key: dict[str, Any]) -> None:
    """Write one shard whole: the store, then the manifest that vouches for its content.

    arrays: `targets/<layer>` [n, …] float16, `history/<layer>` [n, generations + 1] float32, labels, indices and the
    cross-entropies, all with the same n. attributes: recipe, network digest and so on. key: what it was made from. The
    store is one zip file, so that it appears at once and a cluster's file system holds one file a shard.
    """
    with atomic(store) as temporary, ZipStore(temporary, mode="w") as opened:
        group = zarr.create_group(opened, attributes=attributes)
        for name, values in arrays.items():
            group.create_array(
                name,
                data=np.ascontiguousarray(values),
                chunks=(min(len(values), CHUNK_IMAGES), *values.shape[1:]),
                compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
                config={"write_empty_chunks": True},  # so that a chunk that is not there is known to be lost
            )
    facts = {"images": len(arrays["indices"]), "sha256": content_digest(arrays), "key": key}
    write_manifest(manifest, {**attributes, **facts})


def content_digest(arrays: Arrays) -> str:
    """SHA-256 of the arrays' names, types, shapes and values: independent of chunks and compression."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        whole.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        whole.update(values.data)
    return whole.hexdigest()
