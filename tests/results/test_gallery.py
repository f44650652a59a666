"""The gallery's picture: a strip per image, from the CSV alone."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.results import figures
from repsearch.storage.manifest import write_manifest
from tests.results.made_up import figure_job

CHANNELS = {7: [0, 2, 5], 9: [1, 3, 4]}  # of each image


def probe(folder: Path, colours: int = 3, classes: int = 4) -> Path:
    rows = []
    for image, channels in CHANNELS.items():
        facts = {"image": image, "true_class": "cat"}
        for channel, y, x in itertools.product(range(colours), range(4), range(4)):
            rows.append({**facts, "kind": "pixel", "channel": channel, "y": y, "x": x, "value": 16 * y + x})
        for block, generations in {"block0": [0, 3, 6], "block1": [0, 2], "block2": [0]}.items():
            for generation, channel, y, x in itertools.product(generations, channels, range(2), range(2)):
                place = {"generation": generation, "channel": channel, "y": y, "x": x}
                rows.append({**facts, "kind": "map", "block": block, **place, "value": channel + 0.1 * y + 0.01 * x})
        for number in range(classes):
            name = "cat" if number == 1 else f"c{number}"
            rows.append({**facts, "kind": "logit", "block": "logits", "class": name, "value": number})
        for block, last in {"block0": 6, "block1": 2, "block2": 0, "logits": 1}.items():
            for generation in range(last + 1):
                rows.append({**facts, "kind": "loss", "block": block, "generation": generation, "value": 2.0})
    csv = folder / "gallery.csv"
    pd.DataFrame(rows).assign(recipe_digest="1" * 12, code_version="2" * 12).to_csv(csv, index=False)
    write_manifest(csv.with_suffix(".json"), {}, [csv], {})
    return csv


@pytest.mark.parametrize("colours", [1, 3])
def test_a_strip_has_the_image_its_maps_its_logits_and_its_losses(tmp_path: Path, colours: int) -> None:
    figures.make(figure_job("gallery"), [probe(tmp_path, colours)], tmp_path / "figures/gallery.csv")
    assert (tmp_path / "figures/gallery.png").read_bytes().startswith(b"\x89PNG")
    gallery = figures.find("gallery")
    frame = gallery.build(figure_job("gallery"), [probe(tmp_path, colours)])
    axes = gallery.draw(frame).axes
    titles = [ax.get_title() for ax in axes]
    assert titles.count("Class cat") == titles.count("Logits") == titles.count("Cross-entropy (nats)") == len(CHANNELS)
    maps = [ax for ax in axes if ax.images and ax.get_title().isdigit()]
    assert [ax.get_title() for ax in maps[: len(maps) // 2]] == ["0", "3", "6", "0", "2", "0"]
    mosaic = np.asarray(maps[-1].images[0].get_array().filled(-1))  # the second image's: three channels, 2 × 2 places
    assert mosaic[:2, :2].tolist() == [[1.0, 1.01], [1.1, 1.11]] and mosaic[0, 3] == 3.0 and mosaic[3, 0] == 4.0
    losses = next(ax for ax in axes if ax.get_title() == "Cross-entropy (nats)")
    assert [list(line.get_xdata()) for line in losses.lines if line.get_label()[0] != "_"] == [
        [0, 1, 2, 3, 4, 5, 6],
        [6, 7, 8],
        [8],
        [8, 9],
    ]
    logits = next(ax for ax in axes if ax.get_title() == "Logits")
    colours_of_bars = [bar.get_facecolor() for bar in logits.patches]
    assert colours_of_bars[1] != colours_of_bars[0] == colours_of_bars[2] == colours_of_bars[3]
    assert [label.get_text() for label in logits.get_xticklabels()] == ["c0", "cat", "c2", "c3"]


def test_names_of_many_classes_are_left_out(tmp_path: Path) -> None:
    gallery = figures.find("gallery")
    axes = gallery.draw(gallery.build(figure_job("gallery"), [probe(tmp_path, classes=100)])).axes
    logits = next(ax for ax in axes if ax.get_title() == "Logits")
    assert logits.get_xlabel() == "100 classes; orange: cat" and not logits.get_xticklabels()


def test_the_caption_says_what_is_seen(tmp_path: Path) -> None:
    gallery = figures.find("gallery")
    text = gallery.caption(gallery.build(figure_job("gallery"), [probe(tmp_path)]))
    assert text.startswith("**Gallery.** What the search makes of 2 held-out images, each of another class, on Toy")
    assert "3 of the candidate's channels" in text and "Recipe digest: small 111111111111." in text
    with pytest.raises(UserError, match="one probe, not 0"):
        gallery.build(figure_job("gallery"), [])
