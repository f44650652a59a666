"""How far long work is: bars on a terminal, lines in a log. What is said here is no part of a code version.

Work logs its beginning and each of its steps with `extra={"done": …, "total": …}`; the beginning starts the clock.
`Pace` lets few of these lines through and adds how fast the work goes and how long it still takes. It asks nothing of
the work or of its device.
"""

import logging
import math
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_LOOK: dict[str, Any] = {"disable": None, "leave": False, "mininterval": 0.5}  # None: off where there is no terminal
SECONDS = 10.0  # between two lines about steps, at least
SHARE = 0.01  # of the time that the work has taken: between two lines, at least, so that a day's log stays readable


def counter(total: int, title: str, unit: str) -> "tqdm[NoReturn]":
    """A bar that `update` advances; for use in a `with` statement."""
    return tqdm(total=total, desc=title, unit=unit, **_LOOK)


def bar(items: Iterable[T], title: str, unit: str = "it") -> Iterable[T]:
    """`items`, with a progress bar on a terminal and nothing elsewhere."""
    return tqdm(items, desc=title, unit=unit, **_LOOK)


class Pace(logging.Filter):
    """Of the lines about steps, keeps the first, the last, and others so rarely that a log stays readable.

    For one handler of a process whose pieces of work follow one another. Sets each record's `pace`, what is to follow
    its message. between: whether to keep any but the first and the last; a terminal with a bar needs none.
    """

    def __init__(self, between: bool = True) -> None:
        super().__init__()
        self.between, self.last = between, math.inf
        self.started, self.first, self.shown = 0.0, 0, 0.0  # of the present piece of work

    def filter(self, record: logging.LogRecord) -> bool:
        record.pace = ""
        done, total = getattr(record, "done", None), getattr(record, "total", None)
        if done is None or total is None:
            return True
        now, before, self.last = record.created, self.last, done
        if done <= before:  # a new piece of work
            self.started, self.first, self.shown = now, done, now
            return True
        passed = now - self.started
        if done < total and not (self.between and now - self.shown >= max(SECONDS, SHARE * passed)):
            return False
        self.shown, record.pace = now, pace(passed, done - self.first, total - done)
        return True


def pace(passed: float, done: int, left: int) -> str:
    """How fast `done` (≥ 1) steps went, which took `passed` seconds, and how long the steps that are left will take."""
    each = passed / done
    speed = f", {each:.1f} s each" if each >= 1 else f", {1 / each:,.1f} per second" if each > 0 else ""
    return speed + (f", {duration(each * left)} left" if left else f", {duration(passed)} in all")


def duration(seconds: float) -> str:
    """For people, with two digits or so: `12 s`, `17 min`, `2.3 h`, `4.1 days`."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
