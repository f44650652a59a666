"""Two processes never write one output: the second waits, and finds it made or resumes it."""

import errno
import fcntl
import inspect
import json
import logging
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from repsearch import cli
from repsearch.errors import UserError
from repsearch.storage import locks
from repsearch.storage.files import hidden
from tests.faults import made
from tests.faults.fault import PATIENCE, wait


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made.prepare(tmp_path_factory.mktemp("locks"))
    made.search(folder, "whole", save_seconds=1e9)
    return folder


def sha256(manifest: Path) -> str:
    return str(json.loads(manifest.read_text())["sha256"])


@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_the_second_of_two_waits_for_the_first(folder: Path, tmp_path: Path, end: str) -> None:
    name = end.replace(" ", "-")
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    first, second = ([*made.search_command(folder, name), "--log", str(log)] for log in logs)
    holder = made.start("pause stages.search:search 3", first, tmp_path)
    wait((tmp_path / "reached").exists, holder)
    waiter = made.start("none", second)
    wait(lambda: logs[1].exists() and "waiting" in logs[1].read_text(), holder, waiter)
    if end == "is killed":
        os.kill(holder.pid, signal.SIGKILL)
    else:
        (tmp_path / "go").touch()
    errors = holder.communicate(timeout=PATIENCE)[1], waiter.communicate(timeout=PATIENCE)[1]
    assert (holder.returncode == 0) == (end == "finishes") and waiter.returncode == 0, errors
    assert sha256(folder / f"{name}.json") == sha256(folder / "whole.json")
    (line,) = (line for line in logs[1].read_text().splitlines() if "waiting" in line)
    assert re.search(rf"waiting for process {holder.pid} on \S+, which is working on .*/{name}\.zarr\.zip$", line)
    after = "is up to date" if end == "finishes" else r"resuming after \d+ finished searches"
    assert re.search(after, logs[1].read_text())


def test_every_command_that_writes_locks_its_output_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Locked(Exception):
        pass

    def lock(path: Path, output: Path) -> None:
        assert path == hidden(output, "lock") and output == tmp_path / "out"
        raise Locked

    monkeypatch.setattr(locks, "hold", lock)
    callbacks = [command.callback for command in cli.app.registered_commands]
    assert len(callbacks) >= 9
    for callback in callbacks:
        assert callback is not None
        arguments: dict[str, Any] = {name: None for name in inspect.signature(callback).parameters}
        if callback.__module__ == cli.people.__name__:  # locks nothing
            continue
        with pytest.raises(Locked):
            callback(**{**arguments, "out": tmp_path / "out"})


def test_a_lock_ends_with_its_process_alone(tmp_path: Path) -> None:
    """The file stays and is free; naming the last holder locks nothing."""
    path = tmp_path / ".x.lock"
    for _ in range(2):
        if (child := os.fork()) == 0:
            locks.hold(path, tmp_path / "x")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.read_text().startswith(f"process {child} on ")
    with path.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or this raises


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def none(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    caplog.set_level(logging.INFO)
    locks.hold(tmp_path / ".x.lock", tmp_path / "x")
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "run no other job that makes it" in record.message


@pytest.mark.parametrize("target", ["foreign", "missing"])
def test_a_lock_is_never_followed_through_a_symbolic_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "foreign").write_text("another's content, longer than what a lock holds " * 9)
    before = (tmp_path / "foreign").read_text()
    (tmp_path / ".x.lock").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=r"/\.x\.lock is a symbolic link, not a lock: delete it and run again"):
        locks.hold(tmp_path / ".x.lock", tmp_path / "x")
    assert (tmp_path / "foreign").read_text() == before and not (tmp_path / "missing").exists()
    (tmp_path / ".x.lock").unlink()
    locks.hold(tmp_path / ".x.lock", tmp_path / "x")


def test_a_lock_that_cannot_be_made_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write to .*/file"):
        locks.hold(tmp_path / "file" / ".x.lock", tmp_path / "file" / "x")
