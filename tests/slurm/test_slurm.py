"""The workflow on a real Slurm, by profiles/slurm: what runs where, and that a fault loses nothing.

make slurm. Slurm is installed and started where it can be (root on Debian); elsewhere these tests skip.
"""

import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import tally
from tests.slurm import cluster
from tests.slurm.cluster import CPU_RULES, GPU_RULES, Job, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

TABLE = "results/tiny/tables/table2.csv"
FIGURE = "results/tiny/figures/figure3.csv"
SHARDS = [f"results/tiny/targets/digits/tiny/shard-000{shard}.json" for shard in (0, 1)]


def gone(folder: Path) -> bool:
    """Whether no job of a folder waits or runs."""
    return not any(job.state in ("PENDING", "RUNNING", "COMPLETING") for job in cluster.jobs(folder))


def by_id(folder: Path) -> dict[str, Job]:
    return {job.id: job for job in cluster.jobs(folder)}


def test_every_stage_runs_under_slurm_and_only_gpu_stages_hold_a_gpu(undisturbed: Path) -> None:
    jobs = cluster.jobs(undisturbed)
    assert {job.state for job in jobs} == {"COMPLETED"}
    plan = re.findall(r"^(\w+) +(\d+)$", (undisturbed / "planned.txt").read_text(), re.MULTILINE)
    planned = {rule: int(count) for rule, count in plan if rule in GPU_RULES | CPU_RULES}
    assert planned["search_shard"] == 2 and planned["train"] > 2
    assert Counter(job.rule for job in jobs) == planned  # and no other: the small rules ran here
    for job in jobs:
        assert (job.partition, job.gpus) == (("gpu", 1) if job.rule in GPU_RULES else ("cpu", 0)), job
    assert len({job.id.partition("_")[0] for job in jobs if job.rule == "search_shard"}) == 1  # an array
    assert (undisturbed / "results/tiny/report.html").exists()


