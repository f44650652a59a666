"""The workflow as a user runs it: snakemake in a folder of its own, at a tiny scale."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [{"generations": 2, "alpha": alpha, "boost": 2.0, "blur": 1} for alpha in (0.3, 0.2, 0.1, 0.1)]
TINY: dict[str, Any] = {
    "results": "results/tiny",
    "device": "cpu",
    "shard_images": 30,
    "seeds": 1,
    "network": {"width": 4},
    "datasets": {
        "digits": {
            "source": "sklearn:digits",
            "label": "Digits",
            "images": 60,
            "test_images": 50,
            "validation_images": 20,
            "flip": False,
            "pad": 1,
            "recipe": "tiny",
            "search_depth": 1,
        }
    },
    "recipes": {"tiny": {"base": "paper", "population": 6, "parents": 2, "explorers": 2, "layers": LAYERS}},
    "training": {"epochs": 2, "batch": 20, "precision": "float32"},
    "variants": {
        "sgd": {"depths": [1], "tune": {"learning_rate": [4.0]}},
        **{name: {"tune": {"learning_rate": [4.0]}} for name in ("search-all", "search-skip0")},
    },
    "table1": {"datasets": ["digits"], "variants": ["sgd", "search-all"]},
    "table2": {"datasets": ["digits"], "variants": ["search-skip0"]},
    "figure2": {"dataset": "digits", "images": 5, "populations": [6], "generations": [1, 2]},
    "figure3": {"dataset": "digits", "images": 4, "runs": 2, "probability": 0.0},
    "figure4": {"dataset": "digits", "populations": [6], "generations": [2], "seeds": 1},
    "trajectories": {"dataset": "digits", "depth": 1, "seeds": 1},
}
SHARD = "results/tiny/targets/digits/tiny/shard-0000"


def snakemake(folder: Path, *arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Run snakemake in `folder`, a checkout, with the tiny scale and `changes` as overlay."""
    for name in ("Snakefile", "config.yaml", "workflow", "profiles", "environment.yml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | changes))
    command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", "tiny.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def planned(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Jobs by rule of a dry run."""
    assert run.returncode == 0, run.stdout + run.stderr
    table = re.search(r"job +count\n[- ]+\n(.*?)\n\n", run.stdout + run.stderr, re.DOTALL)
    return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines()} if table else {}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything was made, as `make demo` makes it, with what was printed."""
    folder = tmp_path_factory.mktemp("tiny")
    options = re.search(r"snakemake all (.*) --configfile", (ROOT / "Makefile").read_text())
    assert options is not None
    run = snakemake(folder, "all", *options[1].split(), "--cores", "2")
    (folder / "printed.txt").write_text(run.stdout + run.stderr)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder


def test_every_result_is_there(done: Path) -> None:
    results = done / "results/tiny"
    names = [f"tables/table{n}" for n in (1, 2)] + [f"figures/figure{n}" for n in range(2, 8)]
    names += ["figures/gallery", "figures/curves"]
    page = (results / "report.html").read_text()
    for name in names:
        assert len(pd.read_csv(results / f"{name}.csv")) > 0, name
        assert (results / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
        assert (results / f"{name}.md").read_text(), name
        assert f'href="{name}.csv"' in page, name
    table = pd.read_csv(results / "tables/table1.csv")
    assert list(table["variant"]) == ["sgd", "search-all"]
    summary = json.loads((results / "runs/digits/plain/sgd/none/depth1/seed0/summary.json").read_text())
    assert table["mean"][0] == pytest.approx(100 * summary["test_accuracy"], rel=1e-5)
    assert (table["n"] == 1).all()


def test_what_is_printed_is_short_lines_that_name_the_jobs(done: Path) -> None:
    lines = (done / "printed.txt").read_text().splitlines()
    assert max(map(len, lines)) < 250  # no list of all results
    jobs = [line.split(": ", 1)[1] for line in lines if re.match(r"Job \d+: ", line)]
    assert {"Prepare digits", "Search digits, recipe tiny, shard 0001", "Report", "All results are made"} <= set(jobs)
    assert lines[-2].startswith("Complete log(s): ")


def test_snakemake_makes_a_report_of_its_own(done: Path) -> None:
    """It has what it shows from the installed package, and needs no network."""
    run = snakemake(done, "all", "--report", "own.html")
    assert run.returncode == 0, run.stderr[-2000:]
    report = (done / "own.html").read_text()
    for text in ("Everything on one page", "Table 1", "gallery", "is drawn from the CSV of the same name alone"):
        assert text in report, text


def test_a_second_run_has_nothing_to_do(done: Path) -> None:
    run = snakemake(done, "all", "-n")
    assert "Nothing to be done" in run.stdout + run.stderr


def test_further_formats_are_drawn_and_nothing_else_runs(done: Path, tmp_path: Path) -> None:
    folder, formats = tmp_path / "formats", ["png", "pdf", "latex"]
    shutil.copytree(done, folder, symlinks=True)
    rules = planned(snakemake(folder, "all", "-n", formats=formats))
    assert rules["figure"] == 8 and rules["table"] == 2
    assert rules.keys() <= {"figure", "table", "reproduction", "assemble_report", "all", "total"}
    asked = [f"results/tiny/{name}" for name in ("figures/figure2.pdf", "tables/table1.tex")]
    run = snakemake(folder, *asked, "--cores", "2", formats=formats)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert (folder / asked[0]).read_bytes().startswith(b"%PDF") and "Digits" in (folder / asked[1]).read_text()


def test_a_deleted_shard_comes_back_and_changes_nothing_else(done: Path) -> None:
    runs = sorted((done / "results/tiny/runs").rglob("summary.json"))
    before = {path: path.read_bytes() for path in runs}
    manifest = done / f"{SHARD}.json"
    stated = json.loads(manifest.read_text())["sha256"]
    (done / f"{SHARD}.zarr.zip").unlink()
    run = snakemake(done, "all", "--cores", "2")
    assert run.returncode == 0, run.stderr[-2000:]
    assert json.loads(manifest.read_text())["sha256"] == stated
    assert {path: path.read_bytes() for path in runs} == before
    kept = done / "results/tiny/logs/runs/digits/plain/search-all/tiny/depth1/seed0.log"
    assert "up to date" in kept.read_text()  # the training job looked, and had nothing to do


def test_a_changed_mutation_strength_plans_its_search_and_what_follows_only(done: Path) -> None:
    changed = [{**layer, "alpha": 0.25} for layer in LAYERS]
    recipe = {**TINY["recipes"]["tiny"], "layers": changed}
    run = snakemake(done, "all", "-n", recipes={"tiny": recipe})
    assert re.search(
        r"^Reason: .*: recipe\.layers\.0\.alpha: [0-9.]+ → 0\.25, recipe\.layers", run.stdout, re.MULTILINE
    )
    jobs = planned(run)
    assert jobs["search_shard"] == 2
    assert (
        jobs["train"] == 3
    )  # search-all, search-skip0 and the SGD run that is traced against the targets; not plain SGD
    assert jobs["probe_fitness"] == 1 and jobs["probe_diversity"] == 1
    assert "prepare_dataset" not in jobs and "initialise_network" not in jobs


def test_a_changed_epoch_count_searches_nothing_again(done: Path) -> None:
    run = snakemake(done, "all", "-n", training={**TINY["training"], "epochs": 3})
    assert re.search(r"^Reason: .*: training\.epochs: [0-9] → 3$", run.stdout, re.MULTILINE)
    jobs = planned(run)
    assert jobs["train"] == 4
    assert not jobs.keys() & {"prepare_dataset", "initialise_network", "search_shard", "probe_fitness"}


def test_one_table_plans_only_what_it_needs(tmp_path: Path) -> None:
    jobs = planned(snakemake(tmp_path, "results/tiny/tables/table2.csv", "-n"))
    assert jobs == {
        "prepare_dataset": 1, "initialise_network": 1, "take_statistics": 1, "search_shard": 2, "train": 1, "table": 1,
        "total": 7,
    }  # fmt: skip


def test_an_altered_shard_is_refused_by_name(done: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done, folder, symlinks=True)
    store = folder / f"{SHARD}.zarr.zip"
    content = bytearray(store.read_bytes())
    content[len(content) // 2] ^= 1
    store.write_bytes(content)
    summary = "results/tiny/runs/digits/plain/search-all/tiny/depth1/seed0/summary.json"
    (folder / summary).unlink()
    run = snakemake(folder, summary, "--cores", "1")
    said = run.stdout + run.stderr
    assert run.returncode != 0
    assert re.search(rf"error: {SHARD}\.zarr\.zip .*delete it", said)
    assert "Traceback" not in said
    assert not (folder / summary).exists()


def test_a_wrong_key_is_named(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "all", "-n", training={"epocs": 3})
    assert run.returncode == 1
    said = (run.stdout + run.stderr).strip().splitlines()
    assert said[-1] == "error: configuration: training.epocs: unknown key (did you mean epochs?)" and len(said) == 3


def test_settings_of_the_command_line_come_last_and_may_be_nested(tmp_path: Path) -> None:
    summary = "results/tiny/runs/digits/plain/sgd/none/depth1/seed0/summary.json"
    words = (summary, "-n", "-p", "--config", "training={epochs: 7, precision: bfloat16}")
    run = snakemake(tmp_path, *words)
    assert run.returncode == 0, run.stderr
    assert '"epochs": 7' in run.stdout + run.stderr and '"precision": "bfloat16"' in run.stdout + run.stderr


def test_a_result_of_another_scale_names_its_preset(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "results/demo/tables/table1.csv", "-n")
    lines = (run.stdout + run.stderr).strip().splitlines()
    assert run.returncode == 1 and not (tmp_path / "results").exists() and len(lines) == 3
    assert lines[-1].startswith("error: results/demo/tables/table1.csv can't be made by this configuration")
    assert lines[-1].endswith("results are in results/tiny: add --configfile workflow/presets/demo.yaml after it")


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("tables/tabel1.csv", "did you mean results/tiny/tables/table1.csv?"),
        ("figures/figure2.pdf", "add pdf to formats"),
    ],
)
def test_a_misspelt_result_names_what_was_meant(tmp_path: Path, target: str, remedy: str) -> None:
    run = snakemake(tmp_path, f"results/tiny/{target}", "-n")
    lines = (run.stdout + run.stderr).strip().splitlines()
    assert run.returncode == 1 and len(lines) == 3
    assert lines[-1] == f"error: results/tiny/{target} can't be made by this configuration: {remedy}"


def test_the_name_of_snakemakes_report_is_no_target(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "all", "--report", "results/tiny/reports.html")
    assert "did you mean" not in run.stdout + run.stderr


def test_a_job_that_the_kernel_kills_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text("import os\n\ndef images():\n    os.kill(os.getpid(), 9)\n")
    greedy = {**TINY["datasets"]["digits"], "source": "greedy:images"}
    run = snakemake(tmp_path, "results/tiny/data/digits.npz", "--cores", "1", datasets={"digits": greedy})
    assert run.returncode == 1 and "error: the job was killed (SIGKILL). Did memory run out?" in run.stderr
    assert "Traceback" not in run.stderr and not list((tmp_path / "results/tiny/data").glob("[!.]*"))


def test_an_unreadable_npz_file_stops_only_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_text("no zip file")
    bad = {**TINY["datasets"]["digits"], "source": "npz:bad.npz"}
    del bad["images"]
    datasets = TINY["datasets"] | {"bad": bad}
    table = {"datasets": ["bad"], "variants": ["search-all"]}
    other = snakemake(tmp_path, "results/tiny/tables/table2.csv", "-n", datasets=datasets, table1=table)
    assert planned(other)["search_shard"] == 2
    run = snakemake(tmp_path, "all", "-n", datasets=datasets, table1=table)
    said = run.stdout + run.stderr
    assert run.returncode == 1
    assert "error: datasets.bad.source: bad.npz can't be read" in said and said.count("bad.npz") == 1
    assert "Traceback" not in said and not list((tmp_path / ".snakemake/locks").glob("*"))


def test_a_missing_file_of_images_is_said_when_planning_unless_it_was_prepared(tmp_path: Path) -> None:
    datasets = TINY["datasets"] | {"mine": {**TINY["datasets"]["digits"], "source": "npz:missing.npz"}}
    target = "results/tiny/data/mine.npz"
    run = snakemake(tmp_path, target, "-n", datasets=datasets)
    assert run.returncode == 1 and "error: datasets.mine.source: missing.npz does not exist" in run.stdout + run.stderr
    (tmp_path / target).parent.mkdir(parents=True)
    for name in ("mine.npz", "mine.json"):
        (tmp_path / f"results/tiny/data/{name}").touch()
    assert snakemake(tmp_path, target, "-n", datasets=datasets).returncode == 0


def test_cycles_search_what_was_learned(tmp_path: Path) -> None:
    chains = {"on": {"first": "search-all", "then": "search-on", "cycles": 1, "recipe": "tiny"}}
    on = {"learns": "targets", "blocks": [0, 1, 2], "training": {"start": "search"}}
    changes = {"cycles": {"datasets": ["digits"], "seeds": 1, "chains": chains}, "shard_images": 60}
    changes |= {"variants": {**TINY["variants"], "search-on": on}, "figures": {"cycles": "cycles"}}
    run = snakemake(tmp_path, "results/tiny/figures/cycles.png", "--cores", "2", **changes)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    rows = pd.read_csv(tmp_path / "results/tiny/figures/cycles.csv")
    accuracy = rows[rows["kind"] == "accuracy"].set_index("cycle")
    assert list(accuracy.index) == [0, 1] and list(accuracy["variant"]) == ["search-all", "search-on"]
    searched = rows[rows["kind"] == "search"]
    assert searched.groupby("cycle")["x"].max().tolist() == [8, 8]  # two generations of four layers
    starts = searched[searched["x"] == 0].set_index("cycle")["mean"]
    assert starts[1] != starts[0]
    recipe = "tiny--chain-on--cycle-1--network-0"
    store = json.loads((tmp_path / f"results/tiny/targets/digits/{recipe}/shard-0000.json").read_text())
    network = json.loads((tmp_path / f"results/tiny/network/digits/{recipe}.json").read_text())
    assert store["network"] == network["sha256"]


def test_no_other_table_or_figure_is_offered(tmp_path: Path) -> None:
    for target in ("tables/table3.csv", "figures/figure1.csv"):
        run = snakemake(tmp_path, f"results/tiny/{target}", "-n")
        assert run.returncode != 0 and "MissingRuleException" in run.stdout + run.stderr


def test_a_results_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/tiny").write_text("a file")
    run = snakemake(tmp_path, "all", "-n")
    assert run.returncode != 0
    assert "results/tiny is not a folder that can be written" in run.stdout + run.stderr


def test_the_papers_scale_is_planned_within_30_seconds(tmp_path: Path) -> None:
    """Of CPU time."""
    for name in ("Snakefile", "config.yaml", "workflow", "repsearch"):
        (tmp_path / name).symlink_to(ROOT / name)
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])  # user and system
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "8", "all"]
    jobs = planned(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300))
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before < 30
    assert jobs["search_shard"] >= 6 + 5 + 5 and jobs["total"] <= 450


