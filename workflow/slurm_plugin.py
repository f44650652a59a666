"""Mends Snakemake's Slurm plugin (snakemake-executor-plugin-slurm 2.8), so that no job is waited for in vain.

As it is, the plugin waits for ever
  - once Slurm's controller has not answered for some seconds: it then forgets the jobs that it follows;
  - for a job that ended more than MinJobAge seconds ago, of which squeue says nothing any more;
  - for a preempted job that Slurm doesn't start again;
  - for jobs of a rule in `slurm-array-jobs`, where fewer may run than are ready: it collects them for one array.
The two methods in question are replaced, in the process that submits, by those below.
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
ANSWER_SECONDS = 60  # for squeue and its like
# The plugin passes an array's commands as one argument, of 128 KiB at most; one takes some 4 KB.
ARRAY_TASKS = 10


def install() -> None:
    """Mend the plugin where Snakemake has loaded it: it does where it is installed."""
    if PLUGIN in sys.modules:
        executor = sys.modules[PLUGIN].Executor
        executor.check_active_jobs = check_active_jobs
        executor.run_jobs = run_jobs


def ask(*command: str) -> str | None:
    """What a Slurm command prints; None where it fails, doesn't answer or isn't there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def job_states(run: str) -> dict[str, tuple[str, str]] | None:
    """State and nodes of the jobs of that name (the run's), by job ID, array tasks as ID_TASK; None: no answer."""
    listed = ask("squeue", "--noheader", "--array", "--states=all", f"--name={run}", "--format=%i|%T|%N")
    if listed is None:
        return None
    rows = (line.strip().split("|") for line in listed.splitlines() if line.count("|") == 2)
    return {job: (state, nodes) for job, state, nodes in rows}


def pause(wanted: int) -> int:
    """Seconds from one squeue to the next: short enough to see each job's end before Slurm forgets it."""
    config = ask("scontrol", "show", "config") or ""
    ages = [line.split("=")[1].split()[0] for line in config.splitlines() if line.startswith("MinJobAge")]
    return min(wanted, max(1, int(ages[0]) // 3)) if ages and ages[0].isdigit() else wanted


def state_of_forgotten(job: Any) -> str:
    """How a job ended that squeue lists no longer: as the accounting says or, without one, as its files tell."""
    told = (ask("sacct", "-X", "-n", "-P", "-o", "State", "-j", job.external_jobid) or "").split()
    if told and (told[0] == "COMPLETED" or told[0] in ENDED_BADLY):
        return told[0]
    files = [Path(str(each)) for each in job.job.output]  # each is written whole or not at all
    made = all(path.exists() and path.stat().st_mtime >= job.aux["followed_since"] for path in files)
    return "COMPLETED" if made else "FORGOTTEN"


def log_file(job: Any) -> Path:
    """Slurm's log of a job. The plugin states it wrongly for array tasks: a folder too deep."""
    stated: Path = job.aux["slurm_logfile"]
    flat = stated.parent.parent / stated.name
    return flat if flat.exists() else stated


async def check_active_jobs(self: Any, active_jobs: Sequence[Any]) -> AsyncGenerator[Any, None]:
    """Report the jobs that ended and yield those to ask for again. In place of the plugin's method of this name."""
    settings = self.workflow.executor_settings
    self.next_seconds_between_status_checks = pause(settings.init_seconds_before_status_checks)
    states = job_states(self.run_uuid) if active_jobs else {}
    if states is None:
        self.logger.warning("squeue gives no answer; it will be asked again.")
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
    """Submit all jobs now, in arrays of what is here. In place of the plugin's method of this name.

    An array's tasks ask for the same: a job that runs again, with more time, is in no array with those that don't.
    """
    groups: dict[Any, list[Any]] = {}
    for job in jobs:
        if not job.is_group() and {"all", job.name} & self.array_jobs:
            asked = {name: value for name, value in job.resources.items() if not name.startswith("disk")}
            groups.setdefault((job.name, job.threads, str(sorted(asked.items()))), []).append(job)
        else:
            self._submit_job(job)
    for group in groups.values():
        for first in range(0, len(group), ARRAY_TASKS):
            tasks = group[first : first + ARRAY_TASKS]
            if len(tasks) > 1:
                self._submit_array_jobs(tasks)
            else:
                self._submit_job(tasks[0])
