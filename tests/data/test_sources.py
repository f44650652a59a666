"""Sources of images: every layout is read alike, and an unusable array or unknown source is refused by name."""

import inspect
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision

from repsearch.data import sources
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
    raw = sources.load(npz(tmp_path, **stored), tmp_path)
    assert np.array_equal(raw.x_train, expected["x_train"]) and np.array_equal(raw.x_test, expected["x_test"])
    assert raw.classes == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "no array y_test"),
        ({"x_train": np.zeros((30, 12, 12), complex)}, "x_train must be uint8"),
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
def test_unusable_arrays_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sources.load(npz(tmp_path, **changes), tmp_path)
    assert "data.npz" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"x_train": np.zeros((30, 12, 13), np.uint8)},
        {"x_train": np.zeros((30, 8, 8), np.uint8)},
        {"x_train": np.zeros((30, 144), np.uint8)},
        {"x_test": np.zeros((6, 14, 14, 3), np.uint8)},
        {"x_test": np.zeros((6, 12, 12), np.uint8)},
    ],
)
def test_a_wrong_shape_is_refused_at_planning_as_in_the_job(tmp_path: Path, changes: dict[str, Any]) -> None:
    source, said = npz(tmp_path, **changes), []
    for read in (sources.size, lambda source: sources.load(source, tmp_path)):
        with pytest.raises(UserError) as caught:
            read(source)
        said.append(str(caught.value))
    assert said[0] == said[1] and said[0].startswith(f"{tmp_path / 'data.npz'}: x_")


def test_one_hot_labels_are_refused_at_planning_as_in_the_job(tmp_path: Path) -> None:
    source = npz(tmp_path, y_test=np.eye(6))
    for read in (sources.size, lambda source: sources.load(source, tmp_path)):
        with pytest.raises(UserError, match=r"data\.npz: y_test must hold one label per image, not \[6, 6\]: .*argmax"):
            read(source)


def test_what_the_job_converts_is_planned(tmp_path: Path) -> None:
    """Fractions, [N, 1] labels of text, and grey images whose parts are laid out in two ways."""
    made = arrays()
    changes = {"x_train": made["x_train"][..., 0] / 255, "x_test": made["x_test"][:, None, :, :, 0] / 255}
    changes |= {name: made[name][:, None].astype(str) for name in ("y_train", "y_test")}
    source = npz(tmp_path, **changes)
    assert sources.size(source) == (30, 6, None) and sources.load(source, tmp_path).x_test.shape == (6, 1, 12, 12)


def test_a_truncated_or_missing_file_is_refused(tmp_path: Path) -> None:
    source = npz(tmp_path)
    path = tmp_path / "data.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"data\.npz can't be read"):
        sources.load(source, tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"data\.npz does not exist"):
        sources.load(source, tmp_path)


