"""The plan: which jobs each result needs and with which settings, without Snakemake."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from repsearch.config.load import load, merge
from repsearch.errors import UserError
from repsearch.jobs import SearchJob, TrainJob, from_json, to_json
from repsearch.plan import Plan, Run, Targets
from tests.golden import plan as golden

ROOT = Path(__file__).resolve().parents[1]
PAPER: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())


def planned(**changes: Any) -> Plan:
    return Plan(load(merge(PAPER, changes)))


@pytest.mark.parametrize("preset", golden.PRESETS)
def test_every_preset_plans_what_it_planned_before(preset: str) -> None:
    """A difference that is meant: python -m tests.golden."""
    assert golden.lines(preset) == (golden.FOLDER / f"{preset}.txt").read_text().splitlines()


def test_planning_imports_nothing_heavy() -> None:
    code = "import sys, repsearch.plan; print(sorted({'torch', 'pandas', 'matplotlib', 'zarr'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n", run.stderr


def test_the_last_shard_holds_the_rest() -> None:
    plan = planned(shard_images=15_000)
    assert plan.shards("cifar10") == ["0000", "0001", "0002", "0003"]
    job = plan.search("cifar10", "paper", "0003")
    assert (job.start, job.stop) == (45_000, 50_000)


def test_a_table_needs_each_depth_and_each_tuned_setting() -> None:
    plan = planned(table1={"datasets": ["cifar10"], "variants": ["sgd"]}, seeds=2)
    runs = plan.table_runs("1")
    assert len(runs) == 3 * 3 * 2  # learning rates, depths, seeds
    assert {run.recipe for run in runs} == {"none"} and {run.augmentation for run in runs} == {"plain"}
    assert plan.train(*runs[0]).recipe is None


def test_sgd_is_traced_against_the_targets_of_figures_5_to_7() -> None:
    runs = planned().trajectory_runs()
    assert {(run.variant, run.recipe) for run in runs} == {("sgd", "paper"), ("search-all", "paper")}
    assert Targets("cifar100", "paper") in planned().all_targets()


def test_augmentation_is_part_of_augmented_runs_alone() -> None:
    plain, augmented = (planned().train("cifar10", kind, "sgd", "none", 1, 0) for kind in ("plain", "augmented"))
    assert (plain.flip, plain.pad) == (False, 0) and (augmented.flip, augmented.pad) == (True, 2)


def test_a_label_is_a_setting_of_results_alone() -> None:
    """So that a changed label draws tables and figures again, and trains and searches nothing."""
    before, after = planned(), planned(datasets={"cifar10": {"label": "Ten classes"}})
    changed = {
        kind
        for (kind, wildcards, job), (_, _, other) in zip(golden.jobs(before), golden.jobs(after), strict=True)
        if job != other
    }
    assert changed == {"table"}  # figures are drawn of CIFAR-100 here
    assert after.table(1).datasets["cifar10"].label == "Ten classes"


def test_what_a_variant_learns_decides_its_step_sizes() -> None:
    """A variant with no training settings of its own learns from targets as the paper's do, not with SGD's steps."""
    plan = planned(variants={"block2": {"learns": "targets", "blocks": [2]}, "labels": {"learns": "labels"}})
    own, other = (plan.train("cifar10", "plain", name, "paper", 3, 0).training for name in ("block2", "search-all"))
    assert own == other and (own.learning_rate_scaling, own.bias_scale) == ("raw", 0.0)
    labels = plan.train("cifar10", "plain", "labels", "none", 3, 0).training
    assert (labels.learning_rate_scaling, labels.bias_scale) == ("decoupled", 64.0)


def test_figure_2s_probes_have_the_sweeps_generations_in_every_layer() -> None:
    job = planned().fitness("1", "60")
    assert (job.layer, job.recipe.population, job.recipe.parents) == (1, 60, 5)
    assert [layer.generations for layer in job.recipe.layers] == [300] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"width": 128}},
        {"datasets": {"cifar10": {"images": 40_000}}},
        {"datasets": {"cifar10": {"test_images": 5_000}}},
        {"datasets": {"cifar10": {"source": "npz:data/cifar10.npz"}}},  # may be lossy, or another split
        {"datasets": {"cifar10": {"paper": "CIFAR-100"}}},
        {"datasets": {"cifar10": {"validation_images": 400}}},
        {"datasets": {"mnist": {"search_depth": 3}}},
        {"datasets": {"mnist": {"training": {"epochs": 90}}}},
        {"training": {"batch": 50}},
        {"training": {"epochs": 10}},
        {"recipes": {"paper": {"population": 200}}},
        {"recipes": {"paper": {"parents": 10}}},
        {"recipes": {"mnist": {"layers": PAPER["recipes"]["paper"]["layers"]}}},  # α is not A.5's
    ],
)
def test_the_papers_scale_is_all_of_it(change: dict[str, Any]) -> None:
    assert planned().full_scale
    assert not planned(**change).full_scale
    assert planned(**change).reproduction([]).full is False


@pytest.mark.parametrize(
    "change", [{"images": 40_000}, {"test_images": 5_000}, {"source": "npz:data/cifar10.npz"}, {"paper": "CIFAR-100"}]
)
def test_only_the_papers_data_are_compared_with_its_numbers(change: dict[str, Any]) -> None:
    assert {name.paper for name in planned().table(1).datasets.values()} == {"MNIST", "CIFAR-10", "CIFAR-100"}
    plan = planned(datasets={"cifar10": change})
    assert plan.table(1).datasets["cifar10"].paper is None
    assert "other data: CIFAR-10" in plan.reproduction([]).what and "other data" not in planned().reproduction([]).what


def test_a_scale_names_the_files_that_override_the_configuration() -> None:
    job = planned().reproduction(["config.yaml", "workflow/presets/demo.yaml"])
    assert job.options == "--configfile workflow/presets/demo.yaml" and job.name == "paper"
    assert (
        job.command("tables/table1.csv")
        == "snakemake results/tables/table1.csv --configfile workflow/presets/demo.yaml"
    )


def test_a_job_is_the_same_after_json() -> None:
    plan = planned()
    for job in (plan.search("mnist", "mnist", "0001"), plan.train("mnist", "plain", "search-all", "mnist", 2, 1)):
        assert from_json(type(job), to_json(job)) == job
    with pytest.raises(UserError, match="stop: is missing"):
        from_json(SearchJob, '{"start": 0}')
    with pytest.raises(UserError, match="labell: unknown key"):
        from_json(TrainJob, to_json(plan.train(*plan.all_runs()[0])).replace("{", '{"labell": 1, ', 1))
    with pytest.raises(UserError, match="--settings is not JSON"):
        from_json(SearchJob, "{")


def test_a_figure_of_ones_own_takes_one_line() -> None:
    plan = planned(figures={"figure4": "table1"})
    assert plan.figure_runs("figure4") == plan.table_runs(1)
    with pytest.raises(UserError, match=r"figures\.mine: there is no .*results/figures/mine\.py"):
        planned(figures={"mine": "table1"})


def test_runs_are_told_apart_by_every_wildcard() -> None:
    runs = planned().all_runs()
    assert len(set(runs)) == len(runs) and all(isinstance(run, Run) for run in runs)
    assert replace(planned().train(*runs[0]), seed=9) != planned().train(*runs[0])
