"""The list of a folder's training runs: what they differ in, and nothing that a terminal obeys."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repsearch.errors import UserError
from repsearch.results import listing
from repsearch.storage.manifest import write_manifest
from tests.results.made_up import NO_RECIPE, RUN, SEARCHED


def run(results: Path, rate: float = 4.0, **changes: Any) -> Path:
    values = {**RUN, **changes}
    recipe = None if values["recipe"] == "none" else {**SEARCHED, "seed": 0}
    job = {"recipe": recipe, "width": values["width"], "training": {"learning_rate": rate, "batch": 50}}
    job |= values.pop("job", {})
    names = [str(values[name]) for name in ("dataset", "augmentation", "variant", "recipe")]
    folder = Path(*names, f"depth{values['depth']}", f"seed{values['seed']}")
    write_manifest(results / "runs" / folder / "summary.json", {"job": job, "inputs": []}, [], values)
    benchmark = results / "benchmarks/runs" / folder.with_name(f"{folder.name}.tsv")
    benchmark.parent.mkdir(parents=True, exist_ok=True)
    benchmark.write_text("s\th:m:s\n12.5\t0:00:12\n")
    return results / "runs" / folder / "summary.json"


def test_only_settings_that_differ_are_columns(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, variant="search-all--learning_rate-8", rate=8.0, validation_accuracy=0.7)
    run(tmp_path, variant="sgd", **NO_RECIPE)
    frame = listing.table(tmp_path)
    assert list(frame.columns) == [*listing.WILDCARDS, "learning_rate", *listing.RESULTS]
    assert frame["learning_rate"].tolist() == [4, 8, 4] and frame["recipe"].tolist()[-1] == "none"
    assert frame["best_epoch"].tolist() == [2] * 3 and frame["validation"].tolist() == [60, 70, 60]
    assert frame["seconds"].tolist() == [12.5] * 3


def test_a_settings_name_is_shortened_where_no_other_column_has_it(tmp_path: Path) -> None:
    def layers(*generations: int) -> list[dict[str, int]]:
        return [{"generations": count, "blur": 1} for count in generations]

    for seed, counts in enumerate([(60, 20, 20, 5), (30, 10, 10, 2)]):
        recipe = {"layers": layers(*counts), "seed": seed, "runs": 1 + seed}
        run(tmp_path, seed=seed, job={"recipe": recipe, "training": {"runs": f"{seed}"}})
    frame = listing.table(tmp_path)
    others = ["training.runs", "generations", "recipe.seed", "recipe.runs"]
    assert list(frame.columns) == [*listing.WILDCARDS, *others, *listing.RESULTS]
    assert frame["generations"].tolist() == ["60/20/20/5", "30/10/10/2"]


def test_a_run_without_a_benchmark_has_no_time(tmp_path: Path) -> None:
    run(tmp_path)
    (benchmark,) = tmp_path.rglob("*.tsv")
    for text in ("s\n", "s\nlong\n", "seconds\n3\n", ""):
        benchmark.write_text(text)
        assert listing.table(tmp_path)["seconds"].isna().all(), text
    benchmark.unlink()
    assert listing.table(tmp_path)["seconds"].isna().all()


def test_means_are_over_seeds(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.5, 0.6)):
        run(tmp_path, seed=seed, test_accuracy=accuracy)
        run(tmp_path, seed=seed, test_accuracy=accuracy - 0.1, dataset="other")
    frame = listing.means(tmp_path)
    assert frame["dataset"].tolist() == ["other", "toy"] and frame["n"].tolist() == [2, 2]
    assert frame["mean"].tolist() == pytest.approx([45, 55]) and frame["std"].tolist() == pytest.approx([50**0.5] * 2)


def test_means_tell_former_settings_of_a_recipe_apart(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, dataset="other")
    assert "recipe_digest" not in listing.means(tmp_path)
    run(tmp_path, dataset="third", recipe_digest="former")
    assert "former" in listing.means(tmp_path)["recipe_digest"].tolist()


def test_a_foreign_run_is_left_out_and_never_obeyed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, device="\x1b[2Jcpu")
    run(tmp_path, seed=1).write_text(json.dumps({"depth": [1]}))
    run(tmp_path, seed=2, validation_accuracy="high")
    run(tmp_path, seed=3).write_text("[" * 100_000)
    frame = listing.table(tmp_path)
    assert frame["device"].tolist() == ["\\x1b[2Jcpu"]
    assert [text.count("seed") for text in caplog.messages] == [1, 1, 1]
    (tmp_path / "runs/toy/plain/search-all/small/depth3/seed0/summary.json").unlink()
    with pytest.raises(UserError, match="none of its 3 training runs can be read"):
        listing.table(tmp_path)


def test_the_command_prints_a_table_csv_or_json(tmp_path: Path) -> None:
    def call(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "repsearch", "runs", str(tmp_path), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    nothing = call()
    assert nothing.returncode == 1 and "has no finished training runs" in nothing.stderr
    assert len(nothing.stderr.splitlines()) == 1
    run(tmp_path)
    run(tmp_path, seed=1)
    (row, _) = json.loads(call("--json").stdout)
    assert row["dataset"] == "toy" and row["test"] == 50 and row["seconds"] == 12.5
    assert call("--means", "--csv").stdout.splitlines()[0] == ",".join(listing.MEANS)
    (names, row, _) = call().stdout.splitlines()
    shown = dict(zip(names.split(), row.split(), strict=True))
    assert (shown["validation"], shown["test"], shown["seconds"]) == ("60.0", "50.0", "12.5")
    assert call("--means").stdout.split()[-2:] == ["50.0", "0.0"]
