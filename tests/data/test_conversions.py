"""Images and labels of every kind: converted as their values say, and logged, or refused with what to do."""

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from repsearch.data.arrays import checked
from repsearch.data.conversions import numbered, pixels
from repsearch.errors import UserError

PIXELS = arrays.arrays(np.uint8, (4, 9, 9))
WHOLE = [np.uint16, np.int16, np.int32, np.int64, np.uint64, np.float16, np.float32, np.float64, ">i4"]
NAMES = st.lists(st.text("abcäöü 0123", min_size=1, max_size=6), min_size=2, max_size=6, unique=True)


@given(PIXELS, st.sampled_from(WHOLE))
def test_whole_numbers_keep_their_values(x: Any, kind: Any) -> None:
    x[0, 0, 0] = 200  # not all of them in 0 … 1
    made, _ = pixels(x.astype(kind), x.astype(kind), "mine")
    assert made.dtype == np.uint8 and np.array_equal(made, x)


@given(PIXELS, st.sampled_from([np.float32, np.float64]))
def test_fractions_are_pixels_again(x: Any, kind: Any) -> None:
    made, test = pixels((x / 255).astype(kind), (x / 255).astype(kind), "mine")
    assert made.dtype == np.uint8 and np.array_equal(made, x) and np.array_equal(test, x)


@given(PIXELS, st.floats(-0.49, 0.49))
def test_pixels_that_are_not_whole_are_rounded(x: Any, part: float) -> None:
    x = np.clip(x, 1, 254)
    x[:, 0, 0] = 200
    assert np.array_equal(pixels(x + part, x + part, "mine")[0], x)


def test_booleans_are_black_and_white() -> None:
    x = np.eye(9, dtype=bool)[None]
    assert np.array_equal(pixels(x, x, "mine")[0], x * np.uint8(255))


BYTES = np.full((2, 9, 9), 200, np.uint8)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (BYTES / 100 - 1.5, r"x_train is float64 in 0.5 … 0.5.*x_test.*give both the same scale"),
        (np.where(BYTES > 0, 2.5, 0), r"x_train is float64 in 2.5 … 2.5, neither fractions from 0 to 1 nor whole"),
        (np.linspace(-1, 1, 162).reshape(2, 9, 9), r"x_train is float64 in -1 … 1: give pixels from 0 to 255, or frac"),
        (BYTES.astype(int) * 300, r"x_train is int64 in 60000 … 60000: give pixels from 0 to 255"),
        (np.full((2, 9, 9), np.nan), r"x_train is float64 in nan … nan: give pixels"),
        (np.full((2, 9, 9), np.inf), r"x_train is float64 in inf … inf: give pixels"),
    ],
)
def test_numbers_that_are_no_pixels_are_refused_with_their_range(x: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^mine: {message}"):
        pixels(x, BYTES, "mine")


def test_uint8_is_left_alone_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert pixels(BYTES, BYTES, "mine")[0] is BYTES
    y = np.arange(4)
    assert numbered(y, y, "mine", None).train is y and not caplog.text


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=6, unique=True), st.data())
def test_any_numbers_are_classes_in_their_order(values: list[int], data: st.DataObject) -> None:
    y = np.array([*values, *data.draw(st.lists(st.sampled_from(values), max_size=9))])
    made = numbered(y, y[::-1], "mine", None)
    classes = made.classes or [str(number) for number in range(len(values))]
    assert [classes[number] for number in made.train] == [str(value) for value in y]
    assert np.array_equal(made.test, made.train[::-1]) and classes == [str(value) for value in sorted(values)]


@given(NAMES, st.booleans(), st.booleans(), st.randoms())
def test_text_is_a_class(names: list[str], ordered: bool, encoded: bool, chance: Any) -> None:
    chance.shuffle(names)
    y: Any = np.array(names * 2)
    stored = np.char.encode(y, "utf-8") if encoded else y
    made = numbered(stored, stored[:1], "mine", names if ordered else None)
    assert made.classes == (names if ordered else sorted(names))
    assert [made.classes[number] for number in made.train] == y.tolist() and len(made.test) == 1


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([5, 9, 7, 5]), ["5", "7", "9"]),
        (np.array([1.0, 2.0, 2.0, 1.0], np.float32), ["1", "2"]),
        (np.array([[1], [2], [2], [1]]), ["1", "2"]),
        (np.array([False, True, True, False]), ["False", "True"]),
        (np.array(["cat", "ant", "cat", "ant"]), ["ant", "cat"]),
        (np.array([b"cat", b"ant", b"cat", b"ant"]), ["ant", "cat"]),
    ],
)
def test_what_was_done_with_labels_is_logged(y: Any, classes: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = numbered(y, y, "mine", None)
    assert made.classes == classes and ", ".join(classes) in caplog.text
    x = np.zeros((4, 9, 9), np.uint8)
    assert checked(x, made.train, x, made.test, "mine", made.classes).classes == classes


@pytest.mark.parametrize(
    ("y_train", "y_test", "classes", "message"),
    [
        ([-1, 0, 1], [0], None, "y_train has the label -1: leave out images without a label"),
        ([5, 6], [7], None, "y_test has the label 7, which is none of 5, 6$"),
        (["a", "b"], ["c"], None, "y_test has the label c, which is none of a, b$"),
        (["a", "b"], ["a"], ["a", "x"], "y_train has the label b, which is none of a, x$"),
        (np.eye(3), np.eye(3), None, r"y_train must hold one label per image, not \[3, 3\]: of one-hot .* argmax\(1\)"),
        ([b"\xff", b"a"], [b"a"], None, "y_train holds bytes that are not UTF-8 text"),
    ],
)
def test_labels_that_are_none_are_refused(y_train: Any, y_test: Any, classes: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^mine: {message}"):
        numbered(np.array(y_train), np.array(y_test), "mine", classes)
