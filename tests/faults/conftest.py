"""The undisturbed run that every disturbed one is compared with."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import pipeline


@dataclass
class Undisturbed:
    """folder: everything made, without a fault. seconds: how long it took. fingerprint: of its results."""

    folder: Path
    seconds: float
    fingerprint: dict[str, str]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = pipeline.checkout(tmp_path_factory.mktemp("undisturbed") / "run")
    started = time.monotonic()
    done = pipeline.run(folder)
    assert done.returncode == 0, done.stdout[-6000:]
    return Undisturbed(folder, time.monotonic() - started, pipeline.fingerprint(folder))
