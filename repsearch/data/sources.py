"""Where a data set's images come from: the four kinds of source, and the checks that their arrays pass.

`torchvision:NAME` is downloaded, `npz:PATH` is a file, `sklearn:digits` comes with scikit-learn, and `module:function`
is code of the user's own (`repsearch.extensions`).
"""

import logging
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repsearch import extensions
from repsearch.errors import UserError, reason
from repsearch.storage.untrusted import check_zip, npy_shape

log = logging.getLogger(__name__)

TORCHVISION = {"MNIST": 60_000, "CIFAR10": 50_000, "CIFAR100": 50_000}  # name: training images
DOWNLOADS = {  # name: the files to supply where there is no network, below the data folder
    "MNIST": "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
    "CIFAR10": "cifar-10-python.tar.gz",
    "CIFAR100": "cifar-100-python.tar.gz",
}
KINDS = ("torchvision", "npz", "sklearn")  # reserved: no module of the user's own can have these names
DIGITS = 1797
DIGITS_TEST = 297  # scikit-learn's digits have no official split: the last ones, by other writers, are the test set
MOST_CLASSES = 100_000
ATTEMPTS = 3
ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # of an npz file; a function returns them in this order


class Raw(NamedTuple):
    """uint8 images [N, C, H, W] in 0 … 255, int64 labels [N] in 0 … classes-1, and the names of the classes."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: list[str]


def is_code(source: str) -> bool:
    """Whether a source is the user's own code, `module:function`. Looks at the text alone; nothing is imported."""
    return source.partition(":")[0] not in KINDS and extensions.is_reference(source)


def training_images(source: str) -> int:
    """How many training images a source has, including those that will be held out for validation.

    Nothing is downloaded or imported; of an npz file one header is read. Raises UserError for an unknown source, an
    unreadable file, and code, which only `load` runs.
    """
    if is_code(source):
        raise UserError("images: must be given for a source that is code")
    count = known_training_images(source)
    return _npz_length(Path(source.removeprefix("npz:"))) if count is None else count


def known_training_images(source: str) -> int | None:
    """What `training_images` returns, as far as the source's name tells it: None for an npz file and for code.

    Raises UserError for an unknown source.
    """
    kind, name = _parts(source)
    if kind == "torchvision":
        return TORCHVISION[name]
    return DIGITS - DIGITS_TEST if kind == "sklearn" else None


def _parts(source: str) -> tuple[str, str]:
    """Kind (one of `KINDS`, or `code`) and name of a source. Raises UserError for an unknown source."""
    kind, _, name = source.partition(":")
    if source == "sklearn:digits" or (kind == "torchvision" and name in TORCHVISION) or (kind == "npz" and name):
        return kind, name
    if is_code(source):
        return "code", source
    raise UserError(
        f"unknown source {source!r}: use torchvision:{'|'.join(TORCHVISION)}, npz:PATH, sklearn:digits or "
        "module:function"
    )


def load(source: str, folder: Path) -> Raw:
    """The images and labels of a source, checked. folder: where downloads go. Runs the user's code for a code source.

    Raises UserError, naming the source, where it is unknown, can't be read or fails `checked`.
    """
    kind, name = _parts(source)
    if kind == "torchvision":
        return _torchvision(name, folder)
    if kind == "npz":
        return _npz(Path(name))
    return _code(source) if kind == "code" else _digits()


def _torchvision(name: str, folder: Path) -> Raw:
    import torchvision

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data: {folder} can't be a folder for downloads ({error.strerror})") from None
    dataset = getattr(torchvision.datasets, name)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            train, test = (dataset(folder, train=part, download=True) for part in (True, False))
            break
        except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision: RuntimeError on a bad checksum
            why = reason(error)
            if attempt == ATTEMPTS:
                raise UserError(
                    f"torchvision:{name} can't be downloaded ({why}): check the network, or put "
                    f"{DOWNLOADS[name]} into {Path(folder).resolve()}"
                ) from None
            log.warning("download of %s failed (%s), trying again", name, why)
            time.sleep(2**attempt)
    return checked(
        np.asarray(train.data), np.asarray(train.targets), np.asarray(test.data), np.asarray(test.targets),
        f"torchvision:{name}", list(train.classes),
    )  # fmt: skip


def _npz(path: Path) -> Raw:
    with open_npz(path) as archive, np.load(path, allow_pickle=False) as arrays:
        optional = [name for name in ("classes",) if name in arrays.files]
        check_members(path, archive, [*ARRAYS, *optional])
        x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
        classes = _class_names(str(path), arrays["classes"]) if optional else None
    return checked(x_train, y_train, x_test, y_test, str(path), classes)