@pytest.mark.parametrize("name", sources.TORCHVISION)
def test_every_set_of_torchvisions_is_asked_for_as_it_wants(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments are those of the real class; SVHN has another one, other names, and channels first."""
    signature, made = inspect.signature(getattr(torchvision.datasets, name)), arrays()
    grey, svhn = name.endswith("MNIST"), name == "SVHN"

    def dataset(*words: Any, **options: Any) -> SimpleNamespace:
        asked = signature.bind(*words, **options).arguments
        assert asked["download"] is True and asked["root"] == tmp_path
        part = asked["split"] if svhn else {True: "train", False: "test"}[asked["train"]]
        x, y = made[f"x_{part}"], made[f"y_{part}"]
        if svhn:
            return SimpleNamespace(data=x.transpose(0, 3, 1, 2), labels=y)
        return SimpleNamespace(data=x[..., 0] if grey else x, targets=y.tolist(), classes=["a", "b", "c"])

    monkeypatch.setattr(torchvision.datasets, name, dataset)
    raw = sources.load(f"torchvision:{name}", tmp_path)
    expected = made["x_train"].transpose(0, 3, 1, 2)[:, : 1 if grey else 3]
    assert np.array_equal(raw.x_train, expected) and raw.y_test.tolist() == [0, 1, 2, 0, 1, 2]
    assert raw.classes == ([str(digit) for digit in range(10)] if svhn else ["a", "b", "c"])
    assert sources.known_size(f"torchvision:{name}") == sources.TORCHVISION[name]


def test_a_failed_download_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def refuse(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)
    monkeypatch.setattr(sources.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match=r"check the network, or put MNIST/raw/.*ubyte\.gz into"):
        sources.load("torchvision:MNIST", tmp_path)
    assert len(tries) == sources.ATTEMPTS


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Error downloading train-images:\nTried https://a, got:\nno route\n")

    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)
    monkeypatch.setattr(sources.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match="Tried https://a, got: no route") as caught:
        sources.load("torchvision:MNIST", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_data_folder_that_is_a_file_is_no_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.time, "sleep", lambda _: pytest.fail("tried again"))
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=r"data: .* can't be a folder for downloads"):
        sources.load("torchvision:MNIST", tmp_path / "data")


@pytest.mark.skipif("REPSEARCH_MNIST_ROOT" not in os.environ, reason="REPSEARCH_MNIST_ROOT names no folder with MNIST")
def test_real_mnist_is_read_without_a_download() -> None:
    raw = sources.load("torchvision:MNIST", Path(os.environ["REPSEARCH_MNIST_ROOT"]))
    assert raw.x_train.shape == (60_000, 1, 28, 28) and raw.x_test.shape == (10_000, 1, 28, 28)
    assert np.bincount(raw.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    "source", ["torchvision:ImageNet", "sklearn:iris", "npz:", "", "digits", "my:1", "my/file.py:f"]
)
def test_an_unknown_source_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown source"):
        sources.load(source, tmp_path)
    with pytest.raises(UserError, match="unknown source"):
        sources.size(source)


def test_the_stated_numbers_of_images_are_right(tmp_path: Path) -> None:
    raw = sources.load("sklearn:digits", tmp_path)
    assert sources.size("sklearn:digits") == (len(raw.x_train), len(raw.x_test), len(raw.classes))
    assert sources.size(npz(tmp_path)) == (30, 6, None)


def test_planning_reads_headers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = npz(tmp_path)
    monkeypatch.setattr(sources.np, "load", lambda *_, **__: pytest.fail("the arrays were read"))
    assert sources.size(source) == (30, 6, None)
    (tmp_path / "data.npz").unlink()
    assert sources.size(source) == (30, 6, None)  # from a cache


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"x,y\n1,2\n", "not a complete npz file"), (b"", "not a complete npz file"), (None, "no array x_tr")],
)
def test_what_is_no_npz_file_is_one_line_at_planning(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, other=[1]) if content is None else path.write_bytes(content)
    for read in (sources.size, lambda source: sources.load(source, tmp_path)):
        with pytest.raises(UserError, match=message) as caught:
            read(f"npz:{path}")
        assert "pickle" not in str(caught.value) and "\n" not in str(caught.value)


CODE = """
import numpy as np

def images():
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (36, 12, 12, 3), dtype=np.uint8)
    return x[:30], np.arange(30) % 3, x[30:], np.arange(6) % 3

def named():
    return *images(), ["cat", "dog", "emu"]

def misnamed():
    return *images(), [1, 2, 3]

def floats():
    x_train, *others = images()
    return x_train / 255, *others

def ragged():
    return [[1], [1, 2]], 1, 2, 3

def three():
    return images()[:3]

def nothing():
    pass

def broken():
    return images()[7]

answer = 42
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with sources of the user's own, in the folder where the command runs."""
    name = f"sources_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_code_is_a_source_like_an_npz_file(code: str, tmp_path: Path) -> None:
    raw = sources.load(f"{code}:images", tmp_path)
    assert raw.x_train.shape == (30, 3, 12, 12) and raw.x_test.shape == (6, 3, 12, 12)
    assert raw.classes == ["0", "1", "2"] and raw.y_train.tolist() == [0, 1, 2] * 10
    assert sources.load(f"{code}:named", tmp_path).classes == ["cat", "dog", "emu"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("misnamed", "classes must be a list of names, not int64"),
        ("floats", "x_train is float64 in 0 … 1, x_test is uint8 in 0 … 255: give both the same scale"),
        ("ragged", "failed with ValueError: "),
        ("three", "must return x_train, y_train, x_test, y_test and perhaps classes, not 3 items"),
        ("nothing", "failed with TypeError: "),
        ("broken", "failed with IndexError: tuple index out of range"),
        ("answer", "has no function answer"),
        ("absent", "has no function absent"),
    ],
)
def test_code_that_gives_no_data_set_is_refused_in_one_line(
    code: str, tmp_path: Path, function: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sources.load(f"{code}:{function}", tmp_path)
    assert str(caught.value).startswith(f"{code}:{function}") and "\n" not in str(caught.value)


def test_code_is_not_run_at_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unread.py").write_text("raise AssertionError('run')")
    assert sources.is_code("unread:images") and sources.known_size("unread:images") is None
    with pytest.raises(UserError, match=r"^images: must be given for a source that is code$"):
        sources.size("unread:images")


@pytest.mark.parametrize("source", ["npz:data", "torchvision:MNIST", "sklearn:digits", "sklearn:iris", "digits"])
def test_the_names_of_the_other_kinds_are_reserved(source: str) -> None:
    assert not sources.is_code(source)
