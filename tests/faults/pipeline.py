"""The tiny pipeline for fault tests: started, killed, started again; and what of its results must not change."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from pipeline.test_workflow import ROOT, TINY

RESULTS = "results/tiny"
SHARDS = 4
SCALE: dict[str, Any] = TINY | {"shard_images": 60 // SHARDS}
CORES = "3"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def checkout(folder: Path, **changes: Any) -> Path:
    """`folder` as a checkout of the repository with the tiny scale and `changes` laid over it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "config.yaml", "workflow", "profiles", "environment.yml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SCALE | changes))
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments, "--cores", CORES, "--configfile", "tiny.yaml"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A driver in a process group of its own; what it says is added to printed.txt."""
    with (folder / "printed.txt").open("ab") as printed:
        return subprocess.Popen(
            command(*arguments or ("all",)), cwd=folder, env=ENVIRONMENT, stdout=printed, stderr=printed,
            start_new_session=True,
        )  # fmt: skip


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A driver to its end. stdout has all it said."""
    return subprocess.run(
        command(*arguments or ("all",)), cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=900,
    )  # fmt: skip


def resume(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the README says to do after a kill: unlock, and the same command again. Fails where that fails."""
    unlocked = run(folder, "all", "--unlock")
    assert unlocked.returncode == 0, unlocked.stdout[-3000:]
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    return done


def kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def jobs(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes below a driver that run a stage (`python -m repsearch …`), by process id."""
    found = []
    for pid in descendants(process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if words[1:3] == [b"-m", b"repsearch"]:
            found.append(pid)
    return found


def descendants(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found, waiting = [], [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def fingerprint(folder: Path) -> dict[str, str]:
    """What must be identical whatever happened: bytes of CSVs, tables, figures, report, weights and data; summaries;
    targets by their manifests, which have the digest of their content (a zip file has times in it)."""
    results = folder / RESULTS
    found = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.suffix in (".csv", ".md", ".pt", ".npz", ".png"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".json":
            found[name] = json.dumps(json.loads(path.read_text()), sort_keys=True)
    return found


def leftovers(folder: Path) -> list[str]:
    """Files that a killed writer left: hidden ones below the results."""
    return [str(path.relative_to(folder)) for path in (folder / RESULTS).rglob(".*") if path.is_file()]


def copy(source: Path, folder: Path) -> Path:
    """A folder in which everything is made, with its times, so that Snakemake finds nothing to do in it."""
    shutil.copytree(source, folder, symlinks=True)
    return folder
