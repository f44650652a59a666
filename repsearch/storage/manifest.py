"""Manifests: a JSON file next to each output of a stage that says what it was made from and what its files hold.

A manifest has the `key` (all that decides the output: the job, the digests of the inputs, the code version), `files`
(names in the same folder, with their SHA-256), facts about the output, and a `checksum` of all this.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repsearch.errors import UserError
from repsearch.storage.files import REMEDY, digest, file_digest, read_json, write_json


def write_manifest(manifest: Path, key: dict[str, Any], files: Sequence[Path], facts: dict[str, Any]) -> None:
    """Write the manifest of finished outputs: the last act of a stage. files: in its folder; may be empty."""
    value = {**facts, "key": key, "files": {path.name: file_digest(path) for path in files}}
    write_json(manifest, {**value, "checksum": digest(value)})


def read_manifest(manifest: Path) -> dict[str, Any]:
    """A manifest without its checksum. Raises UserError, naming it, where it is missing, unreadable or altered."""
    stated = read_json(manifest)
    if stated.pop("checksum", None) != digest(stated):
        raise UserError(f"{manifest} was altered: {REMEDY}")
    if not isinstance(stated.get("files"), dict) or "key" not in stated:
        raise UserError(f"{manifest} belongs to something else: {REMEDY}")
    return stated


def verify(manifest: Path) -> dict[str, Any]:
    """A manifest whose files are as it says. Raises UserError, naming the file, where it or one of them is not."""
    stated = read_manifest(manifest)
    for name, value in stated["files"].items():
        path = manifest.parent / name
        if not path.is_file() or file_digest(path) != value:
            raise UserError(f"{path} is missing or not what {manifest} says: delete both, then run snakemake again")
    return stated
