"""Whether the output of a job is up to date: known without torch, which takes seconds to import."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from repsearch import jobs
from repsearch.data.sources import is_code
from repsearch.errors import UserError
from repsearch.storage import resume
from repsearch.storage.manifest import read_manifest, verify
from repsearch.storage.provenance import BACKENDS, code_version, named_code

log = logging.getLogger(__name__)

STAGES = {  # the module that makes what a job asks for
    jobs.PrepareJob: "stages.dataset",
    jobs.NetworkJob: "stages.network",
    jobs.LearnedNetworkJob: "stages.learned",
    jobs.StatisticsJob: "stages.statistics",
    jobs.SearchJob: "stages.search",
    jobs.FitnessJob: "stages.probes",
    jobs.DiversityJob: "stages.probes",
    jobs.GalleryJob: "stages.gallery",
    jobs.DescribeJob: "stages.targets",
    jobs.TrainJob: "stages.train",
    jobs.EnsembleJob: "stages.ensemble",
}


def up_to_date(job: Any, out: Path, *inputs: Path | None) -> bool:
    """Whether `out` is intact and was made by this job from these inputs, by any backend of the search.

    If so, it says so in the log and deletes what `resume` kept. Snakemake runs a stage again when an input was made
    again; this is how a stage finds that the input is the same. inputs: prepared data, search network, its
    statistics and the manifests of targets, as far as the stage takes them (None: not), in this order.
    """
    manifest = manifest_path(job, out)
    if not manifest.exists():
        return False  # before the code is read, which takes a tenth of a second and more
    made_from = key(job, *inputs)
    keys = [{**made_from, "code": code(job, backend)} for backend in BACKENDS]
    try:  # the key first: large files are read only where it matches
        matches = read_manifest(manifest)["key"] in keys and bool(verify(manifest))
    except UserError:
        return False
    if matches:
        resume.forget(out)
        log.info("%s is up to date: its inputs did not change", out)
    return matches


def key(job: Any, *inputs: Path | None, backend: str = "dense") -> dict[str, Any]:
    """What decides the output of a job: its settings, the digests of its inputs, and the code version."""
    settings, digests = asdict(job), [read_manifest(path.with_suffix(".json"))["sha256"] for path in inputs if path]
    return {"job": json.loads(json.dumps(settings)), "inputs": digests, "code": code(job, backend)}


def input_files(job: jobs.TrainJob, dataset: Path, network: Path | None, targets: Sequence[Path]) -> list[Path]:
    """What a training run's result is made from."""
    starts_from = [network] if network is not None and job.training.start == "search" else []
    return [dataset, *starts_from, *targets]


def code(job: Any, backend: str = "dense") -> str:
    """The code version of a job: its stage's, a backend's of the search, and that of the user's own code it runs."""
    return code_version(STAGES[type(job)], backend, _named(job))


def manifest_path(job: Any, out: Path) -> Path:
    """The manifest of a job's output: next to a file, or in a training run's folder."""
    if isinstance(job, jobs.TrainJob):
        return out / "summary.json"
    return out.with_name(out.name.removesuffix(".zarr.zip").removesuffix(out.suffix) + ".json")


def _named(job: Any) -> Mapping[str, str]:
    """Digests of the user's own code that the job runs."""
    match job:
        case jobs.PrepareJob(source=source) if is_code(source):
            return named_code([source])
        case jobs.StatisticsJob(recipe=settings) | jobs.SearchJob(recipe=settings):
            return named_code(vars(settings).values())
        case jobs.FitnessJob(recipe=settings) | jobs.DiversityJob(recipe=settings) | jobs.GalleryJob(recipe=settings):
            return named_code(vars(settings).values())
    return {}
