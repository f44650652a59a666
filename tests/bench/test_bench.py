"""Benchmarks run, and what they count is right; speeds are not tested."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from repsearch.bench import training as bench
from repsearch.bench.report import text
from repsearch.bench.roofline import child_cost, convolution_operations
from repsearch.bench.search import PAPER, Bench, bench_search
from repsearch.bench.training import profile
from repsearch.learning.training import Split
from repsearch.network import Network, Shape, whitening_filters

ROW = {"layer", "noise", "path", "device", "candidates_per_second", "reference_candidates_per_second", "ratio"}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    common = ["--device", "cpu", "--threads", "1", "--width", "8"]
    command = [sys.executable, "-m", "repsearch", "bench", *arguments, *common]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    return run


def test_bench_search() -> None:
    result = json.loads(_run("search", "--generations", "2", "--json").stdout)
    rows = result["rows"]
    assert [(row["layer"], row["noise"]) for row in rows] == [
        (layer, noise) for noise in ("channel", "element") for layer in ("block0", "block1", "block2", "logits")
    ]
    for row in rows:
        assert row.keys() >= ROW | {"share_of_floor"} and row["generations"] == 2
        assert row["path"] == ("dense" if row["layer"] == "logits" else "fused")
        speeds = row["candidates_per_second"], row["reference_candidates_per_second"]
        assert min(speeds) > 0 and row["ratio"] == pytest.approx(speeds[0] / speeds[1], abs=0.06)
        assert 0 <= row["new_best_per_generation"] <= 1
    assert result["machine"]["copy_gigabytes_per_second"] > 0
    assert [row["threads"] for row in result["threads"]] == [1]
    milliseconds = sum(
        row["opening_milliseconds"] + row["paper_milliseconds"] for row in rows if row["noise"] == "channel"
    )
    assert result["hours_per_dataset"]["channel"] == pytest.approx(50_000 * milliseconds / 3.6e6, abs=0.02)
    assert result["hours_of_the_paper"]["channel"] == pytest.approx(
        3.2 * result["hours_per_dataset"]["channel"], abs=0.02
    )


@pytest.mark.parametrize(("path", "expected"), [("auto", (300, 100, 100, 10)), ("dense", (3, 3, 3, 10))])
def test_a_search_has_the_paper_s_generations_where_their_cost_depends_on_selection(path: str, expected: tuple) -> None:
    bench = Bench(torch.device("cpu"), 4, 4, 1)
    assert tuple(layer.generations for layer in bench.shortened(PAPER, path).layers) == expected  # type: ignore[arg-type]
    shorter = Bench(torch.device("cpu"), 4, 4, 1, 20).shortened(PAPER, path)  # type: ignore[arg-type]
    assert tuple(layer.generations for layer in shorter.layers) == (20, 20, 20, 10)


def test_every_generation_has_statistics() -> None:
    """On a CPU those of the first; they are made once, and do for a part of the search and for other images."""
    bench = Bench(torch.device("cpu"), 4, 4, 1)
    made = bench.statistics(PAPER)
    assert [len(rows) for rows in made.scorings.values()] == [301, 101, 101]
    rows = made.scorings[0]
    assert not torch.equal(rows[0], rows[1]) and torch.equal(rows[1], rows[-1])
    assert replace(bench, images=2).statistics(PAPER, 0) is made
    frozen = bench.statistics(replace(PAPER, batch_norm="frozen"), 0)
    assert [len(rows) for rows in frozen.scorings.values()] == [1, 1, 1]


@pytest.mark.parametrize("trained", [False, True])
def test_a_dense_search_and_its_text(trained: bool) -> None:
    bench = Bench(torch.device("cpu"), 4, 4, 1, 1, trained)
    result = bench_search(bench, "dense", scaling=False)
    assert {row["path"] for row in result["rows"]} == {"dense"}
    assert ("share_of_ceiling" if trained else "share_of_floor") in result["rows"][0]
    page = text(result)
    assert "50,000 images" in page and "160,000 images" in page and "| efficiency |" in page


def test_bench_train() -> None:
    out = _run("train", "--images", "40", "--depth", "1", "--precision", "float32").stdout
    assert "| sgd | 1 | float32 |" in out and "| search-all | 1 | float32 |" in out


def test_the_profile_accounts_for_the_whole_epoch() -> None:
    result = profile(torch.device("cpu"), 8, 4, 40, 1, "float32")
    *rows, rest = result["rows"]
    total = result["settings"]["milliseconds"]
    assert sum(row["milliseconds"] for row in result["rows"]) == pytest.approx(total, rel=1e-3)
    assert rest["name"] == "nothing" and -0.02 * total <= rest["milliseconds"] < total
    calls = {row["name"]: row["calls"] for row in rows}
    assert calls["aten::mkldnn_convolution"] == 2 * 7  # an epoch of one batch, whose validation is one batch
    assert [row["milliseconds"] for row in rows] == sorted((row["milliseconds"] for row in rows), reverse=True)
    assert "| aten::mkldnn convolution | 14 |" in text(result)


def test_an_epoch_is_validated_as_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 images per 46,000; their maps are compared with targets where the run learns targets."""
    seen: list[tuple[int, set[str], int, set[str]]] = []

    def watch(network: Network, train_split: Split, validation: Split, *others: object, **named: object) -> None:
        splits = (train_split, validation)
        seen.append(tuple(x for split in splits for x in (len(split.images), set(split.targets))))  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "train", watch)
    for name in ("sgd", "search-all"):
        bench._run(torch.device("cpu"), Shape(3, 32, 4, 8), 460, name, "float32", iter)
    layers = {"block0", "block1", "block2", "logits"}
    assert seen == [(460, set(), 40, set()), (460, layers, 40, layers)]


