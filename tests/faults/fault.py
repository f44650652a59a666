"""A fault at one place of a command of repsearch: python -m tests.faults.fault FAULT COMMAND …

FAULT is `kill MODULE:FUNCTION N`, as one word: at the Nth call of the function the process kills itself, or its whole
process group (`killgroup`), with SIGKILL; or it stops there until a file is made (`pause … N`; $FAULT_FOLDER/go).
With `none`, nothing happens. In all of them what is finished is kept at once, and a batch has few images.
"""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repsearch.storage import partial

BATCH = 2**15  # numbers of a batch's populations: three images of tests/faults/made.py


PATIENCE = 300  # seconds for what takes a few, on a machine with much else to do


def install(fault: str) -> None:
    partial.SEARCH_SECONDS = 0.0
    rows = partial.Parts.rows

    def small(self: partial.Parts, work: Callable[..., Any]) -> Any:
        sys.modules["repsearch.stages.search"].BATCH_NUMBERS = BATCH  # type: ignore[attr-defined]
        return rows(self, work)

    partial.Parts.rows = small  # type: ignore[method-assign]
    if fault == "none":
        return
    kind, place, number = fault.split()
    module, _, function = place.partition(":")
    *within, name = function.split(".")
    where: Any = importlib.import_module(f"repsearch.{module}")
    for part in within:
        where = getattr(where, part)
    real, left = getattr(where, name), int(number)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            _happen(kind)
        return real(*args, **kwargs)

    setattr(where, name, wrapped)


def _happen(kind: str) -> None:
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "killgroup":
        os.killpg(0, signal.SIGKILL)
    folder = Path(os.environ["FAULT_FOLDER"])
    (folder / "reached").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)


def wait(happened: Callable[[], Any]) -> None:
    """Until it has. What never happens is an error."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


if __name__ == "__main__":
    fault, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    if sys.argv[1] == "train":
        from repsearch.storage import checkpoint

        checkpoint.SECONDS = 0.0  # before the stage is imported
    install(fault)
    from repsearch.cli import main

    main()
