"""SIGKILL at random moments: of the driver with its jobs, of the driver alone, of a job. Nothing is lost."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import pipeline, tally
from tests.faults.conftest import Undisturbed

pytestmark = [pytest.mark.fault, pytest.mark.slow]
SEED = 5


def driver_and_jobs(process: subprocess.Popen[bytes], _: random.Random) -> None:
    pipeline.kill_group(process)


def driver_alone(process: subprocess.Popen[bytes], _: random.Random) -> None:
    """Its jobs continue while it is started again and starts the same jobs."""
    process.kill()
    process.wait()


def a_job(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """Kill a running job, if there is one. The driver then ends by itself, as after any failed job."""
    running = pipeline.jobs(process)
    if not running:
        raise tally.Missed
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(running), signal.SIGKILL)
    if process.wait(7200) == 0:  # the job had ended when the signal came
        raise tally.Missed


def unlocked(folder: Path) -> None:
    done = pipeline.run(folder, "all", "--unlock")
    assert done.returncode == 0, done.stdout[-3000:]


def lives(
    folder: Path, chance: random.Random, longest: float, kill: Callable[..., None], wanted: int
) -> Iterator[None]:
    """Start the pipeline in `folder` again and again, killed after a random time, until it ends or `wanted` kills."""
    kills, groups = 0, []
    while kills < wanted:
        process = pipeline.start(folder, *pipeline.A_PART)
        groups.append(process.pid)
        try:
            try:
                status = process.wait(chance.uniform(0, longest))
            except subprocess.TimeoutExpired:
                pass
            else:
                assert status == 0, (folder / "printed.txt").read_text(errors="replace")[-6000:]
                break  # it ended before its kill
            with contextlib.suppress(tally.Missed):
                kill(process, chance)
                kills += 1
                yield
        finally:
            if process.poll() is None:
                pipeline.kill_group(process)
        unlocked(folder)
    for group in groups:
        pipeline.wait_for_group(group)


@pytest.mark.parametrize(
    ("kill", "wanted"),
    [(driver_and_jobs, 50), (driver_alone, 15), (a_job, 15)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_killed_at_random_moments(
    kill: Callable[..., None], wanted: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Several pipelines one after another, each killed over and over until it is done, until there are enough kills.

    The times between a start and its kill are up to a third of an undisturbed run's: so the kills are spread over the
    work, which progresses between them, and over the planning at each start.
    """
    chance = random.Random(SEED)
    seconds = undisturbed_seconds(tmp_path / "undisturbed")
    total = rounds = 0
    name = f"SIGKILL at a random moment: {kill.__name__.replace('_', ' ')}"
    while total < wanted:
        rounds += 1
        folder = pipeline.checkout(tmp_path / str(rounds))
        with contextlib.ExitStack() as faults:
            started, before = time.monotonic(), total
            for _ in lives(folder, chance, seconds / 3, kill, wanted - total):
                faults.enter_context(tally.fault(name))
                total += 1
            pipeline.resume(folder, *pipeline.A_PART)
            compare(folder, undisturbed)
        print(f"pipeline {rounds}: {total - before} kills in {time.monotonic() - started:.0f} s, {total} in all")


def undisturbed_seconds(folder: Path) -> float:
    started = time.monotonic()
    assert pipeline.run(pipeline.checkout(folder), *pipeline.A_PART).returncode == 0
    return time.monotonic() - started


def compare(folder: Path, undisturbed: Undisturbed) -> None:
    contents = pipeline.fingerprint(folder)
    assert {f"{name}.csv" for name in ("tables/table1", "figures/figure3", "probes/diversity")} <= contents.keys()
    different = [name for name, value in contents.items() if value != undisturbed.fingerprint[name]]
    assert not different, different
    assert not pipeline.leftovers(folder)
    again = pipeline.run(folder, *pipeline.A_PART, "-n")
    assert "Nothing to be done" in again.stdout, again.stdout[-3000:]
