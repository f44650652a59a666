"""A training run's settings, and whether it has been made: known without torch, which takes seconds to import."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from repsearch.learning.settings import Training, Variant
from repsearch.search.recipe import Recipe
from repsearch.storage.files import digest, hidden, read_manifest, unchanged
from repsearch.storage.provenance import code_version

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """All that fixes a run beside its input files. recipe is None for a run that has no targets to learn or trace."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    dataset: str
    label: str
    paper: str | None
    augmentation: Literal["plain", "augmented"]
    flip: bool
    pad: int
    variant_name: str
    variant: Variant
    depth: int
    recipe_name: str
    recipe: Recipe | None
    seed: int
    width: int
    head_bias: bool
    training: Training


def made_from(settings: RunSettings, dataset: Path, manifests: Sequence[Path]) -> dict[str, Any]:
    """The key of a run's outputs: a digest of its settings, its code and its inputs."""
    key = {
        "settings": asdict(settings),
        "code": code_version("stages.train"),
        "dataset": read_manifest(dataset.with_suffix(".json"))["sha256"],
        "targets": [read_manifest(path)["sha256"] for path in manifests],
    }
    return {"digest": digest(key)}


def checkpoint_path(out: Path) -> Path:
    """Where the run in the folder `out` keeps its state until it is whole."""
    return hidden(out, "checkpoint")


def up_to_date(key: dict[str, Any], out: Path) -> bool:
    """Whether the folder `out` holds just this run, whole; says so in the log, and then no checkpoint is left."""
    made = unchanged(out / "summary.json", key)
    if made:
        checkpoint_path(out).unlink(missing_ok=True)
        log.info("%s is up to date: its inputs did not change", out)
    return made
