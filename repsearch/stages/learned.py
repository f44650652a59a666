"""Stage: make a network that was learned one to be searched, in the next cycle (§6)."""

import shutil
from pathlib import Path

from repsearch.jobs import LearnedNetworkJob
from repsearch.stages import cache
from repsearch.storage.files import atomic, file_digest
from repsearch.storage.manifest import verify, write_manifest


def make(job: LearnedNetworkJob, summary: Path, out: Path) -> None:
    """Copy a training run's weights to `out`, with a manifest.

    summary: the run's. Raises UserError where the run is missing or was altered.
    """
    verify(summary)
    if cache.up_to_date(job, out, summary):
        return
    with atomic(out) as temporary:
        shutil.copyfile(summary.with_name("weights.pt"), temporary)
    key = cache.key(job, summary)
    write_manifest(cache.manifest_path(job, out), key, [out], {"sha256": file_digest(out)})
