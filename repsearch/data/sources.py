"""Where a data set's images come from: the five kinds of source, and the checks that their arrays pass.

`torchvision:NAME` is downloaded, `npz:PATH` is a file, `folder:PATH` a folder of images, `sklearn:digits` comes with
scikit-learn, and `module:function` is code of the user's own (`repsearch.extensions`).
"""

import logging
import os
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from repsearch import extensions
from repsearch.data import conversions, folders
from repsearch.data.arrays import Raw, check_members, checked, class_names, open_npz
from repsearch.errors import UserError, reason
from repsearch.storage.untrusted import npy_shape

log = logging.getLogger(__name__)


class Size(NamedTuple):
    """How many training images a source has, those that will be held out included, test images and classes.

    classes: None where only the labels would tell.
    """

    train: int
    test: int
    classes: int | None


TORCHVISION = {
    "MNIST": Size(60_000, 10_000, 10),
    "FashionMNIST": Size(60_000, 10_000, 10),
    "KMNIST": Size(60_000, 10_000, 10),
    "SVHN": Size(73_257, 26_032, 10),
    "CIFAR10": Size(50_000, 10_000, 10),
    "CIFAR100": Size(50_000, 10_000, 100),
}
DOWNLOADS = {  # name: the files to supply where there is no network, below the data folder
    "MNIST": "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
    "FashionMNIST": "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
    "KMNIST": "KMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
    "SVHN": "{train,test}_32x32.mat",
    "CIFAR10": "cifar-10-python.tar.gz",
    "CIFAR100": "cifar-100-python.tar.gz",
}
KINDS = ("torchvision", "npz", "folder", "sklearn")  # reserved: no module of the user's own can have these names
DIGITS = Size(1500, 297, 10)  # of scikit-learn, no official split: the last ones, by other writers, are the test set
ATTEMPTS = 3
ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # of an npz file; a function returns them in this order


def is_code(source: str) -> bool:
    """Whether a source is the user's own code, `module:function`. Looks at the text alone; nothing is imported."""
    return source.partition(":")[0] not in KINDS and extensions.is_reference(source)


def size(source: str) -> Size:
    """How many images and classes a source has.

    Nothing is downloaded or imported; of an npz file headers are read, of a folder the names of its files. Raises
    UserError for an unknown source, an unreadable file, and code, which only `load` runs.
    """
    kind, name = _parts(source)
    if kind == "code":
        raise UserError("images: must be given for a source that is code")
    if kind == "npz":
        return _npz_size(Path(name))
    if kind == "folder":
        classes, train, test = folders.find(Path(name))
        return Size(len(train.files), len(test.files), len(classes))
    return DIGITS if kind == "sklearn" else TORCHVISION[name]


def is_there(source: str) -> bool:
    """Whether `size` has what it needs: not of code, nor of a file or folder that is yet to be made.

    Raises UserError for an unknown source.
    """
    kind, name = _parts(source)
    return kind in ("torchvision", "sklearn") or (kind != "code" and os.path.exists(name))


def known_size(source: str) -> Size | None:
    """What `size` returns, as far as the source's name tells it: None for the user's files and for code.

    Raises UserError for an unknown source.
    """
    return size(source) if _parts(source)[0] in ("torchvision", "sklearn") else None


