"""xarray opens a shard: every dimension has a name, and one name is one size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from zarr.storage import ZipStore

from repsearch.storage import shards, targets
from tests.stages.made import RECIPE, search_shard

BLOCKS = {f"block{number}": ["channel", f"block{number}_row", f"block{number}_column"] for number in range(3)}
TARGETS = {**BLOCKS, "logits": ["class"]}


@pytest.mark.parametrize("runs", [1, 2])
def test_xarray_reads_a_shard_as_zarr_does(made: Path, runs: int) -> None:
    manifest = search_shard(made, 0, 5, f"named{runs}", replace(RECIPE, runs=runs))
    arrays, attributes = targets.read(*targets.paths(manifest))
    start = ["image"] if runs == 1 else ["image", "run"]
    with ZipStore(targets.paths(manifest)[0], mode="r") as store:
        tree = xarray.open_datatree(store, engine="zarr", consolidated=False)
        for name, values in arrays.items():
            assert np.array_equal(tree[name].values, values) and tree[name].dtype == values.dtype, name
        dimensions = {name: list(tree[name].dims) for name in arrays}
    assert tree.attrs == attributes
    assert {f"targets/{layer}": [*start, *names] for layer, names in TARGETS.items()}.items() <= dimensions.items()
    assert {f"history/{layer}": [*start, f"{layer}_generation"] for layer in TARGETS}.items() <= dimensions.items()
    assert dimensions["indices"] == dimensions["labels"] == dimensions["initial_cross_entropy"] == ["image"]
    assert dimensions["final_cross_entropy"] == start


def test_a_shard_from_before_dimensions_had_names_is_read(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = targets.read(*targets.paths(search_shard(made, 0, 5, "with-names")))
    monkeypatch.setattr(shards, "_dimensions", lambda name, count: None)
    bare = targets.read(*targets.paths(search_shard(made, 0, 5, "without-names")))
    assert b'"dimension_names"' not in (made / "without-names.zarr.zip").read_bytes()
    assert b'"dimension_names"' in (made / "with-names.zarr.zip").read_bytes()
    assert bare[1] == named[1] and all(np.array_equal(bare[0][name], named[0][name]) for name in named[0])