def test_a_study_makes_the_study_and_can_be_published(tmp_path: Path) -> None:
    """Each recipe has its own statistics; the page of claims is made of the kept CSVs."""
    study = {"datasets": ["digits"], "variants": ["search-all"], "baseline": "sgd", "seeds": 1}
    study |= {"grid": {"smooth": ["child", "noise"]}, "training": [{"compare": "before_gelu"}]}
    jobs = planned(snakemake(tmp_path, "publish", "-n", readings=study))
    assert jobs == {
        "prepare_dataset": 1, "initialise_network": 1, "take_statistics": 2, "search_shard": 4, "describe_targets": 2,
        "train": 4, "readings": 1, "reproduction": 1, "publish": 1, "total": 17,
    }  # fmt: skip
    run = snakemake(tmp_path, "publish", "--cores", "2", readings=study)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    kept = tmp_path / "docs/reproduction/tiny"
    rows = pd.read_csv(kept / "tables/readings.csv")
    assert rows[["part", "reading", "variant"]].to_numpy().tolist() == [
        ["search", "default", "search-all"],
        ["search", "smooth noise", "search-all"],
        ["training", "compare before_gelu", "search-all"],
        ["baseline", "default", "sgd"],
    ]
    scale = json.loads((kept / "scale.json").read_text())
    searched = "width 4; recipe tiny: population 6, 2/2/2/2 generations"
    assert scale["what"] == f"{searched}; only a part of the paper's data, or a copy or other data: Digits"
    assert (scale["options"], scale["full"]) == ("--configfile tiny.yaml", False)
    statistics = {path.stem for path in (tmp_path / "results/tiny/statistics/digits").glob("*.npz")}
    assert statistics == {"tiny", "tiny--smooth-noise"}