def _parts(source: str) -> tuple[str, str]:
    """Kind (one of `KINDS`, or `code`) and name of a source. Raises UserError for an unknown source."""
    kind, _, name = source.partition(":")
    if (
        source == "sklearn:digits"
        or (kind == "torchvision" and name in TORCHVISION)
        or (kind in ("npz", "folder") and name)
    ):
        return kind, name
    if is_code(source):
        return "code", source
    raise UserError(
        f"unknown source {source!r}: use torchvision:{'|'.join(TORCHVISION)}, npz:PATH, folder:PATH, sklearn:digits "
        "or module:function"
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
    if kind == "folder":
        return folders.load(Path(name))
    return _code(source) if kind == "code" else _digits()


def _torchvision(name: str, folder: Path) -> Raw:
    import torchvision

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data: {folder} can't be a folder for downloads ({error.strerror})") from None
    dataset = getattr(torchvision.datasets, name)
    svhn = name == "SVHN"  # calls things by other names
    parts: list[Any] = [{"split": "train"}, {"split": "test"}] if svhn else [{"train": True}, {"train": False}]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            train, test = (dataset(folder, **part, download=True) for part in parts)
            break
        except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision: RuntimeError on a bad checksum
            why = reason(error)
            if attempt == ATTEMPTS:
                raise UserError(
                    f"torchvision:{name} can't be downloaded ({why}): check the network, or put "
                    f"{DOWNLOADS[name]} into {Path(folder).resolve()}; npz files will do too (docs/data.md)"
                ) from None
            log.warning("download of %s failed (%s), trying again", name, why)
            time.sleep(2**attempt)
    labels = [part.labels if svhn else part.targets for part in (train, test)]
    return checked(
        np.asarray(train.data), np.asarray(labels[0]), np.asarray(test.data), np.asarray(labels[1]),
        f"torchvision:{name}", [str(digit) for digit in range(10)] if svhn else list(train.classes),
    )  # fmt: skip


def _npz(path: Path) -> Raw:
    with open_npz(path) as archive, np.load(path, allow_pickle=False) as arrays:
        optional = [name for name in ("classes",) if name in arrays.files]
        check_members(path, archive, [*ARRAYS, *optional])
        x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
        classes = class_names(str(path), arrays["classes"]) if optional else None
    return _converted(x_train, y_train, x_test, y_test, str(path), classes)


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
    classes = class_names(reference, names[0]) if names else None
    return _converted(x_train, y_train, x_test, y_test, reference, classes)


def _converted(x_train: Any, y_train: Any, x_test: Any, y_test: Any, source: str, classes: list[str] | None) -> Raw:
    """Arrays of the user's own, converted where what they mean is clear, and checked."""
    x_train, x_test = conversions.pixels(x_train, x_test, source)
    labels = conversions.numbered(y_train, y_test, source, classes)
    return checked(x_train, labels.train, x_test, labels.test, source, labels.classes)


def _digits() -> Raw:
    """1797 handwritten digits, 8 × 8 pixels in 17 grey levels, enlarged to 28 × 28 by bilinear interpolation."""
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, (28, 28), mode="bilinear").round().clamp(0, 255).byte().numpy()
    y, cut = bunch.target, DIGITS.train
    return checked(
        large[:cut], y[:cut], large[cut:], y[cut:], "sklearn:digits", [str(name) for name in bunch.target_names]
    )


@cache
def _npz_size(path: Path) -> Size:
    """From the headers of the arrays alone: planning must be quick."""
    with open_npz(path) as archive:
        check_members(path, archive, ARRAYS)
        shapes = {name: npy_shape(archive, name) for name in ARRAYS}
        _check_shapes(shapes["x_train"], shapes["x_test"], str(path))
    for part in ("train", "test"):
        images, labels = shapes[f"x_{part}"], shapes[f"y_{part}"]
        conversions.check_one_per_image(labels, f"{path}: y_{part}")
        if labels[:1] != images[:1]:
            raise UserError(
                f"{path}: y_{part} must hold a label for each of the {images[0]} images of x_{part}, not {list(labels)}"
            )
    return Size(shapes["y_train"][0], shapes["y_test"][0], None)


def _check_shapes(x_train: tuple[int, ...], x_test: tuple[int, ...], source: str) -> None:
    """Raise the UserError that `checked` raises for images of these shapes, asked of one black image of each part."""
    black = [np.zeros((1, *shape[1:]) if len(shape) in (3, 4) else shape, np.uint8) for shape in (x_train, x_test)]
    label = np.zeros(1, np.int64)
    checked(black[0], label, black[1], label, source, ["any", "other"])
