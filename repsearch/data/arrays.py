"""Arrays of images and labels, and the npz files that hold them: checked before anything trusts them."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repsearch.errors import UserError, reason
from repsearch.storage.untrusted import check_zip, npy_shape

MOST_CLASSES = 100_000


class Raw(NamedTuple):
    """uint8 images [N, C, H, W] in 0 … 255, int64 labels [N] in 0 … classes-1, and the names of the classes."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: list[str]


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


def class_names(source: str, names: NDArray[Any]) -> list[str]:
    """Raises UserError, naming the source, for an array that is not a list of text."""
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
