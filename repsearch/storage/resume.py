"""What an unfinished job has computed, kept next to its output: a job that was cut short resumes from there.

Each part is one file in a hidden folder (`.NAME.partial`). Nothing in it is trusted: a part begins with a digest of its
content and of the key, so that one that is truncated, altered or of another job counts as missing. Parts are NumPy
arrays or tensors and plain data; nothing pickled is loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from repsearch.storage.files import atomic, hidden

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]
SECONDS = 60.0  # of work between two parts, at least: what a kill can cost


class Resume:
    """The parts of one output. key: plain data, all that decides the result, the machine included.

    Either many parts, numbered, that together are the result (`rows`), or one that is replaced (`state`, `save_state`).
    """

    def __init__(self, output: Path, key: Mapping[str, Any]) -> None:
        self.folder, self.key, self.saved = folder(output), key, time.monotonic()

    def rows(self, work: Callable[[int], Iterator[Arrays]]) -> dict[str, NDArray[Any]]:
        """All rows: those of the parts, then those that `work(number of rows so far)` yields, kept as they come."""
        parts: list[Arrays] = []
        for content in self._read():
            with np.load(io.BytesIO(content), allow_pickle=False) as opened:
                parts.append(dict(opened))
        count = sum(len(next(iter(part.values()))) for part in parts)
        number = saved = len(parts)
        if parts:
            log.info("resuming after %d finished searches (%s)", count, self.folder)
        for part in work(count):
            parts.append(part)
            if self._due():
                self._write(number, partial(np.savez, **_joined(parts[saved:])))  # type: ignore[arg-type]
                number, saved = number + 1, len(parts)
        return _joined(parts)

    def state(self, device: torch.device) -> dict[str, Any] | None:
        """The state that was saved last, its tensors on `device`; None where there is none."""
        import torch

        contents = self._read()
        if not contents:
            return None
        log.info("resuming from the state in %s", self.folder)
        return dict(torch.load(io.BytesIO(contents[0]), map_location=device, weights_only=True))

    def save_state(self, state: dict[str, Any]) -> None:
        """Save the state in place of the last one, if enough time has passed."""
        import torch

        if self._due():
            self._write(0, partial(torch.save, state))

    def _due(self) -> bool:
        return time.monotonic() - self.saved >= SECONDS

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.part"

    def _write(self, number: int, save: Callable[[io.BytesIO], Any]) -> None:
        content = io.BytesIO()
        save(content)
        seal(self._path(number), [self.key, number], content.getvalue())
        self.saved = time.monotonic()

    def _read(self) -> list[bytes]:
        """The parts up to the first that is missing or unusable; all others are deleted."""
        if self.folder.is_symlink():  # to a folder that is not this job's to clean
            self.folder.unlink()
        contents: list[bytes] = []
        while (content := unseal(self._path(len(contents)), [self.key, len(contents)])) is not None:
            contents.append(content)
        usable = {self._path(number) for number in range(len(contents))}
        others = [path for path in self.folder.glob("*") if path not in usable]
        for path in others:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if any(path.suffix == ".part" and not path.name.startswith(".") for path in others):
            log.info("%s held parts that are damaged or of another job: deleted them", self.folder)
        return contents


def folder(output: Path) -> Path:
    """Where the parts of an output are kept until it is finished."""
    return hidden(output, "partial")


def forget(output: Path) -> None:
    """Delete the parts of an output that is finished."""
    shutil.rmtree(folder(output), ignore_errors=True)


def seal(path: Path, key: Any, content: bytes) -> None:
    """Write `content` after a digest of it and of the plain data `key`, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(_digest(key, content) + content)


def unseal(path: Path, key: Any) -> bytes | None:
    """What was sealed with this key; None where the file is missing, truncated, altered or of another key."""
    try:
        sealed = path.read_bytes()
    except OSError:
        return None
    size = hashlib.sha256().digest_size
    return sealed[size:] if sealed[:size] == _digest(key, sealed[size:]) else None


def _digest(key: Any, content: bytes) -> bytes:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode() + b"\n" + content).digest()


def _joined(parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """The rows of several parts, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
