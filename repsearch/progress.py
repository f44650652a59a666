"""Progress bars: on a terminal only, so that logs stay readable."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def bar(items: Iterable[T], title: str, unit: str = "it") -> Iterable[T]:
    """`items`, with a progress bar on the terminal; quiet elsewhere."""
    return tqdm(items, desc=title, unit=unit, disable=None, leave=False, mininterval=0.5)
