"""A folder of images: read in a fixed order and without loss, or refused by the name of the file."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repsearch.data import folders, sources
from repsearch.errors import UserError

RANDOM = np.random.default_rng(0)


def write(file: Path, pixels: np.ndarray, **options: object) -> np.ndarray:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)
    return pixels


def coloured(size: int = 12) -> np.ndarray:
    return RANDOM.integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two classes, of two and one training images, and a test image each."""
    folders.find.cache_clear()
    for name in ("train/dog/b.png", "train/dog/a.PNG", "train/cat/z.png", "test/cat/1.png", "test/dog/2.png"):
        write(tmp_path / name, coloured())
    (tmp_path / "train/.DS_Store").write_text("hidden files are left alone")
    (tmp_path / "test/cat/.hidden").write_text("")
    return tmp_path


def test_images_come_in_the_order_of_their_names(made: Path) -> None:
    raw = sources.load(f"folder:{made}", made)
    expected = [np.asarray(Image.open(made / f"train/{name}")) for name in ("cat/z.png", "dog/a.PNG", "dog/b.png")]
    assert np.array_equal(raw.x_train, np.stack(expected).transpose(0, 3, 1, 2))
    assert raw.classes == ["cat", "dog"] and raw.y_train.tolist() == [0, 1, 1] and raw.y_test.tolist() == [0, 1]


def test_planning_counts_files_and_opens_none(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert sources.size(f"folder:{made}") == (3, 2, 2) and sources.known_size(f"folder:{made}") is None


def test_kinds_of_images_are_read_without_loss(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    colours, grey = coloured(), coloured()[..., 0]
    opaque = np.dstack([colours, np.full((12, 12), 255, np.uint8)])
    write(made / "train/cat/c.png", opaque)
    write(made / "train/cat/d.png", grey)
    write(made / "train/cat/e.png", grey > 127)
    Image.fromarray(grey).convert("P").save(made / "train/cat/f.png")
    Image.fromarray(colours).save(made / "train/cat/g.jpg", quality=100, subsampling=0)
    x = folders.load(made).x_train.transpose(0, 2, 3, 1)
    assert np.array_equal(x[0], colours) and np.array_equal(x[1], np.dstack([grey] * 3))
    assert np.array_equal(x[2], np.dstack([(grey > 127) * np.uint8(255)] * 3)) and np.array_equal(x[3], x[1])
    assert abs(x[4].astype(int) - colours).mean() < 3  # JPEG
    assert "of 10 images are grey: stored in colour" in caplog.text


def test_a_photo_is_turned_upright(made: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    write(made / "train/cat/a.png", pixels := coloured(), exif=exif)
    assert np.array_equal(folders.load(made).x_train[0].transpose(1, 2, 0), pixels[::-1, ::-1])


def bomb(file: Path) -> None:
    """A PNG of a few bytes that declares 60,000 × 60,000 pixels."""
    write(file, coloured())
    content = bytearray(file.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (
            "notes.txt",
            lambda file: file.write_text("a"),
            r"notes\.txt is not an image \(\.png, \.jpg, \.jpeg\)",
        ),
        ("deeper.png", Path.mkdir, r"deeper\.png is not an image"),
        ("w.png", lambda file: write(file, coloured(14)), r"w\.png has 14 × 14 pixels, those before it 12 × 12"),
        ("w.png", lambda file: file.write_text("a"), r"w\.png can't be read as an image: "),
        ("w.png", lambda file: file.write_bytes(b"\x89PNG\r\n\x1a\n"), r"w\.png can't be read as an image: "),
        ("w.png", bomb, r"w\.png (has 60000 × 60000 pixels, over 1024|can't be read as an image)"),
        ("w.png", lambda file: write(file, np.zeros((12, 12), np.uint16)), r"w\.png is of the kind I;16: save it in"),
        ("w.png", lambda file: write(file, np.zeros((12, 12, 4), np.uint8)), r"w\.png is transparent in places"),
        ("w.png", lambda file: file.symlink_to("nowhere"), r"w\.png can't be read as an image: .*No such file"),
        ("w.jpg", lambda file: Image.new("CMYK", (12, 12)).save(file), r"w\.jpg is of the kind CMYK"),
        ("w.png", lambda file: Image.new("RGB", (12, 12)).save(file, "GIF"), r"w\.png can't be read as an image"),
    ],
)
def test_what_is_no_image_of_the_set_is_refused_by_name(made: Path, name: str, make: object, message: str) -> None:
    file = made / "train/dog" / name
    make(file)  # type: ignore[operator]
    with pytest.raises(UserError, match=message) as caught:
        sources.load(f"folder:{made}", made)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train/stray.png", r"train/stray\.png is not a folder: images are expected in PATH/train/CLASS"),
        ("test/emu/1.png", r"test/emu is of a class that .*train does not have"),
    ],
)
def test_a_folder_of_another_layout_is_refused(made: Path, name: str, message: str) -> None:
    write(made / name, coloured())
    with pytest.raises(UserError, match=message):
        sources.size(f"folder:{made}")


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    for part, message in (
        ("a", r"none/train can't be read \(No such file or directory\): images are expected"),
        ("train/a", "at least two classes, not 1"),
        ("train/b", r"test can't be read"),
        ("test/a", "train has no images"),
    ):
        folders.find.cache_clear()
        (tmp_path / part).mkdir(parents=True)
        with pytest.raises(UserError, match=message):
            sources.size(f"folder:{tmp_path / ('none' if part == 'a' else '')}")
