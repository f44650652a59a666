"""Mutated targets, prepared data and networks: read correctly or refused, naming the file; no codec but Blosc runs."""

import io
import json
import pickle
import random
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numcodecs import pickles
from numpy.typing import NDArray

from repsearch.data import prepared as datasets
from repsearch.jobs import PrepareJob
from repsearch.stages import dataset as stage_dataset
from repsearch.stages import network as stage_network
from repsearch.storage import networks, targets
from repsearch.storage import shards as shard_files
from repsearch.storage.files import digest
from repsearch.storage.manifest import write_manifest
from tests.faults.judge import judge, mutated
from tests.faults.made import NETWORK
from tests.faults.test_untrusted_npz import EVIL, Touch, npy, zipped

pytestmark = pytest.mark.fault
QUICK, MANY = 150, pytest.param(2500, marks=pytest.mark.slow)
PICKLE = {
    "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": "", "order": "C", "compressor": None,
    "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}],
}  # fmt: skip
SHARD = "shard-0000"
ODD = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    0.5,
    "",
    "float64",
    "|O",
    "r999999",
    "../x",
    [],
    {},
    [2**40],
    [0],
    [-1],
]
Shard = tuple[bytes, bytes]  # store, manifest


def arrays() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {"indices": np.arange(70), "labels": np.zeros(70, int)}
    for layer, shape in (("block0", (2, 3, 3)), ("logits", (3,))):
        made[f"targets/{layer}"] = random.standard_normal((70, *shape)).astype(np.float16)
    return made


def written(folder: Path) -> Shard:
    store, manifest = targets.paths(folder / "whole.json")
    shard_files.write(store, manifest, arrays(), {"recipe_digest": "abc"}, {"images": [0, 70]})
    return store.read_bytes(), manifest.read_bytes()


def shards(count: int, chance: random.Random, whole: Shard) -> Iterator[Shard]:
    with zipfile.ZipFile(io.BytesIO(whole[0])) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(count):
        store, manifest = whole
        match chance.randrange(6):
            case 0 | 1:
                store = mutated(store, chance)
            case 2 | 3:
                store = zipped(
                    repacked(entries, chance), chance.choice([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED])
                )
            case 4:
                manifest = mutated(manifest, chance)
            case _:
                stated = json.loads(manifest)
                name = chance.choice(list(stated))
                stated[name] = chance.choice([*ODD, stated[name]])
                if chance.random() < 0.5:  # forged
                    del stated["checksum"]
                    stated["checksum"] = digest(stated)
                manifest = json.dumps(stated).encode()
        yield store, manifest


