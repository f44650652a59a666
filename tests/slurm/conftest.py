"""One Slurm for all tests here, and one undisturbed run on it."""

import fcntl
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A machine has one Slurm: a second checkout's tests wait for the first's."""
    with cluster.RUN.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM"))  # Slurm is stopped then too
        cluster.start()
        try:
            yield
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def undisturbed(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything was made through Slurm; what was planned is in planned.txt."""
    folder = cluster.checkout(tmp_path_factory.mktemp("undisturbed") / "run")
    plan = subprocess.run(cluster.command("-n", "all"), cwd=folder, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    (folder / "planned.txt").write_text(plan.stdout + plan.stderr)
    cluster.finish(cluster.submit(folder, "all"), folder)
    return folder
