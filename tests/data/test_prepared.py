"""Data sets: every layout is read alike, and what can't be used is refused by name."""

import os
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision

from repsearch.data import prepared as datasets
from repsearch.errors import UserError


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    made = {
        "x_train": random.integers(0, 256, (30, 12, 12, 3), dtype=np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": random.integers(0, 256, (6, 12, 12, 3), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    }
    made.update(changes)
    return {name: value for name, value in made.items() if value is not None}


def npz(folder: Path, **changes: Any) -> str:
    np.savez(folder / "data.npz", **arrays(**changes))
    return f"npz:{folder / 'data.npz'}"


@pytest.mark.parametrize("layout", ["last", "first", "grey", "grey-last"])
def test_every_layout_becomes_channels_first(tmp_path: Path, layout: str) -> None:
    made = arrays()
    expected = {name: made[name].transpose(0, 3, 1, 2) for name in ("x_train", "x_test")}
    if layout.startswith("grey"):
        expected = {name: x[:, :1] for name, x in expected.items()}
    stored = {
        "last": {name: made[name] for name in expected},
        "first": expected,
        "grey": {name: x[:, 0] for name, x in expected.items()},
        "grey-last": {name: x[:, 0, :, :, None] for name, x in expected.items()},
    }[layout]
    raw = datasets.load(npz(tmp_path, **stored), tmp_path)
    assert np.array_equal(raw.x_train, expected["x_train"]) and np.array_equal(raw.x_test, expected["x_test"])
    assert raw.classes == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_test": None}, "no array y_test"),
        ({"x_train": np.zeros((30, 12, 12), np.float32)}, "x_train must be uint8"),
        ({"x_train": np.zeros((30, 12, 13), np.uint8)}, "x_train must be square"),
        ({"x_train": np.zeros((30, 8, 8), np.uint8)}, "x_train must be square and at least 9"),
        ({"x_train": np.zeros((30, 144), np.uint8)}, r"x_train must be \[N, H, W\]"),
        ({"x_test": np.zeros((6, 14, 14, 3), np.uint8)}, r"x_train is .*, x_test"),
        ({"y_train": np.arange(29) % 3}, "y_train must hold 30 integers"),
        ({"y_train": np.full(30, 0.5)}, "y_train must hold 30 integers"),
        ({"y_test": np.full(6, 3)}, "y_test has the label 3, outside 0 … 2"),
        ({"y_test": np.full(6, -1)}, "y_test has the label -1, outside"),
        ({"y_train": np.zeros(30, int), "y_test": np.zeros(6, int)}, "at least two classes"),
        ({"y_train": np.array([object()] * 30)}, "y_train holds pickled objects, which are never loaded"),
    ],
)
def test_unusable_arrays_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        datasets.load(npz(tmp_path, **changes), tmp_path)
    assert "data.npz" in str(caught.value)


def test_a_truncated_or_missing_file_is_refused(tmp_path: Path) -> None:
    source = npz(tmp_path)
    path = tmp_path / "data.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"data\.npz can't be read"):
        datasets.load(source, tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"data\.npz does not exist"):
        datasets.load(source, tmp_path)


def test_a_failed_download_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def refuse(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)
    monkeypatch.setattr(datasets.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match=r"check the network, or put MNIST/raw/.*ubyte\.gz into"):
        datasets.load("torchvision:MNIST", tmp_path)
    assert len(tries) == datasets.ATTEMPTS


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Error downloading train-images:\nTried https://a, got:\nno route\n")

    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)
    monkeypatch.setattr(datasets.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match="Tried https://a, got: no route") as caught:
        datasets.load("torchvision:MNIST", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_data_folder_that_is_a_file_is_no_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.time, "sleep", lambda _: pytest.fail("tried again"))
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=r"data: .* can't be a folder for downloads"):
        datasets.load("torchvision:MNIST", tmp_path / "data")


@pytest.mark.skipif("REPSEARCH_MNIST_ROOT" not in os.environ, reason="REPSEARCH_MNIST_ROOT names no folder with MNIST")
def test_real_mnist_is_read_without_a_download() -> None:
    raw = datasets.load("torchvision:MNIST", Path(os.environ["REPSEARCH_MNIST_ROOT"]))
    assert raw.x_train.shape == (60_000, 1, 28, 28) and raw.x_test.shape == (10_000, 1, 28, 28)
    assert np.bincount(raw.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_split_is_fixed_whole_and_disjoint(tmp_path: Path) -> None:
    for name in ("one", "two"):
        datasets.prepare("sklearn:digits", tmp_path, tmp_path / f"{name}.npz", validation_images=100, images=400)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    data = datasets.read(tmp_path / "one.npz")
    assert data.images.shape == (400, 1, 28, 28) and data.test_images.shape == (297, 1, 28, 28)
    assert np.array_equal(np.sort(np.concatenate([data.train, data.validation])), np.arange(400))
    assert len(data.validation) == 100
    normal = data.normalised(data.images[data.train])
    assert normal.mean() == pytest.approx(0, abs=1e-4) and normal.std() == pytest.approx(1, abs=1e-4)


def test_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images: 1501 asked for, but sklearn:digits has 1500"):
        datasets.prepare("sklearn:digits", tmp_path, tmp_path / "x.npz", validation_images=100, images=1501)
    with pytest.raises(UserError, match="leaves none"):
        datasets.prepare("sklearn:digits", tmp_path, tmp_path / "x.npz", validation_images=1500)
    assert not list(tmp_path.glob("*"))


def test_a_prepared_file_that_was_altered_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "digits.npz"
    datasets.prepare("sklearn:digits", tmp_path, out, validation_images=100)
    out.write_bytes(out.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"digits\.npz is missing or not what"):
        datasets.read(out)


@pytest.mark.parametrize("source", ["torchvision:ImageNet", "sklearn:iris", "npz:", "", "digits"])
def test_an_unknown_source_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown source"):
        datasets.load(source, tmp_path)
    with pytest.raises(UserError, match="unknown source"):
        datasets.training_images(source)


def test_the_stated_number_of_training_images_is_right(tmp_path: Path) -> None:
    assert datasets.training_images("sklearn:digits") == len(datasets.load("sklearn:digits", tmp_path).x_train)
    assert datasets.training_images(npz(tmp_path)) == 30


def test_planning_reads_the_header_of_the_labels_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = npz(tmp_path)
    monkeypatch.setattr(datasets.np, "load", lambda *_, **__: pytest.fail("read whole"))
    assert datasets.training_images(source) == 30
    (tmp_path / "data.npz").unlink()
    assert datasets.training_images(source) == 30  # once read, it is kept


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"x,y\n1,2\n", "not a whole npz file"), (b"", "not a whole npz file"), (None, "no array x_tr")],
)
def test_what_is_no_npz_file_is_one_line_at_planning(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, other=[1]) if content is None else path.write_bytes(content)
    for read in (datasets.training_images, lambda source: datasets.load(source, tmp_path)):
        with pytest.raises(UserError, match=said) as caught:
            read(f"npz:{path}")
        assert "pickle" not in str(caught.value) and "\n" not in str(caught.value)
