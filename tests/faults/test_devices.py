"""One job per GPU, on as many as there are: with devices that are names, and with a torch that has them."""

import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from repsearch import devices as device
from repsearch.errors import UserError
from repsearch.storage import locks
from tests.faults.fault import PATIENCE, wait
from tests.faults.made import ROOT
from tests.workflow.test_workflow import snakemake

# A job: takes a GPU, records it in the journal, waits for the file `go`, records the end.
JOB = """
import logging, os, sys, time
from pathlib import Path
from repsearch.storage.locks import hold_one
folder, names, user = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
if user:
    os.umask(0o077)
    os.setuid(user)
logging.basicConfig(level=logging.INFO, filename=folder / f"{os.getpid()}.log")
name = names[hold_one(names, folder, 0.05)]
def say(sign):
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND)
    os.write(journal, f"{sign} {name} {os.getpid()}\\n".encode())
say("+")
while not (folder / "go").exists():
    time.sleep(0.02)
say("-")
"""
NAMES = ("gpu-a", "gpu-b", "gpu-c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of locks, as /tmp is, with a journal that all users may write."""
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o777 == 0o700:  # pytest's own
            path.chmod(0o755)
    folder = tmp_path / "locks"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "journal").touch()
    (folder / "journal").chmod(0o666)
    return folder


def start(folder: Path, names: Sequence[str] = NAMES, user: int = 0) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-c", JOB, str(folder), ",".join(names), str(user)]
    return subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def waits(folder: Path) -> list[str]:
    """The logs of the jobs that wait or waited."""
    return [text for path in folder.glob("*.log") if "waiting" in (text := path.read_text())]


def journal(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "journal").read_text().splitlines()]


def overlaps(lines: list[list[str]]) -> int:
    """How often a job got a GPU while another job had it."""
    at: dict[str, str] = {}
    wrong = 0
    for sign, name, job in lines:
        if sign == "+":
            wrong += name in at
            at[name] = job
        else:
            wrong += at.pop(name, None) != job
    return wrong


def test_overlaps_are_seen() -> None:
    assert overlaps([["+", "a", "1"], ["-", "a", "1"], ["+", "a", "2"], ["+", "b", "3"]]) == 0
    assert overlaps([["+", "a", "1"], ["+", "a", "2"]]) == 1


def test_eight_jobs_share_three_gpus_one_at_a_time(folder: Path) -> None:
    jobs = [start(folder) for _ in range(8)]
    wait(lambda: len(journal(folder)) == len(NAMES) and len(waits(folder)) == 5, *jobs)
    assert {name for _, name, _ in journal(folder)} == set(NAMES)
    (folder / "go").touch()
    assert [job.wait(timeout=PATIENCE) for job in jobs] == [0] * 8
    assert overlaps(journal(folder)) == 0 and len(journal(folder)) == 16
    assert all(text.count("waiting: all are taken by other jobs (gpu-a, gpu-b, gpu-c)") == 1 for text in waits(folder))


def test_a_killed_job_leaves_its_gpu(folder: Path) -> None:
    first = start(folder, ["gpu-a"])
    wait(lambda: len(journal(folder)) == 1, first)
    second = start(folder, ["gpu-a"])
    wait(lambda: waits(folder), first, second)
    os.kill(first.pid, signal.SIGKILL)
    wait(lambda: len(journal(folder)) == 2, second)
    (folder / "go").touch()
    assert first.wait() == -signal.SIGKILL and second.wait(timeout=PATIENCE) == 0


