"""A fault at one place of a command of repsearch: python -m tests.faults.fault FAULT COMMAND …

FAULT is `kill MODULE:FUNCTION N`, as one word: at the Nth call of the function the process kills itself, or its
process group (`killgroup`), with SIGKILL; or it stops there until a file is made (`pause … N`; $FAULT_FOLDER/go).
With `none`, nothing happens. In all of them every batch is saved as soon as it is computed, and has few images.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repsearch.storage import resume

BATCH = 2**15  # numbers in the populations of a batch: three images of tests/faults/made.py
PATIENCE = 300  # seconds for what takes a few, on a busy machine


def install(fault: str) -> None:
    resume.SECONDS = 0.0
    rows = resume.Resume.rows

    def small(self: resume.Resume, work: Callable[..., Any]) -> Any:
        sys.modules["repsearch.stages.batches"].CPU_BATCH_NUMBERS = BATCH  # type: ignore[attr-defined]
        return rows(self, work)

    resume.Resume.rows = small  # type: ignore[method-assign]
    if fault == "none":
        return
    kind, place, number = fault.split()
    module, _, function = place.partition(":")
    *within, name = function.split(".")
    where: Any = importlib.import_module(f"repsearch.{module}")
    for part in within:
        where = getattr(where, part)
    real, remaining = getattr(where, name), int(number)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
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


def wait(happened: Callable[[], Any], *processes: "subprocess.Popen[Any]") -> None:
    """Wait until it has happened. Fails when one of the processes ends before that, or after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        ended = [process for process in processes if process.poll() is not None]
        if ended and not happened():
            raise AssertionError(f"a process ended with status {ended[0].returncode}: {ended[0].communicate()[1]}")
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


if __name__ == "__main__":
    fault, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    install(fault)
    from repsearch.cli import main

    main()