def _code(reference: str) -> Raw:
    """What the user's function returns, checked as an npz file is. Raises UserError for any error in it."""
    function = extensions.load(reference)
    try:
        arrays = [np.asarray(array) for array in function()]
    except Exception as error:  # the user's code can raise anything
        raise UserError(f"{reference} failed with {type(error).__name__}: {reason(error)}") from error
    if len(arrays) not in (4, 5):
        raise UserError(f"{reference} must return {', '.join(ARRAYS)} and perhaps classes, not {len(arrays)} items")
    x_train, y_train, x_test, y_test, *names = arrays
    classes = _class_names(reference, names[0]) if names else None
    return checked(x_train, y_train, x_test, y_test, reference, classes)


def _digits() -> Raw:
    """1797 handwritten digits, 8 × 8 pixels in 17 grey levels, enlarged to 28 × 28 by bilinear interpolation."""
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, (28, 28), mode="bilinear").round().clamp(0, 255).byte().numpy()
    y = bunch.target
    cut = len(y) - DIGITS_TEST
    return checked(
        large[:cut], y[:cut], large[cut:], y[cut:], "sklearn:digits", [str(name) for name in bunch.target_names]
    )


@cache
def _npz_length(path: Path) -> int:
    """The number of labels in y_train, from its header alone: planning must be quick."""
    with open_npz(path) as archive:
        check_members(path, archive, ARRAYS)
        shape = npy_shape(archive, "y_train")
    if len(shape) != 1 or not shape[0]:
        raise UserError(f"{path}: y_train must hold a label for each training image, not {list(shape)}")
    return int(shape[0])


@contextmanager
def open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip archive of an npz file. Any error while it is being read becomes a UserError that names the file."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(f"{path} can't be read: it is not a complete npz file, as numpy.savez writes it")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: check the data set's source, npz:PATH") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own for a damaged file
        raise UserError(f"{path} can't be read: {reason(error)}") from None


def check_members(path: Path, archive: zipfile.ZipFile, names: Sequence[str]) -> None:
    """Raise UserError or ValueError where an array of `names` is missing or can't be loaded safely."""
    check_zip(archive)
    missing = [name for name in names if f"{name}.npy" not in archive.namelist()]
    if missing:
        raise UserError(f"{path}: no array {', '.join(missing)} (it needs {', '.join(names)})")
    for name in names:
        npy_shape(archive, name)


def _class_names(source: str, names: NDArray[Any]) -> list[str]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{source}: classes must be a list of names, not {names.dtype} {list(names.shape)}")
    return [str(name) for name in names]


def checked(
    x_train: NDArray[Any],
    y_train: NDArray[Any],
    x_test: NDArray[Any],
    y_test: NDArray[Any],
    source: str,
    classes: list[str] | None,
) -> Raw:
    """Arrays as a `Raw`.

    x_train, x_test: uint8 images, [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3, square and at least 9 × 9
    pixels; y_train, y_test: integer labels, [N], from 0. classes: None names the classes by their numbers.
    Raises UserError, naming source and array, for anything else.
    """
    images = []
    for name, x in (("x_train", x_train), ("x_test", x_test)):
        if x.dtype != np.uint8:
            raise UserError(f"{source}: {name} must be uint8 (0 … 255), not {x.dtype}")
        if x.ndim == 3:
            x = x[:, None]
        elif x.ndim == 4 and x.shape[3] in (1, 3):
            x = x.transpose(0, 3, 1, 2)
        elif not (x.ndim == 4 and x.shape[1] in (1, 3)):
            raise UserError(
                f"{source}: {name} must be [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W], not {list(x.shape)}"
            )
        if x.shape[2] != x.shape[3] or x.shape[2] < 9:
            raise UserError(
                f"{source}: {name} must be square and at least 9 × 9 pixels, not {x.shape[2]} × {x.shape[3]}"
            )
        images.append(np.ascontiguousarray(x))
    if images[0].shape[1:] != images[1].shape[1:]:
        raise UserError(
            f"{source}: x_train is {list(images[0].shape[1:])} per image, x_test {list(images[1].shape[1:])}"
        )
    labels = []
    for name, y, x in (("y_train", y_train, images[0]), ("y_test", y_test, images[1])):
        if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
            raise UserError(f"{source}: {name} must hold {len(x)} integers, not {y.dtype} {list(y.shape)}")
        if not len(y):
            raise UserError(f"{source}: {name} is empty")
        labels.append(y.astype(np.int64))
    count = len(classes) if classes else int(labels[0].max()) + 1
    if count > MOST_CLASSES:
        raise UserError(f"{source}: y_train has the label {count - 1}: number the classes 0, 1, 2 and so on")
    for name, y in zip(("y_train", "y_test"), labels, strict=True):
        outside = y[(y < 0) | (y >= count)]
        if len(outside):
            raise UserError(f"{source}: {name} has the label {outside[0]}, outside 0 … {count - 1}")
    if count < 2:
        raise UserError(f"{source}: there must be at least two classes")
    return Raw(images[0], labels[0], images[1], labels[1], classes or [str(i) for i in range(count)])
