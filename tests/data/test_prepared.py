"""The prepared data set: a fixed split, normalised images, and files that are refused once they were altered."""

import logging
from pathlib import Path

import numpy as np
import pytest

from repsearch.data import prepared
from repsearch.errors import UserError
from repsearch.jobs import PrepareJob
from repsearch.stages import dataset


def test_the_split_is_fixed_whole_and_disjoint(tmp_path: Path) -> None:
    for name in ("one", "two"):
        dataset.make(PrepareJob("sklearn:digits", 100, 400), tmp_path, tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    data = prepared.read(tmp_path / "one.npz")
    assert data.images.shape == (400, 1, 28, 28) and data.test_images.shape == (297, 1, 28, 28)
    assert np.array_equal(np.sort(np.concatenate([data.train, data.validation])), np.arange(400))
    assert len(data.validation) == 100
    normal = data.normalised(data.images[data.train])
    assert normal.mean() == pytest.approx(0, abs=1e-4) and normal.std() == pytest.approx(1, abs=1e-4)


def test_the_log_describes_what_was_prepared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    x, y = np.full((8, 9, 9, 3), 100, np.uint8), np.array([5, 6, 5, 6, 5, 6, 5, 9])
    x[::2, 0], x[0, 1, 1] = 255, 0
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    dataset.make(PrepareJob(f"npz:{tmp_path}/mine.npz", 2, 6, 4), tmp_path, tmp_path / "out.npz")
    data, said = prepared.read(tmp_path / "out.npz"), caplog.text
    counts = np.bincount(data.labels[data.train], minlength=3)
    assert "10 images: 4 to learn from, 2 for validation, 4 for the test" in said
    assert f"9 × 9 pixels, colour, values {data.images.min()} to 255" in said
    assert f"mean {data.mean[0]:.4f}, {data.mean[1]:.4f}" in said
    assert "3 classes, images to learn from: " + ", ".join(map("{} {}".format, "569", counts)) in said
    assert ("no image to learn from of 9: " in said) == (counts[2] == 0)


def test_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images: 1501 asked for, but sklearn:digits has 1500"):
        dataset.make(PrepareJob("sklearn:digits", 100, 1501), tmp_path, tmp_path / "x.npz")
    with pytest.raises(UserError, match="leaves none"):
        dataset.make(PrepareJob("sklearn:digits", 1500), tmp_path, tmp_path / "x.npz")
    assert not list(tmp_path.glob("*"))


def test_a_prepared_file_that_was_altered_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "digits.npz"
    dataset.make(PrepareJob("sklearn:digits", 100), tmp_path, out)
    out.write_bytes(out.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"digits\.npz is missing or not what"):
        prepared.read(out)
