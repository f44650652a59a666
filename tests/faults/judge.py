"""Judges the fate of untrusted inputs: correctly accepted, refused with a clear error, or crashed."""

import os
import random
import re
import reprlib
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from repsearch.errors import UserError
from tests.faults import tally

LONGEST_LINE = 1000
CPU_SECONDS = 20  # a hang: each input takes milliseconds. Of this process alone: the machine may be busy
CANARY = "pwned"  # the file that an input makes if it is executed


SHORT = reprlib.Repr()  # a few lines of YAML can stand for billions of things
SHORT.maxother = SHORT.maxstring = 300


class Hang(BaseException):
    pass


def _hang(_: int, __: FrameType | None) -> None:
    raise Hang


def judge(
    inputs: Iterator[Any], work: Callable[[Any], Any], check: Callable[[Any, Any], None], clear: str, folder: Path
) -> tuple[int, int]:
    """(accepted, refused) of `inputs`, recorded in the tally; fails if one crashed.

    work: what reads an input, in `folder`. check: raises AssertionError where the result for an input is wrong.
    clear: a regular expression that each line of a refusal must match.
    """
    accepted = refused = 0
    crashes: list[str] = []
    before, home = signal.signal(signal.SIGPROF, _hang), Path.cwd()
    os.chdir(folder)
    try:
        for candidate in inputs:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # a warning is neither an acceptance nor a refusal
                    result = work(candidate)
                    check(candidate, result)
                accepted += 1
            except UserError as error:
                problem = _unclear(str(error), clear)
                refused += problem is None
                if problem is not None:
                    crashes.append(f"{problem}: {str(error)[:500]!r} of {SHORT.repr(candidate)}")
            except (Exception, Hang):
                crashes.append(f"{traceback.format_exc(limit=-4)[-1500:]}\nof {SHORT.repr(candidate)}")
            if (folder / CANARY).exists():
                (folder / CANARY).unlink()
                crashes.append(f"executed: {SHORT.repr(candidate)}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        os.chdir(home)
    tally.inputs(tried=accepted + refused + len(crashes), accepted=accepted, refused=refused, crashed=len(crashes))
    assert not crashes, f"{len(crashes)} crashed; the first ones:\n\n" + "\n\n".join(crashes[:5])
    return accepted, refused


def _unclear(message: str, clear: str) -> str | None:
    lines = message.split("\n")
    for line in lines:
        if not line.isprintable() or not line.strip():
            return "a line that can't be printed"
        if len(line) > LONGEST_LINE:
            return "a line that is too long"
        if not re.search(clear, line):
            return "a line that names nothing"
    return "too many lines" if len(lines) > 30 else None


def mutated(content: bytes, chance: random.Random, times: int = 3) -> bytes:
    """The content with bytes flipped, cut, inserted, repeated or overwritten, up to `times` times."""
    for _ in range(chance.randint(1, times)):
        if not content:
            return content
        at, to = sorted(chance.choices(range(len(content) + 1), k=2))
        match chance.randrange(7):
            case 0 | 1:
                place = min(at, len(content) - 1)
                content = content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
            case 2:
                content = content[:at]
            case 3:
                content = content[:at] + content[at + chance.randint(1, 8) :]
            case 4:
                content = content[:at] + chance.randbytes(chance.randint(1, 8)) + content[at:]
            case 5:
                size = chance.choice([1, 2, 4, 8])
                number = chance.choice([0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1)])
                content = content[:at] + number.to_bytes(size, "little") + content[at + size :]
            case 6:
                content = content[:at] + content[at : min(to, at + 64)] * 2 + content[to:]
    return content
