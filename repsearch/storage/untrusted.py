"""Checks of what zip, npz and Zarr files declare, before anything is unpacked or allocated."""

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"float16": 2, "float32": 4, "int64": 8}  # of a store's arrays: bytes per value
CODECS = ["bytes", "blosc"]  # of a store's arrays: no others are ever decoded
BLOSC_HEADER = 16
LZ4_RATIO = 256  # LZ4 shrinks nothing to less than a 255th
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_zip(archive: zipfile.ZipFile) -> None:
    """Raise ValueError where a zip file repeats a name or declares more than it, or this machine's memory, can hold."""
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("it has entries of the same name")
    if sum(entry.compress_size for entry in entries) > os.stat(str(archive.filename)).st_size:
        raise ValueError("its entries overlap")
    check_memory(sum(entry.file_size for entry in entries))


def check_memory(declared: int) -> None:
    """Raise ValueError for more bytes than this machine has of memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if declared > memory:
        raise ValueError(f"it declares {declared:,} bytes, more than this machine's memory ({memory:,})")


def npy_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """The shape of the array `name` of an npz file, from its header. Raises ValueError for one that can't be loaded.

    Refused are Python objects, whose pickles could run code, and an array of another size than its header declares.
    """
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"{name} is of npy version {'.'.join(map(str, version))}: save it with numpy.savez")
        shape, _, kind = HEADERS[version](member)
        if kind.hasobject:
            raise ValueError(f"{name} holds pickled objects, which are never loaded; save plain arrays")
        if member.tell() + math.prod(shape) * kind.itemsize != entry.file_size:
            raise ValueError(f"{name} does not have the size that its header declares, {list(shape)} of {kind}")
    return tuple(shape)


def check_store(path: Path) -> list[str]:
    """The names of a Zarr store's arrays. Raises an error where it declares what `shards.write` never writes.

    So no codec but Blosc decodes anything, every chunk exists, and the arrays are no larger than the file can hold.
    """
    with zipfile.ZipFile(path) as archive:
        check_zip(archive)
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("its entries are compressed")
        names = set(archive.namelist())
        arrays, declared, expected = [], 0, set()
        for name in sorted(names):
            if name == "zarr.json" or name.endswith("/zarr.json"):
                expected.add(name)
                metadata = json.loads(archive.read(name))
                if metadata["zarr_format"] != 3 or metadata.get("consolidated_metadata"):
                    raise ValueError(f"{name} is not plain Zarr 3")
                if metadata["node_type"] == "array":
                    array = name.removesuffix("/zarr.json")
                    arrays.append(array)
                    size, chunks = _check_array(array, metadata, names, archive)
                    declared += size
                    expected |= chunks
        if names != expected:
            raise ValueError(f"it holds {min(names - expected)!r}, which is not a chunk of its arrays")
        if declared > LZ4_RATIO * path.stat().st_size:
            raise ValueError(f"it declares {declared:,} bytes, more than it can hold")
        check_memory(declared)
    return arrays


def _check_array(name: str, metadata: Any, names: set[str], archive: zipfile.ZipFile) -> tuple[int, set[str]]:
    """(bytes declared, names of the chunks) of one array."""
    shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
    plain = all(type(x) is int and x > 0 for x in (*shape, *chunk)) and len(shape) == len(chunk) > 0
    codecs = [codec["name"] for codec in metadata["codecs"]]
    if not plain or metadata["data_type"] not in KINDS or codecs != CODECS or metadata.get("storage_transformers"):
        raise ValueError(f"{name} is declared as {metadata['data_type']} {shape} in chunks {chunk} by {codecs}")
    counts = [-(-length // step) for length, step in zip(shape, chunk, strict=True)]
    if math.prod(counts) > len(names):
        raise ValueError(f"{name} lacks chunks")
    chunks = {f"{name}/c/{'/'.join(map(str, place))}" for place in np.ndindex(*counts)}
    if not chunks <= names:
        raise ValueError(f"{min(chunks - names)} is missing")
    size = math.prod(chunk) * KINDS[metadata["data_type"]]
    for entry in chunks:
        with archive.open(entry) as member:  # the header of a chunk says how much it unpacks to
            header = member.read(BLOSC_HEADER)
        if len(header) < BLOSC_HEADER or int.from_bytes(header[4:8], "little") != size:
            raise ValueError(f"{entry} does not unpack to {size} bytes")
    return len(chunks) * size, chunks
