"""Searches and training runs that are killed resume from what they finished, to the same bytes."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from repsearch.jobs import DiversityJob, FitnessJob, TrainJob
from repsearch.learning import precision, training
from repsearch.search import backends
from repsearch.search.recipe import Recipe
from repsearch.stages import batches, cache
from repsearch.stages import probes as stage_probes
from repsearch.stages import search as stage_search
from repsearch.stages import train as stage_train
from repsearch.storage import resume
from repsearch.storage.resume import seal, unseal
from tests.faults import fault, made
from tests.faults.made import CPU, IMAGES, MIXED, RECIPE
from tests.workflow import test_workflow

KILLED = -signal.SIGKILL
RUN_FILES = ("epochs.csv", "weights.pt", "summary.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With one shard of all images, `whole`, searched without a fault, in one batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a command does: training's sums depend on it
    folder = made.prepare(tmp_path_factory.mktemp("faults"))
    made.search(folder, "whole", save_seconds=1e9)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CPU_BATCH_NUMBERS", fault.BATCH)


class Cut(BaseException):
    """Ends a stage in the middle, in this process: quicker than a kill."""


def cut(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, work: Callable[[], Any]) -> None:
    """Do `work` until the `number`th call of a function."""
    real, calls = getattr(owner, name), iter(range(1, number))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise Cut
        return real(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(owner, name, wrapped)
        work()


def saved_parts(folder: Path, name: str) -> list[Path]:
    """The parts of an unfinished shard."""
    return sorted(resume.folder(folder / f"{name}.zarr.zip").glob("*.part"))


def state(folder: Path, name: str) -> Path:
    """The state of an unfinished training run."""
    return resume.folder(folder / name) / "0000.part"


def content(manifest: Path) -> str:
    return str(json.loads(manifest.read_text())["sha256"])


def said(caplog: pytest.LogCaptureFixture, pattern: str) -> bool:
    return bool(re.search(pattern, caplog.text))


# Search


def test_a_search_killed_again_and_again_ends_as_if_it_had_not_been(folder: Path) -> None:
    """In the middle of a batch, of saving it, and of writing the shard."""
    command = made.search_command(folder, "killed")
    points = ("stages.search:search 3", "storage.files:os.fsync 2", "storage.shards:write_manifest 1")
    before = []
    for point in points:
        status, text = made.run(f"kill {point}", command)
        assert status == KILLED, text
        before += [int(n) for n in re.findall(r"resuming after (\d+) finished searches", text)]
    status, text = made.run("none", command)
    assert status == 0 and f"resuming after {IMAGES} finished" in text
    assert 0 < before[0] < before[1] < IMAGES
    assert content(folder / "killed.json") == content(folder / "whole.json")
    assert not resume.folder(folder / "killed.zarr.zip").exists()


def test_a_search_whose_result_depends_on_the_batches_keeps_their_bounds(
    folder: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    undisturbed = content(made.search(folder, "mixed", MIXED))
    for number in (2, 3):
        cut(monkeypatch, stage_search, "search", number, lambda: made.search(folder, "cut", MIXED))
    assert content(made.search(folder, "cut", MIXED)) == undisturbed
    assert said(caplog, "resuming after")
    other = replace(MIXED, statistics_images=6)
    assert content(made.search(folder, "other", other)) != undisturbed  # or this test could not fail


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swap(path: Path) -> None:
    """An intact part in the place of another."""
    other = path.with_name("0000.part")
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [_truncate, _alter, _swap, Path.unlink])
def test_a_damaged_file_is_searched_again(
    folder: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], Any],
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    name = f"damaged-{damage.__name__}"
    cut(monkeypatch, stage_search, "search", 4, lambda: made.search(folder, name))
    damage(saved_parts(folder, name)[1])  # the second of three
    caplog.clear()
    assert content(made.search(folder, name)) == content(folder / "whole.json")
    assert len(re.findall("held parts that are damaged or of another job: deleted them", caplog.text)) == 1
    images = re.search(r"resuming after (\d+) finished", caplog.text)
    assert images and 0 < int(images[1]) < IMAGES / 2  # those of the first alone


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], Any]] = {
    "code": lambda patch: patch.setattr(cache, "code_version", lambda *_: "other"),
    "torch": lambda patch: patch.setattr(torch, "__version__", "0.0"),
    "threads": lambda patch: patch.setattr(torch, "get_num_threads", lambda: 99),
    "path": lambda patch: patch.setattr(backends, "computed_by", lambda *_: "gpu"),
    "processor": lambda patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other"),
    "data": lambda patch: patch.setattr(cache, "read_manifest", lambda _: {"sha256": "other", "key": {}}),
    "nothing": lambda patch: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_of_another_search_is_used(
    folder: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    caplog.set_level(logging.INFO)
    name = f"changed-{change}"
    cut(monkeypatch, stage_search, "search", 3, lambda: made.search(folder, name))
    CHANGES[change](monkeypatch)
    made.search(folder, name)
    assert said(caplog, "resuming after") == (change == "nothing")
    assert said(caplog, "damaged or of another job: deleted them") != (change == "nothing")


def test_another_recipe_or_another_range_uses_nothing(
    folder: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cut(monkeypatch, stage_search, "search", 3, lambda: made.search(folder, "recipe"))
    made.search(folder, "recipe", replace(RECIPE, seed=1))
    cut(monkeypatch, stage_search, "search", 3, lambda: made.search(folder, "range"))
    made.search(folder, "range", stop=30)
    assert not said(caplog, "resuming")


def test_the_parts_of_a_finished_shard_are_deleted(
    folder: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cut(monkeypatch, stage_search, "forget", 1, lambda: made.search(folder, "finished"))
    assert saved_parts(folder, "finished")
    made.search(folder, "finished")
    assert not resume.folder(folder / "finished.zarr.zip").exists() and said(caplog, "is up to date")


def test_short_work_leaves_no_files(folder: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, stage_search, "search", 4, lambda: made.search(folder, "short", save_seconds=1e9))
    assert not saved_parts(folder, "short")


def test_a_sealed_file_opens_with_its_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seal(path, {"a": 1, "b": [2]}, b"content")
    assert unseal(path, {"b": [2], "a": 1}) == b"content"
    sealed = path.read_bytes()
    for place in range(len(sealed)):
        for altered in (sealed[:place], sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]):
            path.write_bytes(altered)
            assert unseal(path, {"a": 1, "b": [2]}) is None
    path.write_bytes(sealed)
    assert unseal(path, {"a": 1, "b": [3]}) is None and unseal(tmp_path / "none", {}) is None
    assert unseal(tmp_path, {}) is None


# Probes


@pytest.mark.parametrize("recipe", [RECIPE, MIXED])
def test_probes_resume_too(
    folder: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recipe: Recipe
) -> None:
    caplog.set_level(logging.INFO)
    inputs = folder / "d.npz", folder / "n.pt"

    def fitness(name: str) -> bytes:
        stage_probes.fitness(FitnessJob(recipe, 25), *inputs, folder / name, CPU)
        return (folder / name).read_bytes()

    def diversity(name: str) -> bytes:
        job = DiversityJob(recipe, 25, 3, 0.0)
        stage_probes.diversity(job, *inputs, made.statistics(folder, recipe), folder / name, CPU)
        return (folder / name).read_bytes()

    kind = recipe.batch_norm
    undisturbed = fitness(f"f-{kind}.csv"), diversity(f"d-{kind}.csv")
    monkeypatch.setattr(resume, "SECONDS", 0.0)
    cut(monkeypatch, stage_probes, "search_one_layer", 5, lambda: fitness(f"fc-{kind}.csv"))
    cut(monkeypatch, stage_search, "search", 11, lambda: diversity(f"dc-{kind}.csv"))
    assert not said(caplog, "resuming after")
    assert (fitness(f"fc-{kind}.csv"), diversity(f"dc-{kind}.csv")) == undisturbed
    assert len(re.findall("resuming after", caplog.text)) == 2
    assert not list(folder.glob(".*.partial"))


# Within the workflow

SITE = "import os\nfrom tests.faults import fault\nfault.install(os.environ['FAULT'])\n"  # Python runs it first


@pytest.mark.slow
def test_finished_searches_survive_failed_jobs_and_a_killed_driver(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    assert test_workflow.snakemake(checkout, "--version").returncode == 0  # lays out the checkout

    def snakemake(shard: int, fault: str, *options: str) -> int:
        target = f"results/tiny/targets/digits/tiny/shard-{shard:04d}.json"
        words = [sys.executable, "-m", "snakemake", target, "--cores", "1", *options, "--configfile", "tiny.yaml"]
        environment = {"PYTHONPATH": f"{tmp_path}/site:{made.ROOT}", "FAULT": fault}
        run = subprocess.run(
            words, cwd=checkout, env={**os.environ, **environment}, capture_output=True, start_new_session=True
        )
        return run.returncode

    def resumed(shard: int) -> int:
        """After how many of the 30 images the last job resumed: Snakemake deletes the log of a job that it retries."""
        log = (checkout / f"results/tiny/logs/search/digits/tiny/{shard:04d}.log").read_text()
        return int(re.findall(r"resuming after (\d+) finished", log)[-1])

    assert snakemake(0, "kill storage.resume:seal 2", "--retries", "9") == 0  # each job saves one more part and dies
    assert 20 <= resumed(0) < 30  # of at least three jobs
    assert snakemake(1, "killgroup storage.resume:seal 2") == KILLED  # the driver as well
    assert snakemake(1, "none", "--unlock") == 0
    assert snakemake(1, "none") == 0  # the profile says rerun-incomplete
    assert 0 < resumed(1) < 15
    folder = checkout / "results/tiny/targets/digits/tiny"
    assert not list(folder.glob(".*.partial"))
    disturbed = [content(folder / f"shard-000{shard}.json") for shard in range(2)]
    for path in folder.glob("shard-*"):
        path.unlink()
    assert [snakemake(shard, "none") for shard in range(2)] == [0, 0]
    assert [content(folder / f"shard-000{shard}.json") for shard in range(2)] == disturbed


# Training


def files(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in RUN_FILES]


def train(folder: Path, name: str, job: TrainJob, save_seconds: float = 0.0) -> list[bytes]:
    network, manifests = (folder / "n.pt", [folder / "whole.json"]) if job.recipe else (None, [])
    with patch.object(resume, "SECONDS", save_seconds):
        stage_train.make(job, folder / "d.npz", network, manifests, folder / name, CPU)
    return files(folder / name)


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(folder: Path) -> None:
    """In the middle of an epoch, of saving, and of writing the results."""
    job = made.train_job("targets")
    undisturbed = train(folder, "undisturbed", job, save_seconds=1e9)
    command = made.train_command(folder, "run", job)
    points = ("learning.training:_evaluate 2", "storage.files:os.fsync 2", "stages.train:write_manifest 1")
    for number, point in enumerate(points):
        status, text = made.run(f"kill {point}", command)
        assert status == KILLED, text
        assert ("resuming from" in text) == (number > 0)
    status, text = made.run("none", command)
    assert status == 0 and "resuming from" in text
    assert files(folder / "run") == undisturbed
    assert not resume.folder(folder / "run").exists()


@pytest.mark.parametrize(
    ("learns", "training_settings"),
    [
        ("labels", {"precision": "bfloat16"}),
        ("labels", {"evaluation": "recalibrated", "schedule": "constant"}),
        ("targets", {"evaluation": "recalibrated", "precision": "float32", "whitening_bias_epochs": 2}),
    ],
)
def test_every_kind_of_run_resumes_after_every_epoch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, learns: str, training_settings: dict[str, Any]
) -> None:
    job = made.train_job(learns, **training_settings)
    name = f"{learns}-{training_settings.get('evaluation', 'batch')}"
    undisturbed = train(folder, f"{name}-undisturbed", job, save_seconds=1e9)
    for _ in range(job.training.epochs - 1):  # each resumes for one epoch and saves
        cut(monkeypatch, training, "_prepare_evaluation", 2, lambda: train(folder, name, job))
    cut(monkeypatch, training, "predict", 1, lambda: train(folder, name, job))  # with at most one epoch to go
    assert train(folder, name, job) == undisturbed


@pytest.mark.parametrize("change", ["truncated", "altered", "settings", "code", "torch", "precision", "nothing"])
def test_the_state_of_another_run_or_a_damaged_one_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    caplog.set_level(logging.INFO)
    job = made.train_job("labels", precision="auto")
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: False)
    cut(monkeypatch, training, "_evaluate", 3, lambda: train(folder, change, job))
    saved = state(folder, change)
    if change == "truncated":
        _truncate(saved)
    elif change == "altered":
        _alter(saved)
    elif change == "settings":
        job = replace(job, training=replace(job.training, learning_rate=1.0))
    elif change == "code":
        monkeypatch.setattr(cache, "code_version", lambda *_: "other")
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "0.0")
    elif change == "precision":
        monkeypatch.setattr(precision, "_has_bfloat16", lambda device: True)
    used: list[Any] = []
    monkeypatch.setattr(stage_train, "train", lambda *a, **k: used.append(k["state"]) or training.train(*a, **k))
    result = train(folder, change, job)
    assert (used[0] is not None) == (change == "nothing")
    assert len(re.findall("damaged or of another job: deleted them", caplog.text)) == (change != "nothing")
    assert result == train(folder, f"{change}-new", job, save_seconds=1e9)


def test_a_short_run_saves_no_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        train(folder, "short", made.train_job("labels"), save_seconds=1e9)

    cut(monkeypatch, training, "_evaluate", 4, work)
    assert not state(folder, "short").exists()


def test_the_state_of_a_finished_run_is_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = made.train_job("labels")
    cut(monkeypatch, stage_train, "forget", 1, lambda: train(folder, "finished", job))
    assert state(folder, "finished").exists()
    train(folder, "finished", job)
    assert not resume.folder(folder / "finished").exists()
