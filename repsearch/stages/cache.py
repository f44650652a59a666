"""Whether the output of a job is up to date: known without torch, which takes seconds to import."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from repsearch import jobs
from repsearch.data.sources import is_code
from repsearch.storage import manifest
from repsearch.storage.manifest import read_manifest
from repsearch.storage.provenance import code_version, code_versions, named_code, recipe_code

STAGES = {  # the module that makes what a job asks for
    jobs.PrepareJob: "stages.dataset",
    jobs.NetworkJob: "stages.network",
    jobs.SearchJob: "stages.search",
    jobs.FitnessJob: "stages.probes",
    jobs.DiversityJob: "stages.probes",
    jobs.DescribeJob: "stages.targets",
    jobs.TrainJob: "stages.train",
}


def up_to_date(job: Any, out: Path, *inputs: Path) -> bool:
    """Whether `out` was made by this job from these inputs, by any backend of the search; says so in the log.

    inputs: prepared data, search network and the manifests of targets, as far as the stage takes them, in this order.
    """
    plain = _made_from(job, inputs)
    codes = code_versions(STAGES[type(job)], _named(job))
    return manifest.up_to_date(out, manifest_path(job, out), [{**plain, "code": code} for code in codes])


def key(job: Any, *inputs: Path, backend: str = "dense") -> dict[str, Any]:
    """What decides the output of a job: its settings, the digests of its inputs, and the code version."""
    return {**_made_from(job, inputs), "code": code(job, backend)}


def code(job: Any, backend: str = "dense") -> str:
    """The code version of a job: its stage's, a backend's of the search, and that of the user's own code it runs."""
    return code_version(STAGES[type(job)], backend, _named(job))


def manifest_path(job: Any, out: Path) -> Path:
    """The manifest of a job's output: next to a file, or in a training run's folder."""
    if isinstance(job, jobs.TrainJob):
        return out / "summary.json"
    return out.with_name(out.name.removesuffix(".zarr.zip").removesuffix(out.suffix) + ".json")


def _made_from(job: Any, inputs: tuple[Path, ...]) -> dict[str, Any]:
    settings = json.loads(json.dumps(asdict(job)))
    return {"job": settings, "inputs": [read_manifest(path.with_suffix(".json"))["sha256"] for path in inputs]}


def _named(job: Any) -> Mapping[str, str]:
    """Digests of the user's own code that the job runs."""
    match job:
        case jobs.PrepareJob(source=source) if is_code(source):
            return named_code([source])
        case jobs.NetworkJob(calibration=settings):
            return recipe_code(settings)
        case jobs.SearchJob(recipe=settings) | jobs.FitnessJob(recipe=settings) | jobs.DiversityJob(recipe=settings):
            return recipe_code(settings)
    return {}
