"""Benchmarks run, and what they count is right; speeds are not tested."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from repsearch.bench import training as bench
from repsearch.bench.report import text
from repsearch.bench.roofline import child_cost, convolution_operations
from repsearch.bench.search import PAPER
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
    result = json.loads(_run("search", "--generations", "1", "--json").stdout)
    rows = result["rows"]
    assert [(row["layer"], row["noise"]) for row in rows] == [
        (layer, noise) for noise in ("channel", "element") for layer in ("block0", "block1", "block2", "logits")
    ]
    for row in rows:
        assert row.keys() >= ROW | {"share_of_roofline"}
        assert row["path"] == ("dense" if row["layer"] == "logits" else "fused")
        speeds = row["candidates_per_second"], row["reference_candidates_per_second"]
        assert min(speeds) > 0 and row["ratio"] == pytest.approx(speeds[0] / speeds[1], abs=0.06)
    assert result["machine"]["copy_gigabytes_per_second"] > 0


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


def test_the_roofline_counts_a_child_of_the_paper_s_first_block() -> None:
    shape = Shape(3, 32, 10)
    cost = child_cost(shape, PAPER, 0, number_bytes=4)
    numbers = 256 * 15 * 15
    explorers = 100 / 220
    made = numbers * (10 + explorers * 2 * 2 * 11)  # blends, sums; explorers are smoothed by 11 taps along two axes
    after = 256 * (6 * 6 + 3 * 3) * (3 + 2 * 32)
    assert cost.operations == pytest.approx(made + after + 2 * 2304 * 10)
    assert cost.normals == 256 and cost.bytes == pytest.approx(4 * numbers * (2 + explorers))
    element = child_cost(shape, replace(PAPER, mutation="element"), 0, 4)
    assert element.normals == numbers and element.operations - cost.operations == pytest.approx(numbers * 2 * 2 * 11)


def test_convolution_operations_are_torch_s_count() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    shape, images = Shape(3, 17, 4, width=6, convolutions=4), torch.randn(1, 3, 17, 17)
    network = Network(shape, whitening_filters(images))
    with FlopCounterMode(display=False) as counter:
        network(images)
    counted = counter.get_total_flops()
    rest = 2 * 12 * 24 * 16**2 + 2 * shape.width * shape.map_sizes[-1] ** 2 * shape.classes  # whitening and head
    assert counted == convolution_operations(shape) + rest