def test_the_floor_counts_a_child_of_the_paper_s_first_block() -> None:
    shape, width, children = Shape(3, 32, 10), 256, 220
    cost = child_cost(shape, PAPER, 0, number_bytes=4)
    maps = (100 * 2 + 120 * 2 * (20 + 2 * 100) / 120) / children  # a refiner's mate is an explorer 100 times in 120
    gelus = 9 * (3 + 2)  # of each final position
    rest = 36 * (3 + 2) + 9 * (3 + 2) + 9 * (3 + 2 * 2)  # maxima, scales and shifts
    made = 144 * width * 2 * (maps + 2)
    assert cost.operations == pytest.approx(made + width * (18 * gelus + rest) + 2 * 2304 * 10)
    assert cost.normals == width and cost.bytes == pytest.approx(4 * 144 * width * 2 * 20 / children)
    element = child_cost(shape, replace(PAPER, mutation="element"), 0, 4)
    numbers, explorers = width * 15 * 15, 100 / children
    smoothed = numbers * (10 + (1 + explorers) * 2 * 11)
    assert element.operations == pytest.approx(smoothed + width * (18 * gelus + rest) + 2 * 2304 * 10)
    assert element.normals == numbers and element.bytes == pytest.approx(4 * numbers * (2 + explorers))


def test_the_floor_of_the_last_block_is_linear() -> None:
    cost = child_cost(Shape(3, 32, 10), PAPER, 2, number_bytes=4)
    assert cost.operations < 20 * 10 * 256 and cost.normals == 256


def test_convolution_operations_are_torch_s_count() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    shape, images = Shape(3, 17, 4, width=6, convolutions=4), torch.randn(1, 3, 17, 17)
    network = Network(shape, whitening_filters(images))
    with FlopCounterMode(display=False) as counter:
        network(images)
    counted = counter.get_total_flops()
    rest = 2 * 12 * 24 * 16**2 + 2 * shape.width * shape.map_sizes[-1] ** 2 * shape.classes  # whitening and head
    assert counted == convolution_operations(shape) + rest


CHECKS: dict[str, Callable[[dict], bool]] = {  # of each row
    "graph": lambda row: row["equal to eager"] and row["finite"] and row["loss after"] < row["loss before"],
    "batches": lambda row: row["opening equal"] and row["result equal"],
    "agreement": lambda row: row["same"] == row["of"] and row["loss"] < 1e-4,
    "statistics": lambda row: row["seconds"] is not None and row["seconds"] > 0,
    "profile": lambda row: row["µs per image-generation"] > 0,
    "images": lambda row: row["seconds"] >= 0,
}


@pytest.mark.parametrize(
    "parts",
    [["images", "statistics"], pytest.param(["graph", "batches", "agreement", "profile"], marks=pytest.mark.slow)],
    ids=str,
)
def test_a_new_machine_is_checked_part_by_part(tmp_path: Path, parts: list[str]) -> None:
    """On a CPU, small."""
    script = Path(__file__).parents[2] / "benchmarks" / "device.py"
    command = [sys.executable, str(script), str(tmp_path), "--small", "--only", *parts]
    path = os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, env={**os.environ, "PYTHONPATH": path})
    assert run.returncode == 0, run.stderr[-2000:]
    for part in parts:
        rows = json.loads((tmp_path / f"{part}.json").read_text())["rows"]
        assert rows and all(map(CHECKS[part], rows)), part


@pytest.mark.slow  # it compiles the copy
def test_a_version_is_compared_with_another(tmp_path: Path) -> None:
    """With a copy of itself: the same results."""
    root = Path(__file__).parents[2]
    shutil.copytree(root / "repsearch", tmp_path / "other" / "repsearch")
    options = ["--width", "8", "--count", "1", "--pairs", "1", "--generations", "2", "2", "2", "1"]
    out = tmp_path / "out.json"
    command = [sys.executable, root / "benchmarks" / "versions.py", tmp_path / "other", *options, "--out", out]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    assert run.returncode == 0, run.stderr[-2000:]
    result = json.loads(out.read_text())
    assert result["cross_entropies"]["here"] == result["cross_entropies"]["other"]
    assert [row["what"] for row in result["rows"]][-2:] == ["openings", "whole search"]
    assert all(len(row["ratios"]) == 1 and row["here"] > 0 for row in result["rows"])
