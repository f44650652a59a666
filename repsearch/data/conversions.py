"""Images and labels as people have them, made into uint8 images and labels from 0: each conversion is logged.

What could be meant in two ways is refused, with what to do.
"""

import logging
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repsearch.errors import UserError

log = logging.getLogger(__name__)

CHUNK = 1024  # images converted at a time: a float64 copy of all of them may not fit into memory


class Labels(NamedTuple):
    """Labels of the training and the test images, [N], and the names of their classes; None where none were made."""

    train: NDArray[Any]
    test: NDArray[Any]
    classes: list[str] | None


def pixels(x_train: NDArray[Any], x_test: NDArray[Any], source: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images of any shape as uint8: of whole numbers in 0 … 255, of numbers in 0 … 1, or of booleans.

    Raises UserError, naming source and array, for other numbers, and where the two parts differ in their scale; what
    holds no numbers is returned as it is, for `arrays.checked` to refuse.
    """
    named = {"x_train": x_train, "x_test": x_test}
    if not all(x.dtype.kind in "biuf" and x.size for x in named.values()):
        return x_train, x_test
    scales = {name: _scale(x, f"{source}: {name}") for name, x in named.items()}
    if scales["x_train"] != scales["x_test"]:
        ranges = ", ".join(f"{name} is {x.dtype} in {x.min():g} … {x.max():g}" for name, x in named.items())
        raise UserError(f"{source}: {ranges}: give both the same scale, 0 … 1 or 0 … 255")
    made = [x if x.dtype == np.uint8 else _scaled(x, scales[name]) for name, x in named.items()]
    return made[0], made[1]


def _scale(x: NDArray[Any], name: str) -> int:
    """What the values are to be multiplied with: 255 for fractions and booleans, 1 for pixels."""
    if x.dtype == np.uint8:
        return 1
    if x.dtype.kind == "b":
        log.info("%s is bool: stored as 0 and 255", name)
        return 255
    low, high = x.min(), x.max()
    found = f"{name} is {x.dtype} in {low:g} … {high:g}"
    if not (low >= 0 and high <= 255):  # or not a number
        raise UserError(f"{found}: give pixels from 0 to 255, or fractions from 0 to 1 (they are normalised later)")
    if x.dtype.kind == "f" and high <= 1:
        log.info("%s: taken as fractions of 255, rounded", found)
        return 255
    if _whole(x):
        log.info("%s, all whole: stored as uint8", found)
    elif high > 127:
        log.info("%s: taken as pixels from 0 to 255, rounded", found)
    else:
        raise UserError(f"{found}, neither fractions from 0 to 1 nor whole: scale it to 0 … 1 or to 0 … 255")
    return 1


def _whole(x: NDArray[Any]) -> bool:
    parts = (x[start : start + CHUNK] for start in range(0, len(x), CHUNK))
    return x.dtype.kind != "f" or all(bool((part == np.rint(part)).all()) for part in parts)


def _scaled(x: NDArray[Any], scale: int) -> NDArray[np.uint8]:
    made = np.empty(x.shape, np.uint8)
    for start in range(0, len(x), CHUNK):
        made[start : start + CHUNK] = np.rint(x[start : start + CHUNK].astype(np.float64) * scale)
    return made


def numbered(y_train: NDArray[Any], y_test: NDArray[Any], source: str, classes: list[str] | None) -> Labels:
    """Labels as numbers from 0: text, whole floats, booleans and numbers with gaps too, and those of shape [N, 1].

    classes: the names of the classes, in order, if they are given: numbers are then places in them, and text is one of
    them. Raises UserError, naming source and array, for text that is no class, a label that the training images do not
    have, negative numbers, which often stand for no label, and one-hot labels; what is no label is returned as it is,
    for `arrays.checked` to refuse.
    """
    y_train, y_test = (_plain(y, f"{source}: {name}") for name, y in (("y_train", y_train), ("y_test", y_test)))
    if y_train.ndim != 1 or y_test.ndim != 1 or not len(y_train):
        return Labels(y_train, y_test, classes)
    kinds = y_train.dtype.kind + y_test.dtype.kind
    if kinds == "UU":
        names = classes or [str(name) for name in np.unique(y_train)]
        numbers = {name: number for number, name in enumerate(names)}
        if classes is None:
            log.info("%s: labels are text, classes in alphabetical order: %s", source, shown(names))
        made = [_places(y, numbers, f"{source}: {name}") for name, y in (("y_train", y_train), ("y_test", y_test))]
        return Labels(made[0], made[1], names)
    values = np.unique(y_train) if kinds in ("ii", "iu", "ui", "uu", "bb") and classes is None else None
    if values is None or (np.array_equal(values, np.arange(len(values))) and kinds != "bb"):
        return Labels(y_train, y_test, classes)
    if values[0] < 0:
        raise UserError(f"{source}: y_train has the label {values[0]}: leave out images without a label")
    names = [str(value) for value in values]
    log.info("%s: labels are %s, numbered 0 … %d in this order", source, shown(names), len(names) - 1)
    numbers = {value.item(): number for number, value in enumerate(values)}
    made = [_places(y, numbers, f"{source}: {name}") for name, y in (("y_train", y_train), ("y_test", y_test))]
    return Labels(made[0], made[1], names)


def check_one_per_image(shape: tuple[int, ...], name: str) -> None:
    """Raise UserError, naming the array, for the shape of labels that are a row of several per image."""
    if len(shape) == 2 and shape[1] != 1:
        raise UserError(f"{name} must hold one label per image, not {list(shape)}: of one-hot labels, take argmax(1)")


def shown(names: list[str]) -> str:
    """Names on one line; of many, the first ones."""
    few = [name if name.isprintable() and len(name) <= 40 else ascii(name)[:40] for name in names[:20]]
    return ", ".join(few) + (f" … ({len(names)})" if len(names) > 20 else "")


def _plain(y: NDArray[Any], name: str) -> NDArray[Any]:
    """[N] for [N, 1]; integers for floats that are whole; text for bytes."""
    check_one_per_image(y.shape, name)
    if y.ndim == 2:
        log.info("%s is %s, taken as %s", name, list(y.shape), list(y.shape[:1]))
        y = y[:, 0]
    if y.dtype.kind == "f" and y.size and np.isfinite(y).all() and (y == np.rint(y)).all() and abs(y).max() < 2**53:
        log.info("%s is %s, all whole: taken as integers", name, y.dtype)
        y = y.astype(np.int64)
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{name} holds bytes that are not UTF-8 text") from None
    return y


def _places(y: NDArray[Any], numbers: dict[Any, int], name: str) -> NDArray[np.int64]:
    for label in np.unique(y):
        if label.item() not in numbers:
            raise UserError(
                f"{name} has the label {shown([str(label)])}, which is none of {shown([*map(str, numbers)])}"
            )
    return np.array([numbers[label] for label in y.tolist()], np.int64)