def test_a_job_sees_its_own_gpu_alone(slurm: None) -> None:
    """What the profile asks for makes Slurm show a job one device, and another job another."""
    script = "test $CUDA_VISIBLE_DEVICES && echo $CUDA_VISIBLE_DEVICES && sleep 2"
    srun = ["srun", "--partition=gpu", "--gpus=1", "--mem=100", "sh", "-c", script]
    both = [subprocess.Popen(srun, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    devices = [process.communicate(timeout=cluster.PATIENCE)[0].strip() for process in both]
    if not all(process.returncode == 0 for process in both) and not list((cluster.RUN / "dev").iterdir()):
        pytest.skip("no device files here (mknod): Slurm counts GPUs and assigns none")
    assert all(device.isdigit() for device in devices) and devices[0] != devices[1]


@pytest.mark.fault
def test_jobs_cancelled_requeued_and_timed_out_run_again(undisturbed: Path, tmp_path: Path) -> None:
    folder = cluster.checkout(tmp_path / "run", undisturbed)
    driver = cluster.submit(folder, TABLE, FIGURE)
    with (
        tally.fault("Slurm job out of time"),
        tally.fault("Slurm job cancelled (scancel)"),
        tally.fault("Slurm job requeued (scontrol requeue)"),
    ):
        try:
            (late,) = wait_until(lambda: cluster.running(folder, "probe_diversity"), "the probe runs", driver)
            cluster.send(late, signal.SIGSTOP)  # it will not be done in time
            cluster.slurm("scontrol", "update", f"JobId={late.id}", "TimeLimit=1")
            first = wait_until(lambda: cluster.running(folder, "search_shard"), "a shard is searched", driver)[0]
            cluster.slurm("scancel", first.id)
            second = wait_until(
                lambda: [job for job in cluster.running(folder, "search_shard") or [] if job.id != first.id],
                "another shard is searched",
                driver,
            )[0]
            cluster.slurm("scontrol", "requeue", second.id)
            cluster.slurm("scontrol", "update", f"JobId={second.id}", "StartTime=now")  # Slurm would wait two minutes
            cluster.finish(driver, folder)
        finally:
            driver.kill()
        jobs = by_id(folder)
        assert jobs[late.id].state == "TIMEOUT"
        assert jobs[first.id].state == "CANCELLED"
        assert jobs[second.id].restarts == 1 and jobs[second.id].state == "COMPLETED"
        again = {job.rule: job for job in jobs.values() if job.id not in (late.id, first.id, second.id)}
        for before in (late, first):  # more time and memory the second time
            assert again[before.rule].minutes == 2 * before.minutes, before.rule
            assert again[before.rule].memory_mb >= 2 * 16000, before.rule
        assert gone(folder)
        cluster.compare(folder, undisturbed)


@pytest.mark.fault
def test_snakemake_killed_and_started_again_while_its_jobs_run_on(undisturbed: Path, tmp_path: Path) -> None:
    """The jobs of the first are held until those of the second run too: two jobs for each file at once."""
    folder = cluster.checkout(tmp_path / "run", undisturbed)
    driver = cluster.submit(folder, TABLE)
    with tally.fault("Snakemake killed and started again while its Slurm jobs run on"):
        orphans = wait_until(lambda: cluster.running(folder, "search_shard", 2), "both shards are searched", driver)
        driver.kill()
        driver.wait()
        for job in orphans:
            cluster.send(job, signal.SIGSTOP)
        assert all(by_id(folder)[job.id].state == "RUNNING" for job in orphans)
        unlocked = subprocess.run(cluster.command("--unlock"), cwd=folder, capture_output=True, text=True)
        assert unlocked.returncode == 0, unlocked.stderr
        driver = cluster.submit(folder, TABLE)
        try:
            wait_until(
                lambda: [j for j in cluster.running(folder, "search_shard") or [] if j.name != orphans[0].name],
                "a shard is searched a second time",
                driver,
            )
            for job in orphans:
                cluster.send(job, signal.SIGCONT)
            cluster.finish(driver, folder)
        finally:
            driver.kill()
        wait_until(lambda: gone(folder), "the first run's jobs end")
        assert {by_id(folder)[job.id].state for job in orphans} == {"COMPLETED"}
        cluster.compare(folder, undisturbed)
        done = subprocess.run(cluster.command("-n", TABLE), cwd=folder, capture_output=True, text=True)
        assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("forgets", ["", ", one job forgotten"], ids=["remembers", "forgets"])
def test_slurms_controller_stopped_for_a_while(undisturbed: Path, tmp_path: Path, forgets: str) -> None:
    """With one job at a time, fewer than are ready: the plugin would neither submit them nor follow them.

    A controller that is killed forgets what was submitted in its last seconds, and gives the same job IDs again.
    """
    folder = cluster.checkout(tmp_path / "run", undisturbed, jobs=1)
    shutil.copytree(cluster.RUN / "ctld", tmp_path / "before")
    driver = cluster.submit(folder, *SHARDS)
    with tally.fault("Slurm's controller out of reach for a while" + forgets):
        try:
            (job,) = wait_until(lambda: cluster.running(folder, "search_shard"), "a shard is searched", driver)
            cluster.stop_controller(signal.SIGKILL if forgets else signal.SIGTERM)
            if forgets:
                shutil.copytree(tmp_path / "before", cluster.RUN / "ctld", dirs_exist_ok=True)
            wait_until(lambda: cluster.said(folder).count("squeue doesn't answer") > 1, "squeue fails", driver)
            subprocess.run([cluster.HERE / "start.sh", "--controller"], check=True)
            cluster.finish(driver, folder)
        finally:
            driver.kill()
        if not forgets:
            assert by_id(folder)[job.id].state == "COMPLETED"
            assert sum(each.rule == "search_shard" for each in cluster.jobs(folder)) == 2
        cluster.compare(folder, undisturbed)
