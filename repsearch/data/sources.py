"""Where a data set's images come from: the four kinds of source, and the checks that their arrays pass.

`torchvision:NAME` is downloaded, `npz:PATH` is a file, `sklearn:digits` comes with scikit-learn, and `module:function`
is code of the user's own (`repsearch.extensions`).
"""

import logging
import time
from functools import cache
from pathlib import Path

import numpy as np

from repsearch import extensions
from repsearch.data.arrays import Raw, check_members, checked, class_names, open_npz
from repsearch.errors import UserError, reason
from repsearch.storage.untrusted import npy_shape

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
ATTEMPTS = 3
ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # of an npz file; a function returns them in this order


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
        classes = class_names(str(path), arrays["classes"]) if optional else None
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
    classes = class_names(reference, names[0]) if names else None
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
