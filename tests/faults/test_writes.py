"""Each stage killed at each of its writes; two drivers at once."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults import pipeline, tally
from tests.faults.conftest import Undisturbed

pytestmark = [pytest.mark.fault, pytest.mark.slow]
KILLER = Path(__file__).parent / "killer"
STAGES = ("prepare", "network", "search", "fitness", "diversity", "train", "table", "figure", "report")  # at least


def test_every_stage_killed_at_each_of_its_writes(undisturbed: Undisturbed, tmp_path: Path) -> None:
    folder, killed = pipeline.checkout(tmp_path / "run"), tmp_path / "killed"
    killed.mkdir()
    path = os.pathsep.join([str(KILLER), pipeline.ENVIRONMENT["PYTHONPATH"]])
    environment = {**pipeline.ENVIRONMENT, "PYTHONPATH": path, "REPSEARCH_KILLED": str(killed)}
    kills: set[str] = set()
    while True:
        command = pipeline.command("all", "--keep-going")
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=7200)
        now = {file.name for file in killed.iterdir()}
        assert done.returncode == 0 or now > kills, done.stdout[-3000:] + done.stderr[-3000:]
        print(f"killed: {', '.join(sorted(now - kills)) or 'none'}")
        kills = now
        if done.returncode == 0:
            break
    assert {kill.split()[0] for kill in kills} >= set(STAGES)
    for kill in sorted(kills):
        with tally.fault(f"SIGKILL of a stage while it writes: {kill.split()[0]}"):
            assert pipeline.fingerprint(folder) == undisturbed.fingerprint
            assert not pipeline.leftovers(folder)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 5.0])
def test_two_drivers_at_once(seconds: float, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """One makes everything; the other does too, or says in one line that the folder is locked."""
    folder = pipeline.checkout(tmp_path / "run")
    with tally.fault("two drivers started at once"):
        drivers = [pipeline.start(folder, *pipeline.A_PART)]
        time.sleep(seconds)
        drivers.append(pipeline.start(folder, *pipeline.A_PART))
        statuses = [driver.wait(7200) for driver in drivers]
        printed = (folder / "printed.txt").read_text(errors="replace")
        refused = [line for line in printed.splitlines() if "Directory cannot be locked" in line]
        assert 0 in statuses, printed[-6000:]
        assert len(refused) == sum(status != 0 for status in statuses), printed[-6000:]
        assert "Traceback" not in printed
        done = pipeline.run(folder, *pipeline.A_PART)
        assert done.returncode == 0, done.stdout[-6000:]
        assert pipeline.fingerprint(folder).items() <= undisturbed.fingerprint.items()
