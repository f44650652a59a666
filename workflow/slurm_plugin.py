"""Fixes Snakemake's Slurm plugin (snakemake-executor-plugin-slurm 2.8), which in some cases waits for a job for ever:

  - when Slurm's controller has not answered for some seconds, since the plugin then forgets the jobs that it follows;
  - when a job ended more than MinJobAge seconds ago, since squeue no longer lists it;
  - when a job was preempted and Slurm doesn't start it again;
  - when more jobs of a rule in `slurm-array-jobs` are ready than may run, since the plugin collects them for one array.

The two methods below replace the plugin's, in the process that submits jobs.
"""

import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

PLUGIN = "snakemake_executor_plugin_slurm"
ENDED_BADLY = {
    "BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "SPECIAL_EXIT", "TIMEOUT",
}  # fmt: skip
ANSWER_SECONDS = 60  # how long squeue, sacct and scontrol may take
# The plugin passes the commands of an array as one argument, which may have 128 KiB; a command takes about 4 KB.
ARRAY_TASKS = 10


def install() -> None:
    """Fix the plugin if Snakemake has loaded it, as it does wherever the plugin is installed."""
    if PLUGIN in sys.modules:
        executor = sys.modules[PLUGIN].Executor
        executor.check_active_jobs = check_active_jobs
        executor.run_jobs = run_jobs


def ask(*command: str) -> str | None:
    """What a Slurm command prints; None if it fails, doesn't answer or isn't installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def job_states(run: str) -> dict[str, tuple[str, str]] | None:
    """Job ID (ID_TASK for a task of an array) → state and nodes, of the jobs named `run`; None without an answer."""
    listed = ask("squeue", "--noheader", "--array", "--states=all", f"--name={run}", "--format=%i|%T|%N")
    if listed is None:
        return None
    rows = (line.strip().split("|") for line in listed.splitlines() if line.count("|") == 2)
    return {job: (state, nodes) for job, state, nodes in rows}


def pause(wanted: int) -> int:
    """Seconds between calls of squeue: `wanted`, or fewer, so that each job's end is seen before Slurm forgets it."""
    config = ask("scontrol", "show", "config") or ""
    ages = [line.split("=")[1].split()[0] for line in config.splitlines() if line.startswith("MinJobAge")]
    return min(wanted, max(1, int(ages[0]) // 3)) if ages and ages[0].isdigit() else wanted


def state_of_forgotten(job: Any) -> str:
    """How a job ended that squeue no longer lists: what the accounting says or, without one, what its outputs show."""
    words = (ask("sacct", "-X", "-n", "-P", "-o", "State", "-j", job.external_jobid) or "").split()
    if words and (words[0] == "COMPLETED" or words[0] in ENDED_BADLY):
        return words[0]
    outputs = [Path(str(output)) for output in job.job.output]  # each is written completely or not at all
    written = all(path.exists() and path.stat().st_mtime >= job.aux["followed_since"] for path in outputs)
    return "COMPLETED" if written else "FORGOTTEN"


def log_file(job: Any) -> Path:
    """Slurm's log of a job. For a task of an array the plugin names a folder too many."""
    named: Path = job.aux["slurm_logfile"]
    actual = named.parent.parent / named.name
    return actual if actual.exists() else named


async def check_active_jobs(self: Any, active_jobs: Sequence[Any]) -> AsyncGenerator[Any, None]:
    """Report the jobs that ended and yield those to check again. Replaces the plugin's method of this name."""
    settings = self.workflow.executor_settings
    self.next_seconds_between_status_checks = pause(settings.init_seconds_before_status_checks)
    states = job_states(self.run_uuid) if active_jobs else {}
    if states is None:
        self.logger.warning("squeue doesn't answer; it will be asked again.")
        for job in active_jobs:
            yield job
        return
    for job in active_jobs:
        job.aux.setdefault("followed_since", time.time())
        state, nodes = states.get(job.external_jobid, ("", ""))
        if not state:
            job.aux["missed"] = job.aux.get("missed", 0) + 1
            if job.aux["missed"] > 1:
                state = state_of_forgotten(job)
        if state == "COMPLETED":
            self.report_job_success(job)
            if not settings.keep_successful_logs:
                log_file(job).unlink(missing_ok=True)
        elif state in ENDED_BADLY or state == "FORGOTTEN":
            if state == "NODE_FAIL" and nodes:
                self._failed_nodes.add(nodes)  # not used again in this run
            self.report_job_error(job, msg=f"Slurm job {job.external_jobid}: {state}. ", aux_logs=[str(log_file(job))])
        else:
            yield job


def run_jobs(self: Any, jobs: Sequence[Any]) -> None:
    """Submit all jobs now, in arrays of those that are ready. Replaces the plugin's method of this name.

    All tasks of an array get the same resources, so a job that is retried with more time has an array of its own.
    """
    groups: dict[Any, list[Any]] = {}
    for job in jobs:
        if not job.is_group() and {"all", job.name} & self.array_jobs:
            resources = {name: value for name, value in job.resources.items() if not name.startswith("disk")}
            groups.setdefault((job.name, job.threads, str(sorted(resources.items()))), []).append(job)
        else:
            self._submit_job(job)
    for group in groups.values():
        for first in range(0, len(group), ARRAY_TASKS):
            tasks = group[first : first + ARRAY_TASKS]
            if len(tasks) > 1:
                self._submit_array_jobs(tasks)
            else:
                self._submit_job(tasks[0])
