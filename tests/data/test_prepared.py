"""The prepared data set: a fixed split, normalised images, and files that are refused once they were altered."""

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
