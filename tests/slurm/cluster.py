"""A Slurm of one node and the tiny pipeline on it: submitted, watched, disturbed."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.pipeline import fingerprint
from tests.workflow.test_workflow import ROOT, TINY

HERE = Path(__file__).parent
RUN = Path(os.environ.get("SLURM_RUN_DIR", "/tmp/repsearch-slurm"))
GPU_RULES = {"take_statistics", "search_shard", "probe_fitness", "probe_diversity", "probe_gallery", "train"}
GPU_RULES |= {"evaluate_ensemble"}
CPU_RULES = {"initialise_network", "learned_network", "describe_targets"}
# This machine may be slow and busy: how long a condition may take to come true before a test gives up.
PATIENCE = 900.0


def start() -> None:
    """Start Slurm, or skip the test with the reason why there can be none."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("no Slurm here: Snakemake's plugin is not installed (pip install '.[slurm]')")
    done = subprocess.run([HERE / "start.sh"], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr


def stop() -> None:
    subprocess.run([HERE / "stop.sh"], check=True)


def stop_controller(how: signal.Signals) -> None:
    """SIGTERM: after it has saved its state, of which SIGKILL loses the last seconds."""
    process = int((RUN / "pids/slurmctld.pid").read_text())
    os.kill(process, how)
    wait_until(lambda: not Path(f"/proc/{process}").exists(), "Slurm's controller ends")


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@dataclass
class Job:
    """A job, or a task of an array, as Slurm has it. name: the run's. gpus: how many it was given."""

    id: str
    name: str
    rule: str
    state: str
    partition: str
    gpus: int
    memory_mb: int
    minutes: int
    restarts: int
    folder: str


def jobs(folder: Path | None = None) -> list[Job]:
    """All jobs that Slurm remembers, or those submitted in a folder."""
    found = []
    for line in slurm("scontrol", "show", "job", "--details", "--oneliner").splitlines():
        if not line.startswith("JobId="):
            continue
        value = {key: text for key, _, text in (word.partition("=") for word in line.split())}
        given = re.search(r"\bJOB_GRES=gpu:(\d+)", line)
        hours, minutes, _ = value["TimeLimit"].rpartition("-")[2].split(":")
        task = value.get("ArrayTaskId", "")
        found.append(
            Job(
                id=f"{value['ArrayJobId']}_{task}" if task else value["JobId"],
                name=value["JobName"],
                rule=value.get("Comment", "").removeprefix("rule_").split("_wildcards_")[0],
                state=value["JobState"],
                partition=value["Partition"],
                gpus=int(given[1]) if given else 0,
                memory_mb=int(value["MinMemoryNode"].removesuffix("M")),
                minutes=60 * int(hours) + int(minutes),
                restarts=int(value["Restarts"]),
                folder=value["WorkDir"],
            )
        )
    return [job for job in found if folder is None or job.folder == str(folder)]


def wait_until(condition: Callable[[], Any], what: str, driver: subprocess.Popen[bytes] | None = None) -> Any:
    """The first true value of the condition. Fails after PATIENCE, or when the driver ends before."""
    limit = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert driver is None or driver.poll() is None, f"Snakemake ended with {driver.poll()} before {what}"
        assert time.monotonic() < limit, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(0.1)
    return value


def running(folder: Path, rule: str, count: int = 1) -> list[Job] | None:
    """Jobs of a rule whose stage is computing, if there are that many."""
    found = [job for job in jobs(folder) if job.rule == rule and job.state == "RUNNING" and stages(job)]
    return found if len(found) >= count else None


def stages(job: Job) -> list[int]:
    """The processes of a job that run a stage (`python -m repsearch …`), by process id."""
    array, _, task = job.id.partition("_")
    wanted = f"SLURM_ARRAY_JOB_ID={array}" if task else f"SLURM_JOB_ID={array}"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:3] != [b"-m", b"repsearch"]:
                continue
            environment = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        if wanted in environment and (not task or f"SLURM_ARRAY_TASK_ID={task}" in environment):
            found.append(int(process.name))
    return found


def send(job: Job, which: signal.Signals) -> None:
    for process in stages(job):
        os.kill(process, which)


def checkout(folder: Path, prepared: Path | None = None, **options: Any) -> Path:
    """A checkout with the tiny scale as its overlay, and profiles/slurm with only what this cluster needs changed.

    Its nodes have no GPUs: jobs are given what Slurm takes for one and compute on the CPU. prepared: a folder to have
    the data set, the search network and its statistics from. options: of the profile.
    """
    folder.mkdir(parents=True)
    for name in ("Snakefile", "config.yaml", "workflow", "environment.yml"):
        (folder / name).symlink_to(ROOT / name)
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    for rule in GPU_RULES:
        profile["set-resources"][rule] = {**profile["set-resources"][rule], "device": "cpu"}
    profile |= {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 10, **options}
    (folder / "profiles/slurm").mkdir(parents=True)
    (folder / "profiles/slurm/config.yaml").write_text(yaml.safe_dump(profile))
    # One learning rate a variant: on Slurm, a job takes seconds beside its work.
    variants = {
        name: {"depths": [1], "tune": {"learning_rate": [4.0]}} for name in ("sgd", "search-all", "search-skip0")
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"device": "auto", "variants": variants}))
    if prepared is not None:
        for name in ("data", "network", "statistics"):
            shutil.copytree(prepared / "results/tiny" / name, folder / "results/tiny" / name)
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--workflow-profile", "slurm", *arguments, "--configfile", "tiny.yaml"]


def submit(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Snakemake, as typed on a login node; what it says is added to printed.txt."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "printed.txt").open("ab") as printed:
        return subprocess.Popen(command(*arguments), cwd=folder, env=environment, stdout=printed, stderr=printed)


def finish(driver: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for Snakemake to have made everything."""
    try:
        status = driver.wait(PATIENCE)
    finally:
        if driver.poll() is None:
            driver.kill()
    assert status == 0, said(folder)[-6000:]


def said(folder: Path) -> str:
    return (folder / "printed.txt").read_text(errors="replace")


def compare(folder: Path, undisturbed: Path) -> None:
    """What is here is what the undisturbed run made, byte for byte."""
    found, wanted = fingerprint(folder), fingerprint(undisturbed)
    assert found, "nothing was made"
    different = [name for name, value in found.items() if wanted.get(name) != value and "benchmarks/" not in name]
    assert not different, different
