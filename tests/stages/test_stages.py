"""Stages: cached by what they are made from, independent of the shards, written atomically; errors of commands."""

import json
import logging
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from repsearch import devices, metrics
from repsearch.data import prepared as datasets
from repsearch.errors import UserError
from repsearch.jobs import DescribeJob, SearchJob, to_json
from repsearch.learning import precision
from repsearch.network import Shape
from repsearch.search.recipe import SEARCH_LAYERS, Recipe
from repsearch.stages import batches, cache, probes
from repsearch.stages import network as stage_network
from repsearch.stages import search as stage_search
from repsearch.stages import targets as stage_targets
from repsearch.stages import train as stage_train
from repsearch.storage import networks, targets
from repsearch.storage.files import digest
from repsearch.storage.manifest import read_manifest
from tests.stages.made import CPU, NETWORK, RECIPE, search_shard, train_job


def test_targets_do_not_depend_on_the_shards(made: Path) -> None:
    expected: dict[str, str] = {}
    one_shard = targets.read_all([made / "whole.json"], 40, expected)
    parts = targets.read_all([search_shard(made, a, b, f"p{a}") for a, b in ((0, 1), (1, 24), (24, 40))], 40, expected)
    for layer in SEARCH_LAYERS:
        assert np.array_equal(one_shard[layer], parts[layer]), layer


def test_a_shard_is_searched_again_only_if_what_it_is_made_from_changed(made: Path) -> None:
    manifest = search_shard(made, 0, 5, "cached")
    store, _ = targets.paths(manifest)
    before = store.stat().st_mtime_ns
    search_shard(made, 0, 5, "cached")
    assert store.stat().st_mtime_ns == before
    search_shard(made, 0, 5, "cached", Recipe(**{**RECIPE.__dict__, "initial_noise": 0.5}))
    assert store.stat().st_mtime_ns != before
    store.write_bytes(b"damaged")
    search_shard(made, 0, 5, "cached")
    assert targets.read(store, manifest)


def test_targets_are_described_alike_from_one_shard_and_from_several(made: Path) -> None:
    parts = [search_shard(made, a, b, f"d{a}") for a, b in ((0, 7), (7, 40))]
    stage_targets.make(DescribeJob("digits", "tiny"), [made / "whole.json"], made / "one.json")
    stage_targets.make(DescribeJob("digits", "tiny"), parts, made / "two.json")
    facts, other = read_manifest(made / "one.json"), read_manifest(made / "two.json")
    assert facts.pop("key") != other.pop("key")
    assert facts == other and facts["images"] == 40
    arrays, _ = targets.read(*targets.paths(made / "whole.json"))
    assert facts["cross_entropy_block1"] == pytest.approx(arrays["history/block1"][:, -1].mean())
    gram = metrics.cosine_gram(torch.from_numpy(arrays["targets/block2"]))
    within, between = metrics.class_cosines(gram, torch.from_numpy(arrays["labels"]))
    assert (facts["within_class_block2"], facts["between_class_block2"]) == pytest.approx((within, between))


def test_a_run_writes_its_three_files_and_is_cached(made: Path) -> None:
    out = made / "run"
    for _ in range(2):
        stage_train.make(train_job("targets", RECIPE), made / "d.npz", made / "n.pt", [made / "whole.json"], out, CPU)
        stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
        summary = json.loads((out / "summary.json").read_text())
    assert set(stamps) == {"summary.json", "epochs.csv", "weights.pt"}
    stage_train.make(train_job("targets", RECIPE), made / "d.npz", made / "n.pt", [made / "whole.json"], out, CPU)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    assert summary["train_images"] == 30 and 0 <= summary["test_accuracy"] <= 1


