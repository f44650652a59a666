"""A full disk, and a results folder that can't be written: one line says so; once fixed, the work continues."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from repsearch.errors import UserError
from repsearch.storage import shards, targets
from repsearch.storage.files import write_csv
from tests.faults import pipeline, tally
from tests.faults.conftest import Undisturbed

pytestmark = pytest.mark.fault
MIB = 2**20


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of `size` bytes in memory, mounted at `folder`. Skips where this process may mount none."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode != 0:
        pytest.skip("only root, allowed to mount, can have a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def shard(manifest: Path) -> None:
    arrays = {"indices": np.arange(64), "targets/block0": np.random.default_rng(0).random((64, 1, 40, 40))}
    arrays["targets/block0"] = arrays["targets/block0"].astype(np.float16)
    shards.write(*targets.paths(manifest), arrays, {}, {})


def nothing_written(folder: Path) -> bool:
    return not list(folder.glob("*")) and not list(folder.glob(".*"))


def test_a_disk_that_is_full_while_a_shard_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with disk(folder, 128 * 1024), tally.fault("the disk full while a shard is written"):
        with pytest.raises(UserError, match=r"no space left while writing .*shard-0000\.zarr\.zip .*free some") as said:
            shard(folder / "shard-0000.json")
        assert "\n" not in str(said.value) and nothing_written(folder)
        remount(folder, f"size={MIB}")
        shard(folder / "shard-0000.json")
        assert targets.read(*targets.paths(folder / "shard-0000.json"))


def test_a_file_that_may_grow_no_further(tmp_path: Path) -> None:
    """A quota of the process (RLIMIT_FSIZE), which needs no root: as a full disk, but for the error's number."""
    code = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tests.faults.test_disk import UserError, nothing_written, shard
resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))
folder = Path({str(tmp_path)!r})
try:
    shard(folder / "shard-0000.json")
except UserError as error:
    assert "no space left while writing" in str(error), error
else:
    raise SystemExit("no error")
assert nothing_written(folder), list(folder.iterdir())
"""
    with tally.fault("the disk full while a shard is written"):
        run = subprocess.run([sys.executable, "-c", code], env=pipeline.ENVIRONMENT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        shard(tmp_path / "shard-0000.json")
        assert targets.read(*targets.paths(tmp_path / "shard-0000.json"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    import pandas as pd

    folder = tmp_path / "disk"
    with disk(folder, MIB), tally.fault("a folder that can't be written"):
        remount(folder, "ro")
        with pytest.raises(UserError, match=r"can't write to .*disk: Read-only file system; check its permissions"):
            write_csv(folder / "a.csv", pd.DataFrame({"x": [1]}))
        remount(folder, "rw")
        write_csv(folder / "a.csv", pd.DataFrame({"x": [1]}))


@pytest.mark.slow
@pytest.mark.parametrize("kib", [200, 400])
def test_the_pipeline_on_a_disk_that_fills(kib: int, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Results, logs and benchmarks are on it."""
    folder = pipeline.checkout(tmp_path / "run")
    with disk(folder / "results", kib * 1024), tally.fault("the disk full while the pipeline runs"):
        run = pipeline.run(folder, *pipeline.A_PART)
        assert run.returncode != 0, f"{kib} KiB were enough"
        assert "no space left" in run.stdout.lower(), run.stdout[-6000:]
        remount(folder / "results", f"size={64 * MIB}")
        done = pipeline.run(folder, *pipeline.A_PART)
        assert done.returncode == 0, done.stdout[-6000:]
        assert pipeline.fingerprint(folder).items() <= undisturbed.fingerprint.items()
        assert not pipeline.leftovers(folder)


@pytest.mark.slow
def test_the_pipeline_in_a_results_folder_that_cannot_be_written(undisturbed: Undisturbed, tmp_path: Path) -> None:
    folder = pipeline.checkout(tmp_path / "run")
    with disk(folder / "results", 64 * MIB), tally.fault("a results folder that can't be written"):
        remount(folder / "results", "ro")
        run = pipeline.run(folder, *pipeline.A_PART)
        errors = [line for line in run.stdout.splitlines() if line.startswith("error: ")]
        assert run.returncode != 0 and len(errors) == 1 and "not a folder that can be written" in errors[0], run.stdout
        assert "Traceback" not in run.stdout
        remount(folder / "results", "rw")
        done = pipeline.run(folder, *pipeline.A_PART)
        assert done.returncode == 0, done.stdout[-6000:]
        assert pipeline.fingerprint(folder).items() <= undisturbed.fingerprint.items()
