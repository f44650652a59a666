"""Stage: prepare a data set."""

from pathlib import Path

from repsearch.data.prepared import prepare
from repsearch.jobs import PrepareJob
from repsearch.stages import cache


def make(job: PrepareJob, folder: Path, out: Path) -> None:
    """Write a prepared data set and its manifest. folder: where downloads go. Raises UserError for a bad source."""
    if not cache.up_to_date(job, out):
        prepare(job.source, folder, out, job.validation_images, job.images, job.test_images, cache.key(job))
