"""Counts of the faults and the inputs that the tests tried, and of their outcomes.

Each record is a line of JSON, added to the file that the environment variable REPSEARCH_TALLY names; without it nothing
is recorded. `python tests/faults` (make faults) runs the tests that are marked `fault`, then adds the records up.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def fault(name: str) -> Iterator[None]:
    """One fault, injected in the block. It survived if the block ends without an error; else it is lost.

    A block that skips its test, or raises `Missed`, has injected nothing and counts for nothing.
    """
    try:
        yield
    except (pytest.skip.Exception, Missed):
        raise
    except BaseException:
        _record(fault=name, survived=False)
        raise
    _record(fault=name, survived=True)


class Missed(Exception):
    """Raised in a `fault` block where the fault could not strike, such as a kill of what had ended."""


def inputs(*, tried: int, accepted: int, refused: int, crashed: int) -> None:
    """Inputs of one test. crashed: neither correctly accepted nor refused with a clear error."""
    assert tried == accepted + refused + crashed
    _record(tried=tried, accepted=accepted, refused=refused, crashed=crashed)


def _record(**values: Any) -> None:
    path = os.environ.get("REPSEARCH_TALLY")
    if path:
        with open(path, "a", encoding="utf-8") as opened:  # a line is one write: processes may record at once
            opened.write(json.dumps(values) + "\n")