def repacked(entries: list[tuple[str, bytes]], chance: random.Random) -> list[tuple[str, bytes]]:
    """The entries of a store, one of them altered, as intact zip entries."""
    entries = list(entries)
    place = chance.randrange(len(entries))
    name, content = entries[place]
    metadata = [at for at, (each, _) in enumerate(entries) if each.endswith("zarr.json")]
    match chance.randrange(8):
        case 0:
            del entries[place]
        case 1:
            entries.append(
                (
                    chance.choice(["../evil", "/etc/evil", "labels/c/9", "labels/.zarray", "x/zarr.json", name + "/"]),
                    content,
                )
            )
        case 2:
            other = chance.randrange(len(entries))
            entries[place], entries[other] = (name, entries[other][1]), (entries[other][0], content)
        case 3:
            entries[place] = name, mutated(content, chance)
        case 4:  # a group that names an array of Zarr 2 with the pickle codec
            group = json.loads(entries[0][1])
            group["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {"evil": PICKLE}}
            entries[0] = entries[0][0], json.dumps(group).encode()
            entries += [("evil/.zarray", json.dumps(PICKLE).encode()), ("evil/0", pickle.dumps(Touch()))]
        case 5:  # what a chunk says that it unpacks to
            chunk = chance.choice([at for at, (each, _) in enumerate(entries) if "/c/" in each])
            name, content = entries[chunk]
            size = chance.choice([0, 1, 2**31 - 1, 2**32 - 1]).to_bytes(4, "little")
            at = chance.choice([0, 4, 8, 12])
            entries[chunk] = name, content[:at] + size + content[at + 4 :]
        case _:
            at = chance.choice(metadata)
            name, content = entries[at]
            node = json.loads(content)
            odd(node, chance)
            entries[at] = name, json.dumps(node).encode()
    return entries


def odd(node: Any, chance: random.Random) -> None:
    """Replace, delete or repeat something below a node of JSON."""
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key = chance.choice(list(keys))
    if isinstance(node[key], dict | list) and node[key] and chance.random() < 0.7:
        return odd(node[key], chance)
    match chance.randrange(4):
        case 0:
            del node[key]
        case 1 if isinstance(node, list):
            node.append(node[key])
        case 2 if isinstance(node[key], int):
            node[key] = chance.choice([node[key] + 1, node[key] * 10**6, -node[key]])
        case _:
            node[key] = chance.choice(ODD)
    return None


@pytest.mark.parametrize("count", [QUICK, MANY])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_mutated_shards(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpickling is allowed to numcodecs, so that the refusal of the store is tested, not that of numcodecs."""
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    store, manifest = targets.paths(tmp_path / f"{SHARD}.json")

    def work(shard: Shard) -> Any:
        store.write_bytes(shard[0])
        manifest.write_bytes(shard[1])
        return targets.read(store, manifest)

    def right(shard: Shard, read: tuple[dict[str, NDArray[Any]], dict[str, Any]]) -> None:
        stated = json.loads(shard[1])
        assert shard_files.content_digest(read[0]) == stated["sha256"]
        assert read[1] == {name: stated[name] for name in read[1]}
        wanted = arrays()
        assert read[0].keys() == wanted.keys()
        assert all(np.array_equal(read[0][name], wanted[name]) for name in wanted)

    inputs = shards(count, random.Random(count), written(tmp_path))
    accepted, refused = judge(inputs, work, right, rf"{SHARD}\.(json|zarr\.zip)", tmp_path)
    assert accepted > 0 and refused > count / 2


@pytest.mark.parametrize("count", [QUICK // 3, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_mutated_prepared_data(count: int, tmp_path: Path) -> None:
    """With a manifest that agrees with them."""
    out, chance = tmp_path / "data.npz", random.Random(count)
    stage_dataset.make(PrepareJob("sklearn:digits", 10, 40, 20), tmp_path, out)
    manifest = json.loads(out.with_suffix(".json").read_text())
    with np.load(out) as held:
        members_before = [(f"{name}.npy", npy(held[name])) for name in held.files]

    def files() -> Iterator[bytes]:
        for _ in range(count):
            members = list(members_before)
            place = chance.randrange(len(members))
            content = mutated(members[place][1], chance) if chance.random() < 0.5 else npy(chance.choice(EVIL))
            members[place] = chance.choice([members[place][0], "x.npy"]), content
            yield zipped(members) if chance.random() < 0.7 else mutated(zipped(members_before), chance)

    def work(content: bytes) -> datasets.Prepared:
        out.write_bytes(content)
        facts = {name: value for name, value in manifest.items() if name not in ("key", "files", "checksum")}
        write_manifest(out.with_suffix(".json"), {}, [out], facts)
        return datasets.read(out)

    def right(_: bytes, data: datasets.Prepared) -> None:
        assert len(data.normalised(data.images[data.train])) == len(data.labels[data.train])
        assert len(data.test_images) == len(data.test_labels) and data.labels.max() < data.classes

    judge(files(), work, right, r"data\.(npz|json)", tmp_path)


@pytest.mark.parametrize("count", [QUICK // 3, pytest.param(500, marks=pytest.mark.slow)])
def test_mutated_networks(count: int, tmp_path: Path) -> None:
    """With a manifest that agrees with them."""
    out, chance = tmp_path / "net.pt", random.Random(count)
    stage_dataset.make(PrepareJob("sklearn:digits", 10, 40, 20), tmp_path, tmp_path / "d.npz")
    stage_network.make(replace(NETWORK, width=4), tmp_path / "d.npz", out)
    intact = out.read_bytes()
    saved = torch.load(io.BytesIO(intact), weights_only=True)

    def files() -> Iterator[bytes]:
        for _ in range(count):
            if chance.random() < 0.4:
                yield mutated(intact, chance)
                continue
            altered = {name: dict(part) for name, part in saved.items()}
            part = chance.choice(list(altered))
            name = chance.choice(list(altered[part]))
            evil = [Touch(), None, 10**9, -1, 0, 3, "x", torch.zeros(3), torch.zeros(1).expand(10**6, 10**4), [1]]
            altered[part][name] = chance.choice(evil)
            if chance.random() < 0.2:
                del altered[part][name]
            held = io.BytesIO()
            torch.save(chance.choice([altered, altered, altered, [altered], Touch()]), held)
            yield held.getvalue()

    def work(content: bytes) -> Any:
        out.write_bytes(content)
        write_manifest(out.with_suffix(".json"), {}, [out], {"sha256": "abc"})
        return networks.read(out)[0]

    def right(_: bytes, network: Any) -> None:
        images = torch.zeros(2, 1, 28, 28)
        assert network(images).logits.shape == (2, 10)

    judge(files(), work, right, r"net\.(pt|json)", tmp_path)
