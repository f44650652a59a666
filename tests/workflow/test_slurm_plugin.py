"""The Slurm profile fits the workflow, and Slurm's answers are understood. tests/slurm runs a real Slurm."""

import asyncio
import importlib.util
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from repsearch.devices import device_wanted
from tests.workflow.test_workflow import ROOT, planned, snakemake
from workflow import slurm_plugin as slurm

PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
RULES = {
    name: text
    for path in (ROOT / "workflow/rules").glob("*.smk")
    for name, text in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
}
RULES |= {
    name: RULES[base]
    for path in (ROOT / "workflow/rules").glob("*.smk")
    for base, name in re.findall(r"^use rule (\w+) as (\w+) with:", path.read_text(), re.MULTILINE)
}
LOCAL = {
    name
    for path in (ROOT / "workflow/rules").glob("*.smk")
    for names in re.findall(r"^localrules:\n(.*?)\n\n", path.read_text(), re.MULTILINE | re.DOTALL)
    for name in re.findall(r"^ +(\w+),", names, re.MULTILINE)
}


def test_the_profile_names_each_rule_that_slurm_runs_and_gives_gpu_rules_the_gpu_partition() -> None:
    assert len(RULES) > 5 and "table" in LOCAL
    assert PROFILE["set-resources"].keys() == RULES.keys() - LOCAL
    for name, resources in PROFILE["set-resources"].items():
        wants_gpu = "gpu=" in RULES[name]
        assert (resources.get("slurm_partition") == "gpu") == wants_gpu, name
        assert {"mem_mb", "runtime"} <= resources.keys(), name
    assert set(PROFILE["slurm-array-jobs"].split(",")) <= PROFILE["set-resources"].keys()


def test_the_profile_repeats_what_the_default_one_says_of_retries() -> None:
    default = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    for key in default.keys() - {"cores", "resources"}:
        assert PROFILE[key] == default[key], key


def test_what_a_user_types_on_a_login_node_plans_everything(tmp_path: Path) -> None:
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("Snakemake's Slurm plugin is not installed: pip install '.[slurm]'")
    run = snakemake(tmp_path, "--workflow-profile", "slurm", "-n", "all", device="auto")
    assert planned(run)["search_shard"] == 2
    assert "profile profiles/slurm" in run.stdout + run.stderr


