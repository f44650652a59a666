"""Files written atomically, and digests of what is in them."""

import contextlib
import csv
import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsearch.errors import UserError, reason

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # to be raised when `write_csv` or `write_json` writes the same values in another way
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRITE_ERRORS = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
REMEDY = "delete it and run snakemake again"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of `path`, with its suffix, that replaces it when the block ends without an error.

    After a kill or an error `path` is as it was before. The temporary file exists already: write into it, don't replace
    it. Raises UserError where the folder can't be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise UserError(cannot_write(path, error)) from error
    temporary = Path(name)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # tells `_sweep` that its writer is alive
        yield temporary
        os.fsync(handle)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes the file private
        temporary.replace(path)
    except OSError as error:
        if error.errno in WRITE_ERRORS:
            raise UserError(cannot_write(path, error)) from error
        raise
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            temporary.unlink()


def cannot_write(path: Path, error: OSError) -> str:
    """The message that says which file could not be written, and why."""
    if error.errno in FULL:
        return f"no space left while writing {path} ({error.strerror}): free some, then run again"
    return f"can't write to {path.parent}: {error.strerror}; check its permissions"


def _sweep(path: Path) -> None:
    """Delete the temporary files of killed writers of `path`."""
    for name in glob.glob(f".{glob.escape(path.stem)}-????????{glob.escape(path.suffix)}", root_dir=path.parent):
        with contextlib.suppress(OSError), (path.parent / name).open("r+b") as opened:  # OSError: alive
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (path.parent / name).unlink()


def hidden(output: Path, kind: str) -> Path:
    """A hidden file or folder next to an output, used while it is made: its `lock`, its `partial` results."""
    return output.with_name(f".{output.name}.{kind}")


def check_writable(folder: Path) -> None:
    """Raise UserError where no file can be made in `folder`, or the folder itself can't be made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"results: {existing} is not a folder that can be written; check its permissions")


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, frame: "pd.DataFrame") -> None:
    """Write numbers with six significant digits: further ones are the noise of float32."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")


def write_rows(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """The same file, of rows of numbers with the same columns, without pandas, which takes half a second to import."""

    def text(value: float) -> str:
        return str(value) if isinstance(value, int) else "" if math.isnan(value) else f"{value:.6g}"

    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([text(row[name]) for name in rows[0]] for row in rows)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError, naming the file, where it is missing, unreadable or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run snakemake to make it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON ({reason(error)}): {REMEDY}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: {REMEDY}")
    return value


def digest(value: Any) -> str:
    """Twelve hex digits of the SHA-256 of plain data, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