def test_jobs_that_see_different_gpus_do_not_wait(folder: Path) -> None:
    """As with Slurm: each job sees one GPU, as number 0."""
    jobs = [start(folder, [name]) for name in NAMES]
    wait(lambda: len(journal(folder)) == 3, *jobs)
    (folder / "go").touch()
    assert [job.wait(timeout=PATIENCE) for job in jobs] == [0, 0, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_users_share_the_locks_with_any_umask(folder: Path) -> None:
    first = start(folder, ["gpu-a"], user=12345)
    wait(lambda: len(journal(folder)) == 1, first)
    second = start(folder, ["gpu-a"], user=54321)
    wait(lambda: waits(folder), first, second)
    (folder / "go").touch()
    assert [job.wait(timeout=PATIENCE) for job in (first, second)] == [0, 0]
    assert overlaps(journal(folder)) == 0 and len(journal(folder)) == 4


def test_a_lock_that_was_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removed between opening and locking it: held, it would keep nobody out."""
    real, removed = locks._taken, []

    def taken(lock: int) -> bool:
        if not removed:
            (tmp_path / "gpu").rmdir()
            removed.append(1)
        return real(lock)

    monkeypatch.setattr(locks, "_taken", taken)
    assert locks.hold_one(["gpu"], tmp_path, 0.01) == 0
    assert (tmp_path / "gpu").exists()


def test_a_symbolic_link_in_a_locks_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "gpu").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"/gpu can't be locked"):
        locks.hold_one(["gpu"], tmp_path)


@pytest.mark.parametrize(
    ("files", "visible", "number"),
    [
        ([], None, 0),
        (["nvidiactl", "nvidia-uvm"], None, 0),
        (["nvidia0", "nvidia1", "nvidia10", "nvidiactl"], None, 3),
        (["nvidia0", "nvidia1", "nvidia2"], "0,2", 2),
        (["nvidia0", "nvidia1", "nvidia2"], "GPU-5f1c, GPU-77aa", 2),
        (["nvidia0", "nvidia1"], "0,-1,1", 1),
        (["nvidia0", "nvidia1"], "", 0),
        (["nvidia0"], "0,1,2,3", 1),
        (["kfd", "dri/renderD128", "dri/renderD129"], None, 2),
        (["dri/renderD128"], None, 0),
        (["dxg"], None, 1),
    ],
)
def test_gpus_are_counted_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], visible: str | None, number: int
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    assert device.gpus_found() == number
    assert device.gpus_wanted("auto") == min(1, number)


def test_a_job_computes_on_a_gpu_that_no_other_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a torch that says it has two; the first is another job's."""
    caplog.set_level(logging.INFO)
    gpus = [SimpleNamespace(uuid=f"0000-{number}") for number in range(2)]
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: gpus[number])
    monkeypatch.setattr(ctypes, "CDLL", no_driver)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(device, "LOCKS", folder)
    device._locked_gpu.cache_clear()
    threads = torch.get_num_threads()
    other = start(folder, ["repsearch-gpu-0000-0"])
    wait(lambda: len(journal(folder)) == 1, other)
    try:
        assert [str(device.choose("auto", threads)) for _ in range(2)] == ["cuda:1"] * 2 and chosen == [1]
        assert device.choose("cpu", threads).type == "cpu"
    finally:
        device._locked_gpu.cache_clear()
        (folder / "go").touch()
        other.wait(timeout=PATIENCE)
    assert re.search("GPU 1 of 2: Some GPU, 0000-1", caplog.text)


def test_jobs_share_a_gpu_once_every_gpu_has_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Some GPU")
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(device, "_uuid", "0000-{}".format)
    monkeypatch.setattr(device, "LOCKS", folder)
    monkeypatch.setenv(device.SHARING, "2")
    locked = device._locked_gpu.__wrapped__  # each call is another job's
    assert [locked() for _ in range(4)] == [0, 1, 0, 1]
    names = [f"repsearch-gpu-0000-{number}{place}" for place in ("", "-2") for number in range(2)]
    assert all(not locks._hold_folder(folder / name) for name in names)


def no_driver(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("failing", [None, "cuDeviceGet", "cuDeviceGetUuid_v2", "old"])
def test_slices_of_a_gpu_are_told_apart(failing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the driver; where it can't, by what torch says."""

    class Driver:
        def cuDeviceGet(self, device: object, number: int) -> int:
            device._obj.value = 40 + number  # type: ignore[attr-defined]
            return 100 if failing == "cuDeviceGet" else 0

        if failing != "old":

            def cuDeviceGetUuid_v2(self, words: "ctypes.Array[ctypes.c_ubyte]", device: ctypes.c_int) -> int:
                words[:] = [device.value] * 16
                return 100 if failing == "cuDeviceGetUuid_v2" else 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="of-the-gpu"))
    names = [device._uuid(number) for number in range(2)]
    if failing:
        assert names == ["of-the-gpu"] * 2
    else:
        assert names == ["28282828-2828-2828-2828-282828282828", "29292929-2929-2929-2929-292929292929"]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The devices of a machine whose driver is too old for torch; there is none yet."""

    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update it.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: warnings.warn("too old", stacklevel=1))
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_a_gpu_that_torch_cannot_use_is_no_reason_to_compute_slowly(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken / "nvidia0").touch()
    threads = torch.get_num_threads()
    why = r"torch can use none: The NVIDIA driver on your system is too old \(found version 11040\);"
    with pytest.raises(UserError, match=rf"^device: 'auto' found a GPU, but {why} update .* set device: cpu$"):
        device.choose("auto", threads)
    with pytest.raises(UserError, match=rf"^device: 'cuda' was asked for, but {why} set device: cpu"):
        device.choose("cuda", threads)
    assert device.choose("cpu", threads).type == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.choose("auto", threads).type == "cpu"


@pytest.mark.parametrize(
    ("files", "cuda", "warned"),
    [([], "13.0", False), (["nvidia0"], None, True), (["kfd", "renderD128"], "13.0", True), (["dxg"], "13.0", True)],
)
def test_a_torch_that_was_not_built_for_the_gpu_computes_on_the_cpu_and_says_so(
    broken: Path,
    files: list[str],
    cuda: str | None,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An AMD or Intel GPU that only drives the screen must not stop anyone."""
    (broken / "dri").mkdir()
    for name in files:
        (broken / ("dri" if name.startswith("render") else ".") / name).touch()
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert device.choose("auto", torch.get_num_threads()).type == "cpu"
    assert ("was not built for this machine's GPU" in caplog.text) == warned


