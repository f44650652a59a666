"""Writing searched targets: one Zarr v3 store per shard, with a manifest. `targets` reads them."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from repsearch.storage.files import atomic
from repsearch.storage.manifest import write_manifest
from repsearch.storage.resume import Arrays

FORMAT = 1  # to be raised when a store's arrays or attributes change in name, type or meaning; all searches run again
CHUNK_IMAGES = 64


def write(store: Path, manifest: Path, arrays: Arrays, attributes: dict[str, Any], key: dict[str, Any]) -> None:
    """Write one shard: the store, then its manifest.

    arrays: `targets/<layer>` [n, …] float16, `history/<layer>` [n, generations + 1] float32, labels, indices and the
    cross-entropies, all with the same n. attributes: recipe, network digest and so on. key: what it was made from. The
    store is one zip file, so that it appears at once and a cluster's file system holds one file per shard; equal arrays
    give equal bytes.
    """
    entries: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(entries), attributes=attributes)
    for name, values in arrays.items():
        group.create_array(
            name,
            data=np.ascontiguousarray(values),
            chunks=(min(len(values), CHUNK_IMAGES), *values.shape[1:]),
            dimension_names=_dimensions(name, values.ndim),
            compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
            config={"write_empty_chunks": True},  # so that a chunk that is missing is known to be lost
        )
    with atomic(store) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(entries, key=lambda name: (name != "zarr.json", name)):
            entry = zipfile.ZipInfo(name)  # of a fixed date
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, entries[name].to_bytes())
    facts = {"images": len(arrays["indices"]), "sha256": content_digest(arrays)}
    write_manifest(manifest, key, [store], {**attributes, **facts})


def _dimensions(name: str, count: int) -> list[str]:
    """The names of an array's dimensions, without which xarray opens no store. Within a group, one name is one size.

    They are for other readers alone: ours takes none, so that stores from before they had names are as good.
    """
    kind, _, layer = name.partition("/")
    own: list[str] = []
    if kind == "targets":
        own = ["class"] if layer == "logits" else ["channel", f"{layer}_row", f"{layer}_column"]
    elif kind == "history":
        own = [f"{layer}_generation"]
    return ["image", *["run"] * (count - 1 - len(own)), *own]


def content_digest(arrays: Arrays) -> str:
    """SHA-256 of the arrays' names, types, shapes and values: independent of chunks and compression."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        content.update(values.data)
    return content.hexdigest()