def test_code_that_finds_the_same_targets_leaves_runs_as_they_are(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is trained after an edit in the search can be averaged with those from before it."""
    for name in ("d.npz", "d.json", "n.pt", "n.json"):
        shutil.copy(made / name, tmp_path)
    versions = []
    for edited in (False, True):
        with monkeypatch.context() as patch:
            if edited:
                patch.setattr(cache, "code_version", lambda *_: "other")
            shard = search_shard(tmp_path, 0, 40, f"edited-{edited}")
        out = tmp_path / f"run-{edited}"
        stage_train.make(train_job("targets", RECIPE), tmp_path / "d.npz", tmp_path / "n.pt", [shard], out, CPU)
        summary = read_manifest(out / "summary.json")
        versions.append((summary["code_version"], summary["key"]["inputs"]))
        assert (summary["searched_by"] == ["other"]) == edited
    assert versions[0] == versions[1]


def test_a_run_never_starts_as_the_search_network_of_its_seed_does(made: Path, tmp_path: Path) -> None:
    """R19: unless it is asked to."""
    searching = networks.read(made / "n.pt")[0].state_dict()
    for start, same in (("fresh", False), ("search", True)):
        job = train_job("labels", None)
        job = replace(job, training=replace(job.training, start=start, learning_rate=0.0))
        stage_train.make(job, made / "d.npz", made / "n.pt", [], tmp_path / start, CPU)
        weights = torch.load(tmp_path / start / "weights.pt", weights_only=True)["weights"]
        for name in ("head.weight", "whiten.weight"):
            assert torch.equal(weights[name], searching[name]) == same, (start, name)


@pytest.mark.parametrize("found", [False, True])
def test_a_run_says_which_precision_it_chose(
    made: Path, tmp_path: Path, found: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: found)
    chosen = "bfloat16" if found else "float32"
    job = train_job("labels", None)
    automatic = replace(job, training=replace(job.training, precision="auto"))
    stage_train.make(automatic, made / "d.npz", None, [], tmp_path / "run", CPU)
    stage_train.make(
        replace(job, training=replace(job.training, precision=chosen)), made / "d.npz", None, [], tmp_path / "same", CPU
    )
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["precision"], summary["training"]["precision"]) == (chosen, "auto")
    assert f"convolutions in {chosen} (precision: auto)" in caplog.text
    assert (tmp_path / "run/epochs.csv").read_bytes() == (tmp_path / "same/epochs.csv").read_bytes()


def test_a_run_s_images_and_targets_have_their_channels_last_in_memory(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = stage_train.train
    monkeypatch.setattr(stage_train, "train", lambda *a, **k: seen.extend(a[1:4]) or real(*a, **k))
    stage_train.make(train_job("targets", RECIPE), made / "d.npz", made / "n.pt", [made / "whole.json"], tmp_path, CPU)
    arrays, _ = targets.read(*targets.paths(made / "whole.json"))
    held_out = datasets.read(made / "d.npz").validation
    for split in seen:
        maps = [values for values in split.targets.values() if values.dim() == 4]
        assert all(values.is_contiguous(memory_format=torch.channels_last) for values in (split.images, *maps))
    assert [len(split.targets) for split in seen] == [4, 4, 0]
    for layer, values in seen[1].targets.items():
        assert torch.equal(values, torch.from_numpy(arrays[f"targets/{layer}"][held_out]))


def test_a_run_that_is_up_to_date_needs_no_torch_and_keeps_its_log(made: Path, tmp_path: Path) -> None:
    job = train_job("labels", None)
    stage_train.make(job, made / "d.npz", None, [], tmp_path, CPU)
    (tmp_path / "train.log").write_text("former\n")
    command = [sys.executable, "-X", "importtime", "-m", "repsearch", "train", "--settings", to_json(job)]
    command += ["--dataset", str(made / "d.npz"), "--out", str(tmp_path), "--log", str(tmp_path / "train.log")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and not re.search(r"\| +torch\n", run.stderr), run.stderr[-1000:]
    former, start, last = (tmp_path / "train.log").read_text().splitlines()
    assert (former, start[-15:]) == ("former", "repsearch train") and "is up to date" in last


def test_a_shard_that_is_up_to_date_needs_no_torch(made: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "repsearch", "search"]
    command += ["--settings", to_json(SearchJob(RECIPE, 0, 40)), "--out", str(made / "whole.zarr.zip")]
    command += ["--dataset", str(made / "d.npz"), "--network", str(made / "n.pt")]
    command += ["--statistics", str(made / f"{digest(RECIPE.to_dict())}.npz")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and not re.search(r"\| +torch\n", run.stderr), run.stderr[-1000:]
    assert "whole.zarr.zip is up to date" in run.stderr


def test_what_is_made_again_has_the_same_bytes(made: Path, tmp_path: Path) -> None:
    """Otherwise all that depends on it would be made again for nothing."""
    inputs = made / "d.npz", None, []
    for name in ("one", "two"):
        stage_network.make(NETWORK, made / "d.npz", tmp_path / name / "n.pt")
        stage_train.make(train_job("labels", None), *inputs, tmp_path / name, CPU)
    for name in ("n.pt", "weights.pt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_failed_run_leaves_nothing(made: Path) -> None:
    out = made / "failed"
    with pytest.raises(UserError, match=r"training loss is .*: lower learning_rate"):
        stage_train.make(train_job("labels", None, learning_rate=1e30), made / "d.npz", None, [], out, CPU)
    assert not out.exists() or not list(out.iterdir())


def test_targets_of_another_network_are_refused(made: Path, tmp_path: Path) -> None:
    stage_network.make(replace(NETWORK, seed=1), made / "d.npz", tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"whole\.zarr\.zip has network"):
        stage_train.make(
            train_job("targets", RECIPE), made / "d.npz", tmp_path / "other.pt", [made / "whole.json"], tmp_path, CPU
        )


def test_a_damaged_search_network_is_refused(made: Path, tmp_path: Path) -> None:
    for name in ("n.pt", "n.json"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    (tmp_path / "n.pt").write_bytes(b"x" + (made / "n.pt").read_bytes())
    with pytest.raises(UserError, match=r"n\.pt is missing or not what .*n\.json says"):
        networks.read(tmp_path / "n.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="device: 'cuda' was asked for"):
        devices.choose("cuda", 1)


def test_a_gpu_is_asked_for_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    (tmp_path / "nvidiactl").write_text("")  # the driver alone
    assert [devices.gpus_wanted(device) for device in ("auto", "cpu", "cuda")] == [0, 0, 1]
    (tmp_path / "nvidia0").write_text("")
    assert [devices.gpus_wanted(device) for device in ("auto", "cpu", "cuda")] == [1, 0, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.gpus_wanted("auto") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "--settings", "{", "--out", "x.npz"], "--settings is not JSON"),
        (
            ["prepare", "--settings", '{"source": "no", "validation_images": 1}', "--out", "x.npz"],
            "unknown source 'no'",
        ),
        (
            ["table", "none.json", "--settings", '{"number": 1, "datasets": {}}', "--out", "t.csv"],
            "none.json is missing",
        ),
    ],
)
def test_a_users_mistake_is_one_line_without_a_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "repsearch", *arguments]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert message in run.stderr and "Traceback" not in run.stderr
    assert len([line for line in run.stderr.splitlines() if "error" in line]) == 1
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_a_batch_is_halved_where_memory_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost or done twice; one image that does not fit is one clear error."""
    caplog.set_level(logging.INFO, "repsearch.stages.batches")
    seen: list[slice] = []

    def work(part: slice) -> int:
        if part.stop - part.start > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")
        seen.append(part)
        return part.stop - part.start

    assert list(batches.in_batches(10, 8, work, "test")) == [2] * 5
    assert [i for part in seen for i in range(part.start, part.stop)] == list(range(10))
    steps = [(record.done, record.total) for record in caplog.records if hasattr(record, "done")]  # type: ignore
    assert steps == [(done, 10) for done in (0, 2, 4, 6, 8, 10)]
    assert "batches of 4" in caplog.text and "batches of 2" in caplog.text

    def never(part: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore")

    with pytest.raises(UserError, match=r"does not hold 1 of the images.*9 GiB"):
        list(batches.in_batches(10, 8, never, "test"))


def test_a_log_file_says_how_far_the_search_is(made: Path, tmp_path: Path) -> None:
    log = tmp_path / "search.log"
    command = [sys.executable, "-m", "repsearch", "search", "--settings", to_json(SearchJob(RECIPE, 3, 9))]
    command += ["--dataset", str(made / "d.npz"), "--network", str(made / "n.pt"), "--path", "dense"]
    command += ["--statistics", str(made / f"{digest(RECIPE.to_dict())}.npz"), "--device", "cpu"]
    command += ["--out", str(tmp_path / "s.zarr.zip"), "--log", str(log)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-1000:]
    begins, *_, ends, _ = [line for line in log.read_text().splitlines() if "images" in line]
    assert re.search(r"search 3–9: 6 images, at most \d+ at a time$", begins)
    assert re.search(r"search 3–9: 6 of 6 images, .*\d+ s in all$", ends)
    assert ends.partition(" search ")[2] in run.stderr  # where the job's name stands before it


def test_the_next_batch_is_searched_while_one_is_stored() -> None:
    """In order, one ahead and no more; an error comes where its batch would have come."""
    started: list[int] = []
    go_on = threading.Event()

    def searched() -> Iterator[int]:
        for number in range(4):
            started.append(number)
            if number == 1:
                go_on.set()
            if number == 3:
                raise UserError("no more")
            yield number

    results = batches.one_ahead(searched())
    assert next(results) == 0
    assert go_on.wait(10) and started == [0, 1]
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(UserError, match="no more"):
        next(results)
    assert list(batches.one_ahead(iter([]))) == []


def test_fitness_is_summarised_by_generation() -> None:
    frame = probes.fitness_by_generation(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
    assert frame["mean"].tolist() == [2, 1] and frame["n"].tolist() == [2, 2] and frame["generation"].tolist() == [0, 1]
    assert frame["std"].tolist() == pytest.approx([2**0.5, 0])
    assert probes.fitness_by_generation(torch.ones(1, 2))["std"].isna().all()


def test_diversity_counts_the_candidates_of_the_first_runs() -> None:
    """Two images, three runs: orthogonal candidates count as several, equal ones as one."""
    candidates = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    counts = torch.tensor([[True, True, False], [False, True, True]])
    frame = probes.diversity_by_runs(candidates, counts)
    assert frame["image"].tolist() == [0, 0, 0, 1, 1, 1] and frame["runs"].tolist() == [1, 2, 3, 1, 2, 3]
    assert frame["accepted"].tolist() == [1, 2, 2, 0, 1, 2]
    assert frame["effective"].tolist() == pytest.approx([1, 2, 2, np.nan, 1, 1], nan_ok=True)


def test_the_batch_follows_free_memory_except_where_it_is_part_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SimpleNamespace(shape=Shape(3, 32, 10), device=torch.device("cuda"))
    monkeypatch.setattr(batches.backends, "choose", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2**30)

    def batch(gigabytes: int, recipe: Recipe) -> int:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (gigabytes * 2**30, 80 * 2**30))
        return batches.batch_images(network, recipe, "auto")  # type: ignore[arg-type]

    paper = replace(RECIPE, population=240)
    few, many = batch(12, paper), batch(28, paper)
    assert 1 <= few < many <= batches.GPU_BATCH_IMAGES
    assert many == pytest.approx(2 * few, abs=1)  # what torch keeps cached is free: 16 and 32 of them
    assert batch(10_000, paper) == batches.GPU_NUMBERS // (240 * 256 * 15 * 15)  # which 32 bits can count
    mixed = replace(RECIPE, batch_norm="batch")
    monkeypatch.setattr(stage_search, "in_batches", lambda count, size, *_, **options: (size, options["smallest"]))
    size, smallest = stage_search.over_images(network, None, np.arange(3), mixed, "auto", print, title="")  # type: ignore
    assert size == smallest == mixed.statistics_images > 1
