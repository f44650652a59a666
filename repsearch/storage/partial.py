"""What a job has made so far, kept beside its output until that is whole: a job that was cut short goes on from it.

Nothing here is trusted: each file begins with a digest of its content and of all that decides it (`key`), so that one
that is cut, altered or of another job counts as missing.
"""

import hashlib
import io
import itertools
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsearch.storage.files import atomic, hidden

log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]
SEARCH_SECONDS = 30.0  # work that a file of searched images holds, at the least: what a kill can cost


def seal(path: Path, key: Any, content: bytes) -> None:
    """Write `content` below a digest of it and of the plain data `key`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(_digest(key, content) + content)


def unseal(path: Path, key: Any) -> bytes | None:
    """What was sealed with this key; None where the file is missing, cut, altered or of another key."""
    try:
        sealed = path.read_bytes()
    except OSError:
        return None
    size = hashlib.sha256().digest_size
    return sealed[size:] if sealed[:size] == _digest(key, sealed[size:]) else None


def _digest(key: Any, content: bytes) -> bytes:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode() + b"\n" + content).digest()


def joined(parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Rows of several parts under each other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Parts:
    """Finished rows of an output, in order: numbered files in a hidden folder beside it.

    key: plain data, all that decides the rows. seconds: how much work a file holds, at the least.
    """

    def __init__(self, output: Path, key: Mapping[str, Any], seconds: float) -> None:
        self.folder, self.key, self.seconds = hidden(output, "partial"), key, seconds

    def rows(self, work: Callable[[int], Iterator[Arrays]]) -> dict[str, NDArray[Any]]:
        """All rows: what is there, then what `work` of their number yields, which is kept as it comes."""
        found: list[Arrays] = self._read()
        fresh: list[Arrays] = []
        files, last = len(found), time.monotonic()
        for part in work(sum(map(_length, found))):
            found.append(part)
            fresh.append(part)
            if time.monotonic() - last >= self.seconds:
                self._write(files, joined(fresh))
                files, fresh, last = files + 1, [], time.monotonic()
        return joined(found)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.npz"

    def _write(self, number: int, part: Arrays) -> None:
        content = io.BytesIO()
        np.savez(content, **part)  # type: ignore[arg-type]
        seal(self._path(number), [self.key, number], content.getvalue())

    def _read(self) -> list[Arrays]:
        """The parts up to the first that is missing or not to be used; what is left over is deleted."""
        parts: list[Arrays] = []
        for number in itertools.count():
            content = unseal(self._path(number), [self.key, number])
            if content is None:
                break
            with np.load(io.BytesIO(content), allow_pickle=False) as opened:
                parts.append(dict(opened))
        if parts:
            log.info("going on after %d finished searches (%s)", sum(map(_length, parts)), self.folder)
        used = {self._path(number) for number in range(len(parts))}
        others = [path for path in self.folder.glob("*") if path not in used]
        for path in others:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if any(path.suffix == ".npz" and not path.name.startswith(".") for path in others):
            log.info("%s held files of another search, or damaged ones: deleted", self.folder)
        return parts


def _length(part: Arrays) -> int:
    return len(next(iter(part.values())))


def forget(output: Path) -> None:
    """Delete what was kept while `output` was not whole."""
    shutil.rmtree(hidden(output, "partial"), ignore_errors=True)