def test_auto_means_a_gpu_in_jobs_that_run_elsewhere() -> None:
    assert [device_wanted(name, True) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    assert [device_wanted(name, False) for name in ("auto", "cpu", "cuda")] == ["auto", "cpu", "cuda"]


class Plugin:
    """What the fixed methods need of the plugin's executor; keeps what they report."""

    def __init__(self) -> None:
        settings = SimpleNamespace(init_seconds_before_status_checks=20, keep_successful_logs=False)
        self.workflow = SimpleNamespace(executor_settings=settings)
        self.logger = logging.getLogger()
        self.run_uuid = "run"
        self.array_jobs = {"search_shard"}
        self._failed_nodes: set[str] = set()
        self.ended: dict[str, str] = {}
        self.submitted: list[list[str]] = []
        self.next_seconds_between_status_checks = 0

    def report_job_success(self, job: Any) -> None:
        self.ended[job.external_jobid] = "done"

    def report_job_error(self, job: Any, msg: str, aux_logs: list[str]) -> None:
        self.ended[job.external_jobid] = msg

    def _submit_job(self, job: Any) -> None:
        self.submitted.append([job.title])

    def _submit_array_jobs(self, jobs: list[Any]) -> None:
        self.submitted.append([job.title for job in jobs])

    def poll(self, jobs: list[Any]) -> list[Any]:
        async def once() -> list[Any]:
            return [job async for job in slurm.check_active_jobs(self, jobs)]

        return asyncio.run(once())


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the commands of a made-up Slurm print: says(squeue="…"). A command that is None or not named fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def write(**commands: str | None) -> None:
        for name in ("squeue", "sacct", "scontrol"):
            text = commands.get(name)
            (folder / f"{name}.txt").write_text(text or "")
            (folder / name).write_text(f"#!/bin/sh\ncat {folder}/{name}.txt\nexit {int(text is None)}\n")
            (folder / name).chmod(0o755)

    return write


def followed(folder: Path, *ids: str) -> list[Any]:
    output = [folder / "made"]
    return [
        SimpleNamespace(
            external_jobid=number,
            aux={"slurm_logfile": folder / f"{number}.log"},
            job=SimpleNamespace(output=output),
        )
        for number in ids
    ]


def test_each_state_is_understood(says: Any, tmp_path: Path) -> None:
    says(squeue="1|COMPLETED|a\n2|RUNNING|a\n3_1|FAILED|a\n3_2|PENDING|\n4|CANCELLED|\n5|PREEMPTED|b\n6|NODE_FAIL|c\n")
    plugin, jobs = Plugin(), followed(tmp_path, "1", "2", "3_1", "3_2", "4", "5", "6")
    assert [job.external_jobid for job in plugin.poll(jobs)] == ["2", "3_2"]
    assert plugin.ended["1"] == "done" and "3_1: FAILED" in plugin.ended["3_1"]
    assert plugin.ended.keys() == {"1", "3_1", "4", "5", "6"}
    assert plugin._failed_nodes == {"c"}


def test_no_job_is_forgotten_while_squeue_fails(says: Any, tmp_path: Path) -> None:
    plugin, jobs = Plugin(), followed(tmp_path, "1", "2")
    says(squeue=None)
    for _ in range(10):
        jobs = plugin.poll(jobs)
    assert len(jobs) == 2 and not plugin.ended
    says(squeue="1|COMPLETED|a\n2|TIMEOUT|a\n")
    assert not plugin.poll(jobs) and plugin.ended["1"] == "done" and "TIMEOUT" in plugin.ended["2"]


@pytest.mark.parametrize(
    ("accounting", "made", "ended"),
    [
        ("COMPLETED\n", False, "done"),
        ("CANCELLED by 0\n", True, "Slurm job 1: CANCELLED. "),
        (None, True, "done"),
        (None, False, "Slurm job 1: FORGOTTEN. "),
    ],
)
def test_a_job_that_squeue_no_longer_lists_is_checked_once_more(
    says: Any, tmp_path: Path, accounting: str | None, made: bool, ended: str
) -> None:
    says(squeue="", sacct=accounting)
    (tmp_path / "made").write_text("before")
    os.utime(tmp_path / "made", (time.time() - 60,) * 2)
    plugin, jobs = Plugin(), followed(tmp_path, "1")
    jobs = plugin.poll(jobs)
    assert len(jobs) == 1 and not plugin.ended
    if made:
        os.utime(tmp_path / "made", (time.time() + 1,) * 2)
    assert not plugin.poll(jobs) and plugin.ended == {"1": ended}


@pytest.mark.parametrize(("age", "pause"), [("300 sec", 20), ("30 sec", 10), ("", 20)])
def test_squeue_is_asked_before_slurm_forgets(says: Any, age: str, pause: int) -> None:
    says(squeue="", scontrol=f"MessageTimeout = 10 sec\nMinJobAge               = {age}\n" if age else None)
    plugin = Plugin()
    assert plugin.poll([]) == []
    assert plugin.next_seconds_between_status_checks == pause


def test_arrays_have_the_jobs_that_are_ready_and_need_the_same_resources() -> None:
    def job(title: str, name: str = "search_shard", attempt: int = 1) -> Any:
        resources = {"mem_mb": 16000 * attempt, "disk_mb": len(title)}
        return SimpleNamespace(title=title, name=name, threads=1, resources=resources, is_group=lambda: False)

    plugin = Plugin()
    first = [job(f"s{number}") for number in range(slurm.ARRAY_TASKS + 1)]
    slurm.run_jobs(plugin, [*first, job("again", attempt=2), job("n1", "network"), job("n2", "network")])
    assert sorted(plugin.submitted) == sorted(
        [["n1"], ["n2"], [task.title for task in first[:-1]], [first[-1].title], ["again"]]
    )


def test_the_plugins_methods_are_replaced_where_snakemake_has_loaded_it() -> None:
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("Snakemake's Slurm plugin is not installed: pip install '.[slurm]'")
    code = (
        "import snakemake_executor_plugin_slurm as plugin; from workflow import slurm_plugin as slurm; slurm.install();"
        "assert plugin.Executor.run_jobs is slurm.run_jobs;"
        "assert plugin.Executor.check_active_jobs is slurm.check_active_jobs"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
