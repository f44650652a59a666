"""Writing whole files or none, and digests of what is in them."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsearch.errors import UserError, reason

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # raise it when what `write_csv` and `write_json` make of the same values changes


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, that takes its place when the block ends without an error.

    A killed or failed writer leaves no `path` behind, or the former one. Raises UserError where the folder can't be
    written or the disk is full. The temporary file is there already: write into it, don't replace it.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise UserError(cannot_write(path, error)) from error
    temporary = Path(name)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # by this its killed writer is told from a living one
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
            temporary.unlink(missing_ok=True)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRITE_ERRORS = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def cannot_write(path: Path, error: OSError) -> str:
    """For people: which file could not be written, and why."""
    if error.errno in FULL:
        return f"no space left while writing {path} ({error.strerror}): free some, then run again"
    return f"can't write to {path.parent}: {error.strerror}; check its permissions"


def _sweep(path: Path) -> None:
    """Delete temporary files that killed writers of `path` left."""
    for name in glob.glob(f".{glob.escape(path.stem)}-????????{glob.escape(path.suffix)}", root_dir=path.parent):
        with contextlib.suppress(OSError), (path.parent / name).open("r+b") as left:  # OSError: its writer lives
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (path.parent / name).unlink()


def hidden(output: Path, kind: str) -> Path:
    """A hidden file or folder beside an output, which tells of its making: its `lock`, its `partial` results."""
    return output.with_name(f".{output.name}.{kind}")


def check_writable(folder: Path) -> None:
    """Raise UserError, naming it, where files can't be made in `folder` or the folder itself can't be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"results: {there} is not a folder that can be written; check its permissions")


REMEDY = "delete it and run snakemake again"


def write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, frame: "pd.DataFrame") -> None:
    """Six significant digits: what follows them is the noise of float32."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_manifest(path: Path, value: dict[str, Any]) -> None:
    """Write plain data with a checksum of it, so that an altered manifest is told from a whole one."""
    write_json(path, {**value, "checksum": digest(value)})


def read_manifest(path: Path) -> dict[str, Any]:
    """What `write_manifest` wrote. Raises UserError, naming the file, where it is missing, unreadable or altered."""
    value = read_json(path)
    if value.pop("checksum", None) != digest(value):
        raise UserError(f"{path} was altered: {REMEDY}")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError, naming the file, where it is missing, unreadable or not a JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run snakemake to make it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON ({reason(error)}): {REMEDY}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: {REMEDY}")
    return value


def digest(value: Any) -> str:
    """Twelve hex digits of the SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def unchanged(manifest: Path, key: dict[str, Any], codes: Sequence[str] = ()) -> bool:
    """Whether a stage's outputs are there, whole and made from just this: then the stage has nothing to do.

    codes: code versions that are as good as key["code"].

    manifest: a JSON file with what its outputs were made from (`key`) and their digests (`files`, by name, beside it).
    Snakemake runs a stage again when an input was made again; this is how a stage finds that the input is the same.
    """
    try:
        return whole(manifest)["key"] in [key, *({**key, "code": code} for code in codes)]
    except UserError:
        return False


def whole(manifest: Path) -> dict[str, Any]:
    """The manifest of a stage's outputs. Raises UserError, naming the file, where it or one of them was altered."""
    stated = read_manifest(manifest)
    files = stated.get("files")
    if not isinstance(files, dict) or "key" not in stated:
        raise UserError(f"{manifest} belongs to something else: {REMEDY}")
    for name, value in files.items():
        path = manifest.parent / name
        if not path.is_file() or file_digest(path) != value:
            raise UserError(f"{path} is missing or not what {manifest} says: delete both, then run snakemake again")
    return stated


def finish(manifest: Path, key: dict[str, Any], files: list[Path], facts: dict[str, Any]) -> None:
    """Write the manifest of a stage's finished outputs, its last act."""
    write_manifest(manifest, {**facts, "key": key, "files": {path.name: file_digest(path) for path in files}})
