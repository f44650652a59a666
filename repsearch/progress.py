"""Progress bars, on a terminal only, so that logs stay readable. `title` is no part of a code version."""

from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_LOOK: dict[str, Any] = {"disable": None, "leave": False, "mininterval": 0.5}  # None: off where there is no terminal


def counter(total: int, title: str, unit: str) -> "tqdm[NoReturn]":
    """A bar that `update` advances; for use in a `with` statement."""
    return tqdm(total=total, desc=title, unit=unit, **_LOOK)


def bar(items: Iterable[T], title: str, unit: str = "it") -> Iterable[T]:
    """`items`, with a progress bar on a terminal and nothing elsewhere."""
    return tqdm(items, desc=title, unit=unit, **_LOOK)
