"""A folder of images: PATH/train/CLASS/*.png or .jpg, PATH/test/CLASS/…, all of one size."""

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repsearch.data.arrays import Raw, checked
from repsearch.errors import UserError, reason
from repsearch.storage.untrusted import check_memory

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST = 1024  # pixels, either side: a file of a few bytes can declare billions


class Images(NamedTuple):
    """The files of one part by class, sorted by name: their order decides the split, and so the digest."""

    files: list[Path]
    labels: list[int]


@cache
def find(folder: Path) -> tuple[list[str], Images, Images]:
    """The names of the classes, and the files of the training and the test part. Opens no file.

    Raises UserError, naming it, for a missing folder and for what is no image, hidden files excepted.
    """
    classes = [path.name for path in _entries(folder / "train")]
    if len(classes) < 2:
        raise UserError(f"{folder / 'train'} must have a folder for each of at least two classes, not {len(classes)}")
    strangers = [path for path in _entries(folder / "test") if path.name not in classes]
    if strangers:
        raise UserError(f"{strangers[0]} is of a class that {folder / 'train'} does not have")
    train, test = (_images(folder / part, classes) for part in ("train", "test"))
    for part, images in (("train", train), ("test", test)):
        if not images.files:
            raise UserError(f"{folder / part} has no images: they are expected in {folder / part / 'CLASS'}")
    return classes, train, test


def _entries(folder: Path) -> list[Path]:
    hint = "images are expected in PATH/train/CLASS and PATH/test/CLASS"
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except NotADirectoryError:
        raise UserError(f"{folder} is not a folder: {hint}") from None
    except OSError as error:
        raise UserError(f"{folder} can't be read ({error.strerror}): {hint}") from None


def _images(folder: Path, classes: list[str]) -> Images:
    files, labels = [], []
    for path in _entries(folder):
        for file in _entries(path):
            if file.suffix.lower() not in SUFFIXES or file.is_dir():
                raise UserError(f"{file} is not an image ({', '.join(SUFFIXES)}): move it elsewhere")
            files.append(file)
            labels.append(classes.index(path.name))
    return Images(files, labels)


def look(folder: Path) -> tuple[int, int, int]:
    """Channels and side of the first image, and the number of classes."""
    classes, train, _ = find(folder)
    image = _read(train.files[0], None, 1)
    return 3 if image.ndim == 3 else 1, max(image.shape[:2]), len(classes)


def load(folder: Path) -> Raw:
    """The images, checked. Raises UserError, naming the first file that can't be read or differs in size."""
    classes, *parts = find(folder)
    size: tuple[int, int] | None = None
    read: list[list[NDArray[np.uint8]]] = []
    for part in parts:
        read.append([])
        for file in part.files:
            image = _read(file, size, sum(len(images.files) for images in parts))
            size = image.shape[:2]
            read[-1].append(image)
    grey = [image.ndim == 2 for images in read for image in images]
    if any(grey) and not all(grey):
        log.info("%s: %d of %d images are grey: stored in colour, as the others", folder, sum(grey), len(grey))
        read = [[_coloured(image) for image in images] for images in read]
    x_train, x_test = map(np.stack, read)
    y_train, y_test = (np.array(part.labels) for part in parts)
    return checked(x_train, y_train, x_test, y_test, str(folder), classes)


def _coloured(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _read(file: Path, size: tuple[int, int] | None, count: int) -> NDArray[np.uint8]:
    """One image, [H, W] if grey, [H, W, 3] if in colour. size: the others', known to be small; count: of all images."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(file, formats=("PNG", "JPEG")) as opened:
            warnings.simplefilter("ignore")
            width, height = opened.size  # which its header declares: nothing is unpacked yet
            if max(width, height) > LARGEST:
                raise UserError(
                    f"{file} has {width} × {height} pixels, over {LARGEST} × {LARGEST}: make the images smaller"
                )
            check_memory(3 * width * height * count)
            upright = ImageOps.exif_transpose(opened)
            pixels = _pixels(upright, file)
    except UserError:
        raise
    except Exception as error:  # PIL's own, those of its decoders, and of damaged files
        raise UserError(f"{file} can't be read as an image: {reason(error)}") from None
    if size is not None and pixels.shape[:2] != size:
        found, others = (f"{shape[1]} × {shape[0]}" for shape in (pixels.shape, size))
        raise UserError(f"{file} has {found} pixels, those before it {others}: all must have the same size")
    return pixels


def _pixels(image: Any, file: Path) -> NDArray[np.uint8]:
    """An image's pixels, without loss: black-and-white as grey, palettes as colour, opaque alpha left out."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise UserError(f"{file} is transparent in places: put it on a background")
        image = image.convert(image.mode[:-1])
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        raise UserError(f"{file} is of the kind {image.mode}: save it in 8-bit grey or RGB")
    return np.asarray(image, np.uint8)
