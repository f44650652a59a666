"""Each byte of a store and each field of a manifest altered: it is noticed, or has no effect."""

import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repsearch.data import prepared as datasets
from repsearch.errors import UserError
from repsearch.jobs import PrepareJob
from repsearch.stages import dataset as stage_dataset
from repsearch.stages import network as stage_network
from repsearch.storage import networks, targets
from repsearch.storage.manifest import verify
from tests.faults import tally
from tests.faults.made import NETWORK
from tests.faults.test_untrusted_store import arrays, written

pytestmark = pytest.mark.fault
Files = tuple[Path, Path]  # store, manifest


@pytest.fixture
def shard(tmp_path: Path) -> Files:
    written(tmp_path)
    return targets.paths(tmp_path / "whole.json")


def regions(store: Path) -> dict[str, tuple[int, int]]:
    """From and to of the parts of a zip file."""
    with zipfile.ZipFile(store) as archive:
        entries = archive.infolist()
        directory = archive.start_dir
    content = store.read_bytes()
    places = {"the end of the directory": (content.rfind(b"PK\x05\x06"), len(content))}
    places["the directory"] = directory, places["the end of the directory"][0]
    for kind, chosen in (("metadata", "targets/block0/zarr.json"), ("a chunk", "targets/block0/c/0/0/0/0")):
        entry = next(entry for entry in entries if entry.filename == chosen)
        data = entry.header_offset + 30 + len(entry.filename)
        places[f"the header of {kind}"] = entry.header_offset, data
        places[kind] = data, data + entry.file_size
    return places


@pytest.mark.parametrize("step", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_a_byte_of_a_store_altered(step: int, shard: Files) -> None:
    """Every `step`th byte, in every part of the file, altered by one bit."""
    store, manifest = shard
    content, wanted, chance = store.read_bytes(), arrays(), random.Random(0)
    attributes = {"recipe_digest": "abc"}
    refused = 0
    for part, (start, stop) in regions(store).items():
        for at in range(start, stop, step):
            with tally.fault(f"a byte of a store altered: {part}"):
                altered = bytearray(content)
                altered[at] ^= 1 << chance.randrange(8)
                store.write_bytes(altered)
                try:
                    read, stated = targets.read(store, manifest)
                except UserError as error:
                    assert "whole.zarr.zip" in str(error) and "delete it" in str(error) and "\n" not in str(error)
                    refused += 1
                else:  # a byte without effect, such as one of the date of a zip entry
                    assert part not in ("metadata", "a chunk"), at
                    assert stated == attributes and read.keys() == wanted.keys()
                    assert all(np.array_equal(read[name], wanted[name]) for name in wanted)
    assert refused > 10


def altered(value: Any) -> list[Any]:
    """Other values for a field, and copies of its value with something changed."""
    others: list[Any] = [None, "x", 7]
    if isinstance(value, str):
        others.append(value[:-1] + ("0" if value[-1:] != "0" else "1"))
    if isinstance(value, int | float):
        others += [value + 1, str(value)]
    if isinstance(value, list) and value:
        others += [value[:-1], [*value, value[-1]]]
    if isinstance(value, dict) and value:
        name = next(iter(value))
        others += [{**value, name: None}, {key: item for key, item in value.items() if key != name}]
    return others


def test_each_field_of_each_manifest_altered(tmp_path: Path) -> None:
    stage_dataset.make(PrepareJob("sklearn:digits", 10, 40, 20), tmp_path, tmp_path / "digits.npz")
    stage_network.make(replace(NETWORK, width=4), tmp_path / "digits.npz", tmp_path / "network.pt")
    written(tmp_path)
    readers = {
        "digits": lambda: datasets.read(tmp_path / "digits.npz"),
        "network": lambda: networks.read(tmp_path / "network.pt"),
        "whole": lambda: targets.read(*targets.paths(tmp_path / "whole.json")),
    }
    for name, read in readers.items():
        manifest = tmp_path / f"{name}.json"
        text = manifest.read_text()
        stated = json.loads(text)
        for field, value in stated.items():
            others = [{**stated, field: other} for other in altered(value) if other != value]
            for changed in [*others, {key: value for key, value in stated.items() if key != field}]:
                with tally.fault("a field of a manifest altered"):
                    manifest.write_text(json.dumps(changed))
                    with pytest.raises(
                        UserError, match=rf"{name}\.json was altered: delete it and run snakemake"
                    ) as said:
                        read()
                    assert "\n" not in str(said.value)
        manifest.write_text(text)
        read()


def test_a_file_of_a_manifest_altered(tmp_path: Path) -> None:
    stage_dataset.make(PrepareJob("sklearn:digits", 10, 40, 20), tmp_path, tmp_path / "digits.npz")
    path = tmp_path / "digits.npz"
    content = path.read_bytes()
    for other in (content[:-1], b"", content + b"x", content[:100] + bytes([content[100] ^ 1]) + content[101:]):
        with tally.fault("a file that a manifest vouches for altered"):
            path.write_bytes(other)
            with pytest.raises(UserError, match=r"digits\.npz is missing or not what .*digits\.json says: delete both"):
                verify(tmp_path / "digits.json")
