"""Shards of targets: what was written is read, and what is damaged, foreign or missing is refused, naming the file."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from repsearch.errors import UserError
from repsearch.search.recipe import SEARCH_LAYERS
from repsearch.storage import shards, targets
from repsearch.storage.manifest import write_manifest

SHAPES = {"block0": (4, 5, 5), "block1": (4, 2, 2), "block2": (4, 1, 1), "logits": (3,)}
EXPECTED = {"recipe_digest": "abc"}


def shard(start: int, stop: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(start)
    arrays: dict[str, NDArray[Any]] = {"indices": np.arange(start, stop), "labels": np.arange(start, stop) % 3}
    for layer in SEARCH_LAYERS:
        arrays[f"targets/{layer}"] = random.standard_normal((stop - start, *SHAPES[layer])).astype(np.float16)
    return arrays


def write(folder: Path, number: int, start: int, stop: int, recipe: str = "abc") -> Path:
    manifest = folder / f"shard-{number:04d}.json"
    shards.write(*targets.paths(manifest), shard(start, stop), {"recipe_digest": recipe}, {})
    return manifest


@pytest.fixture
def manifests(tmp_path: Path) -> list[Path]:
    return [write(tmp_path, 0, 0, 70), write(tmp_path, 1, 70, 90)]


def test_all_shards_are_read_in_the_order_of_the_images(manifests: list[Path]) -> None:
    view = targets.read_all(list(reversed(manifests)), 90, EXPECTED)
    for layer in SEARCH_LAYERS:
        wanted = np.concatenate([shard(0, 70)[f"targets/{layer}"], shard(70, 90)[f"targets/{layer}"]])
        assert view[layer].dtype == np.float16
        assert np.array_equal(view[layer], wanted)


def test_the_digest_does_not_depend_on_chunks(manifests: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads(manifests[0].read_text())["sha256"]
    monkeypatch.setattr(shards, "CHUNK_IMAGES", 7)
    assert json.loads(write(manifests[0].parent, 0, 0, 70).read_text())["sha256"] == before
    assert json.loads(write(manifests[0].parent, 0, 1, 71).read_text())["sha256"] != before


@pytest.mark.parametrize("at", [0.1, 0.35, 0.6, 0.85])
def test_one_altered_byte_is_refused(manifests: list[Path], at: float) -> None:
    store, _ = targets.paths(manifests[1])
    content = bytearray(store.read_bytes())
    content[int(at * len(content))] ^= 1
    store.write_bytes(content)
    try:
        view = targets.read_all(manifests, 90, EXPECTED)
    except UserError as error:
        assert "shard-0001.zarr.zip" in str(error)
    else:  # a byte that means nothing, such as a zip entry's date
        assert np.array_equal(view["block0"][70:], shard(70, 90)["targets/block0"])


def test_truncated_missing_or_no_zip_at_all_is_refused(manifests: list[Path]) -> None:
    store, _ = targets.paths(manifests[1])
    intact = store.read_bytes()
    for content in (intact[: len(intact) // 2], b"", b"not a zip"):
        store.write_bytes(content)
        with pytest.raises(UserError, match=r"shard-0001\.zarr\.zip is not a readable Zarr store"):
            targets.read_all(manifests, 90, EXPECTED)
    store.unlink()
    with pytest.raises(UserError, match=r"shard-0001\.zarr\.zip is missing"):
        targets.read_all(manifests, 90, EXPECTED)


def test_equal_arrays_are_equal_bytes(manifests: list[Path]) -> None:
    store, manifest = targets.paths(manifests[0])
    before = store.read_bytes(), manifest.read_bytes()
    write(store.parent, 0, 0, 70)
    assert (store.read_bytes(), manifest.read_bytes()) == before


def test_a_missing_chunk_is_not_read_as_zeros(manifests: list[Path]) -> None:
    """Zarr silently reads a missing chunk as the fill value."""
    store, _ = targets.paths(manifests[0])
    with zipfile.ZipFile(store) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    lost = next(name for name in entries if name.startswith("targets/block0/c/"))
    with zipfile.ZipFile(store, "w") as new:
        for name, content in entries.items():
            if name != lost:
                new.writestr(name, content)
    with pytest.raises(UserError, match=r"shard-0000\.zarr\.zip is not .* targets/block0/c/.* is missing"):
        targets.read_all(manifests, 90, EXPECTED)


def test_an_altered_or_damaged_manifest_is_refused(manifests: list[Path]) -> None:
    stated = json.loads(manifests[0].read_text())
    manifests[0].write_text(json.dumps({**stated, "sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"shard-0000\.json was altered: delete it"):
        targets.read_all(manifests, 90, EXPECTED)
    del stated["checksum"]
    write_manifest(manifests[0], stated["key"], [], {**stated, "sha256": "0" * 64})
    with pytest.raises(UserError, match=r"shard-0000\.zarr\.zip is not what its manifest says"):
        targets.read_all(manifests, 90, EXPECTED)
    manifests[0].write_text("{")
    with pytest.raises(UserError, match=r"shard-0000\.json can't be read as JSON"):
        targets.read_all(manifests, 90, EXPECTED)


def test_a_shard_of_another_recipe_is_refused(manifests: list[Path]) -> None:
    write(manifests[0].parent, 1, 70, 90, recipe="other")
    with pytest.raises(UserError, match=r"shard-0001\.zarr\.zip has recipe_digest 'other', not 'abc'"):
        targets.read_all(manifests, 90, EXPECTED)


def test_gaps_and_overlaps_are_refused(manifests: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no shard holds image 70: delete"):
        targets.read_all(manifests[:1], 90, EXPECTED)
    again = write(tmp_path, 2, 80, 90)
    with pytest.raises(UserError, match=r"shard-0001.* and .*shard-0002.* both hold image 80: delete both"):
        targets.read_all([*manifests, again], 90, EXPECTED)
    with pytest.raises(UserError, match="outside 0 … 79"):
        targets.read_all(manifests, 80, EXPECTED)
