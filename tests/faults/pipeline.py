"""The tiny pipeline for fault tests: started, killed, started again; and what of its results must not change."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from repsearch.config.load import merge
from tests.workflow.test_workflow import ROOT, TINY

RESULTS = "results/tiny"
SHARDS = 4
SCALE: dict[str, Any] = TINY | {"shard_images": 60 // SHARDS}
MERGED: dict[str, Any] = merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SCALE)  # what Snakemake makes of it
CORES = "3"
A_PART = (
    f"{RESULTS}/tables/table1.csv",
    f"{RESULTS}/figures/figure3.csv",
)  # eleven jobs, of all kinds
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def checkout(folder: Path, **changes: Any) -> Path:
    """`folder` as a checkout of the repository with the tiny scale and `changes` on top."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "config.yaml", "workflow", "profiles", "environment.yml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SCALE | changes))
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments, "--cores", CORES, "--configfile", "tiny.yaml"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake in a new process group; its output is added to printed.txt."""
    with (folder / "printed.txt").open("ab") as printed:
        return subprocess.Popen(
            command(*arguments or ("all",)), cwd=folder, env=ENVIRONMENT, stdout=printed, stderr=printed,
            start_new_session=True,
        )  # fmt: skip


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake to its end; stdout has all its output."""
    return subprocess.run(
        command(*arguments or ("all",)), cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=7200,
    )  # fmt: skip


def resume(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the README says to do after a kill: unlock, then run the same command again."""
    unlocked = run(folder, "all", "--unlock")
    assert unlocked.returncode == 0, unlocked.stdout[-3000:]
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    return done


def kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _processes() -> Iterator[tuple[int, str, int, int]]:
    """(id, state, parent, group) of each process on this machine."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, parent, group = stat.read_text().rpartition(")")[2].split()[:3]
            yield int(stat.parent.name), state, int(parent), int(group)


def wait_for_group(group: int) -> None:
    """Wait until the processes of a group that runs on without its driver have ended."""
    while any(state != "Z" and member == group for _, state, _, member in _processes()):
        time.sleep(0.2)


def jobs(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes below a driver that run a stage (`python -m repsearch …`), by process id."""
    ids = []
    for pid in descendants(process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if words[1:3] == [b"-m", b"repsearch"]:
            ids.append(pid)
    return ids


def descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, _, parent, _ in _processes():
        children.setdefault(parent, []).append(pid)
    ids, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        ids += below
        waiting += below
    return ids


def fingerprint(folder: Path) -> dict[str, str]:
    """What must be identical after any fault: bytes of CSVs, tables, figures, weights and data; summaries;
    targets by their manifests, which have their digests."""
    results = folder / RESULTS
    contents = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.name.startswith("."):
            continue
        if path.suffix in (".csv", ".md", ".pt", ".npz", ".png"):
            contents[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".json":
            contents[name] = json.dumps(json.loads(path.read_text()), sort_keys=True)
    return contents


def leftovers(folder: Path) -> list[str]:
    """Files of killed writers: hidden ones in the results, other than locks, which stay."""
    hidden = (folder / RESULTS).rglob(".*")
    return [str(path.relative_to(folder)) for path in hidden if path.is_file() and path.suffix != ".lock"]


def copy(source: Path, folder: Path) -> Path:
    """A folder in which everything is made, with its times, so that Snakemake finds nothing to do in it."""
    shutil.copytree(source, folder, symlinks=True)
    return folder
