"""The gallery shows what the search has found by then, and what the targets are in the end."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from repsearch.data import prepared as datasets
from repsearch.errors import UserError
from repsearch.jobs import GalleryJob
from repsearch.search.evolution import search
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS, Layer
from repsearch.stages import gallery
from repsearch.storage import targets
from repsearch.storage.files import digest
from tests import small
from tests.stages.made import CPU, RECIPE


@pytest.fixture(scope="module")
def shown(made: Path) -> pd.DataFrame:
    statistics = made / f"{digest(RECIPE.to_dict())}.npz"
    out = made / "gallery.csv"
    gallery.make(GalleryJob(RECIPE, 3), made / "d.npz", made / "n.pt", statistics, out, CPU)
    stamp = out.stat().st_mtime_ns
    gallery.make(GalleryJob(RECIPE, 3), made / "d.npz", made / "n.pt", statistics, out, CPU)
    assert out.stat().st_mtime_ns == stamp  # it was up to date
    return pd.read_csv(out)


def test_the_images_are_held_out_and_of_different_classes(made: Path, shown: pd.DataFrame) -> None:
    data = datasets.read(made / "d.npz")
    images = shown["image"].unique()
    assert len(images) == 3 and set(images) <= set(data.validation)
    classes = shown.groupby("image")["true_class"].unique()
    assert [[data.manifest["classes"][data.labels[image]]] for image in images] == [
        [str(name) for name in classes[image]] for image in images
    ]
    assert len({data.labels[image] for image in images}) == 3
    pixels = shown[(shown["kind"] == "pixel") & (shown["image"] == images[0])]["value"].to_numpy()
    assert np.array_equal(pixels, data.images[images[0]].ravel())


def test_the_last_maps_logits_and_losses_are_those_of_the_targets(made: Path, shown: pd.DataFrame) -> None:
    stored, _ = targets.read(*targets.paths(made / "whole.json"))
    for image, rows in shown.groupby("image"):
        for block in BLOCKS:
            maps = rows[(rows["kind"] == "map") & (rows["block"] == block) & (rows["generation"] == 2)]
            assert maps["channel"].nunique() == gallery.CHANNELS
            places = tuple(maps[axis].astype(int) for axis in ("channel", "y", "x"))
            target = stored[f"targets/{block}"][image].astype(float)
            assert maps["value"].to_numpy() == pytest.approx(target[places], abs=5e-3), block
        logits = rows.loc[rows["kind"] == "logit", "value"].to_numpy()
        assert logits == pytest.approx(stored["targets/logits"][image].astype(float), abs=5e-3)
        for layer in SEARCH_LAYERS:
            losses = rows.loc[(rows["kind"] == "loss") & (rows["block"] == layer), "value"]
            assert losses.to_numpy() == pytest.approx(stored[f"history/{layer}"][image], rel=1e-5)


def test_what_is_shown_of_a_map_is_a_few_generations_the_first_and_the_last_included() -> None:
    recipe = replace(RECIPE, layers=tuple(Layer(count, 0.3, 2.0, 1) for count in (300, 60, 1, 0)))
    assert [gallery.shown_generations(recipe, layer) for layer in range(3)] == [
        [0, 15, 60, 150, 300],
        [0, 3, 12, 30, 60],
        [0, 1],
    ]


@pytest.mark.parametrize("path", ["dense", "fused"])
@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen", "frozen-unsmoothed"])
def test_a_search_that_ends_early_is_the_first_part_of_the_whole(batch_norm: str, path: str) -> None:
    recipe, net = small.recipe(batch_norm=batch_norm), small.search_network()
    given = small.statistics(net, recipe)
    images, labels, indices = small.images(3), small.labels(3), torch.arange(3)
    whole = search(net, images, labels, recipe, indices, given, path)  # type: ignore[arg-type]
    for layer, name in enumerate(SEARCH_LAYERS):
        last = recipe.layers[layer].generations
        for generation in range(last + 1):
            part, taken = gallery.up_to(recipe, given, layer, generation)
            early = search(net, images, labels, part, indices, taken, path)  # type: ignore[arg-type]
            assert torch.equal(early.history[name], whole.history[name][:, : generation + 1]), (name, generation)
        assert torch.equal(early.targets[name], whole.targets[name])


def test_more_images_than_classes_are_refused(made: Path, tmp_path: Path) -> None:
    statistics = made / f"{digest(RECIPE.to_dict())}.npz"
    with pytest.raises(
        UserError, match=re.compile(r"gallery\.images: 11 asked for, but the held-out images are of \d")
    ):
        gallery.make(GalleryJob(RECIPE, 11), made / "d.npz", made / "n.pt", statistics, tmp_path / "g.csv", CPU)
    assert not (tmp_path / "g.csv").exists()