# Python runs this first, in Snakemake and its jobs: a machine with the GPUs $GPUS, whose jobs compute on the CPU.
SIMULATED = """
import atexit, os
from pathlib import Path
from repsearch import devices as device
from repsearch.storage import locks
folder, places = Path(os.environ["FOLDER"]), range(int(os.environ.get(device.SHARING, 1)))
names = [f"{name}-{place}" for place in places for name in os.environ["GPUS"].split(",")]
device.DEVICES = folder / "dev"
def say(sign, name):
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND)
    os.write(journal, f"{sign} {name} {os.getpid()}\\n".encode())
def choose(name, threads):
    import torch
    if name == "cuda":
        number = locks.hold_one(names, folder)
        say("+", names[number])
        atexit.register(say, "-", names[number])
    return torch.device("cpu")
device.choose = choose
"""


@pytest.fixture
def checkout(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the tiny scale, on a machine with two simulated GPUs."""
    (folder / "dev").mkdir()
    for number in range(2):
        (folder / f"dev/nvidia{number}").touch()
    (folder / "sitecustomize.py").write_text(SIMULATED)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
    monkeypatch.setenv("FOLDER", str(folder))
    monkeypatch.setenv("GPUS", "gpu-a,gpu-b")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    return checkout


def limit(run: "subprocess.CompletedProcess[str]") -> int:
    """GPU jobs at a time, as Snakemake says."""
    assert run.returncode == 0, run.stderr[-3000:]
    match = re.search(r"Provided resources:.*gpu\b\D*(\d+)", run.stdout + run.stderr)
    assert match is not None
    return int(match[1])


def test_the_limit_is_the_number_of_gpus(checkout: Path) -> None:
    assert limit(snakemake(checkout, "results/tiny/data/digits.npz", "--cores", "8")) == 2


@pytest.mark.slow
def test_the_workflow_runs_as_many_gpu_jobs_as_there_are_gpus(checkout: Path, folder: Path) -> None:
    def search(shards: range, *options: str) -> int:
        targets = [f"results/tiny/targets/digits/tiny/shard-{shard:04d}.json" for shard in shards]
        return limit(snakemake(checkout, *targets, "--cores", "8", *options, device="cuda", shard_images=12))

    assert search(range(3)) == 2
    lines = journal(folder)[2:]  # the first job takes the statistics
    assert len(lines) == 6 and overlaps(lines) == 0
    logs = list((checkout / "results/tiny/logs/search").rglob("*.log"))
    assert len(logs) == 3 and not any("waiting" in log.read_text() for log in logs)  # the scheduler held the third back
    assert search(range(3, 5), "--resources", "gpu=1") == 1
    assert [sign for sign, _, _ in journal(folder)[8:]] == ["+", "-", "+", "-"]
    for made in (checkout / "results/tiny/targets/digits/tiny").glob("shard-000[0-3]*"):
        made.unlink()
    assert search(range(4), "--resources", "gpu=4") == 4  # they share
    assert len(journal(folder)) == 20
    assert {name for _, name, _ in journal(folder)[12:]} <= {f"gpu-{gpu}-{place}" for gpu in "ab" for place in (0, 1)}
    assert not any("waiting" in log.read_text() for log in (checkout / "results/tiny/logs/search").rglob("*.log"))
