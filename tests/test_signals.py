"""A job that a signal ends: what its log says, its status, and that nothing looks finished."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from repsearch.signals import ENDING
from tests.faults import made

LONG = replace(made.RECIPE, layers=(replace(made.LAYER, generations=10**6), *[made.LAYER] * 3), batch_norm="batch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.prepare(tmp_path_factory.mktemp("signals"))


def _heed() -> None:
    """Tests that run in the background ignore SIGINT, and so would what they start."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(("kind", "number"), [("search", signal.SIGTERM), ("train", signal.SIGINT)])
def test_a_job_that_a_signal_ends_says_so_and_has_made_nothing(
    request: pytest.FixtureRequest, folder: Path, kind: str, number: int
) -> None:
    log = folder / f"{kind}.log"
    if kind == "search":
        command, ready = [*made.search_command(folder, "long", LONG), "--path", "dense"], "dense"
    else:
        command, ready = made.train_command(folder, "long", made.train_job("labels", epochs=10**6)), "float32"
    before = {path.name for path in folder.iterdir()}
    words = [sys.executable, "-m", "repsearch", *command, "--log", str(log)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=_heed)
    request.addfinalizer(process.kill)  # where the test fails
    started = time.monotonic()
    while not (log.is_file() and ready in log.read_text()):
        assert process.poll() is None and time.monotonic() < started + 60
        time.sleep(0.1)
    time.sleep(1)  # into its work
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    for text in (log.read_text(), said):
        assert f"stopped by {signal.Signals(number).name}" in text.splitlines()[-1]
        assert "Traceback" not in text
    left = {path.name for path in folder.iterdir()} - before - {log.name}
    assert all(name.startswith(".long") for name in left), left


def test_a_signal_that_is_ignored_ends_nothing(tmp_path: Path) -> None:
    """As under nohup."""
    script = (
        "import os, signal; from repsearch import signals; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "signals.report(None); os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "alive\n", "")
