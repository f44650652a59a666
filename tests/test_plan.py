"""The plan: which jobs each result needs and with which settings, without Snakemake."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from repsearch.config.load import load, merge
from repsearch.errors import UserError
from repsearch.jobs import SearchJob, TrainJob, from_json, to_json
from repsearch.plan import Plan, Run, Targets
from repsearch.scale import is_full, reproduction
from tests.golden import plan as golden

ROOT = Path(__file__).resolve().parents[1]
PAPER: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())


def planned(**changes: Any) -> Plan:
    return Plan(load(merge(PAPER, changes)))


def save_npz(path: Path, shape: tuple[int, ...] = (30, 9, 9)) -> None:
    """30 images to train on, in an array of this shape, and 6 of 9 × 9 pixels to test with."""
    images = {"x_train": np.zeros(shape, np.uint8), "x_test": np.zeros((6, 9, 9), np.uint8)}
    np.savez(path, **images, y_train=np.zeros(30), y_test=np.zeros(6))


@pytest.mark.parametrize("preset", golden.PRESETS)
def test_every_preset_plans_what_it_planned_before(preset: str) -> None:
    """A difference that is meant: python -m tests.golden."""
    assert golden.lines(preset) == (golden.FOLDER / f"{preset}.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"images": 31}, r"datasets\.mine\.images: 31 asked for, but npz:.* has 30"),
        ({"test_images": 7}, r"datasets\.mine\.test_images: 7 asked for, but npz:.* has 6"),
        ({"validation_images": 30}, r"datasets\.mine\.validation_images: 30 leaves none of 30 images"),
        (
            {"source": "folder", "validation_images": 3},
            r"datasets\.mine\.validation_images: 3 leaves 1 of 4 .* 2 classes",
        ),
        (
            {"source": "torchvision:SVHN", "images": 73_258},
            r"datasets\.mine\.images: 73258 asked for, but .* has 73257",
        ),
        ({"source": "sklearn:digits", "test_images": 298}, r"datasets\.mine\.test_images: 298 asked for"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused_when_planning(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    save_npz(tmp_path / "mine.npz")
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                (tmp_path / part / name / f"{number}.png").touch()
    if settings.get("source") == "folder":
        settings = {**settings, "source": f"folder:{tmp_path}"}
    entry = {**PAPER["datasets"]["cifar10"], "source": f"npz:{tmp_path}/mine.npz", "validation_images": 5}
    with pytest.raises(UserError, match=said):
        planned(datasets={"mine": {**entry, **settings}}).prepare("mine")


@pytest.mark.parametrize("images", [None, 20])
def test_images_of_a_wrong_shape_are_refused_when_planning(tmp_path: Path, images: int | None) -> None:
    save_npz(tmp_path / "mine.npz", (30, 81))
    entry = {**PAPER["datasets"]["cifar10"], "source": f"npz:{tmp_path}/mine.npz", "validation_images": 5}
    with pytest.raises(UserError, match=r"^datasets\.mine\.source: .*mine\.npz: x_train must be \[N, H, W\]"):
        planned(datasets={"mine": {**entry, "images": images}}).prepare("mine")


@pytest.mark.parametrize("source", ["npz:missing.npz", "folder:missing"])
def test_the_source_of_a_data_set_that_is_not_there(tmp_path: Path, source: str) -> None:
    kind, name = source.split(":")
    entry = {
        **PAPER["datasets"]["cifar10"],
        "source": f"{kind}:{tmp_path}/{name}",
        "images": 20,
        "validation_images": 5,
    }
    plan = planned(datasets={"mine": entry})
    plan.check_source("cifar10")  # is downloaded
    with pytest.raises(UserError, match=rf"^datasets\.mine\.source: {tmp_path}/{name} does not exist$"):
        plan.check_source("mine")


@pytest.mark.parametrize("shard", ["0050", "50"])
def test_a_shard_that_no_data_set_has_is_refused_when_planning(shard: str) -> None:
    assert planned(shard_images=1000).search("cifar10", "paper", "0049").stop == 50_000
    with pytest.raises(UserError, match=rf"^shard {shard} of cifar10: there is none \(its shards: 0000 to 0049\)$"):
        planned(shard_images=1000).search("cifar10", "paper", shard)


def test_a_file_that_is_yet_to_be_made_needs_a_number_of_images(tmp_path: Path) -> None:
    entry = {**PAPER["datasets"]["cifar10"], "source": f"npz:{tmp_path}/mine.npz", "validation_images": 5}
    assert planned(datasets={"mine": {**entry, "images": 20}}).prepare("mine").images == 20
    with pytest.raises(UserError, match=r"^datasets\.mine\.source: .*mine\.npz does not exist"):
        planned(datasets={"mine": entry}).prepare("mine")


def test_figures_of_more_images_than_a_file_has_are_refused_when_planning(tmp_path: Path) -> None:
    save_npz(tmp_path / "mine.npz")
    mine = {**PAPER["datasets"]["cifar100"], "source": f"npz:{tmp_path}/mine.npz", "validation_images": 5}
    plan = planned(
        datasets={"mine": mine}, **{key: {"dataset": "mine", "images": 26} for key in ("figure2", "figure3")}
    )
    for key, ask in (("figure2", lambda: plan.fitness(240)), ("figure3", plan.diversity)):
        with pytest.raises(UserError, match=rf"^{key}\.images: 26 asked for, but mine has 25 to train on$"):
            ask()


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
    assert changed == {"table", "figure"}  # the training curves; the other figures are drawn of CIFAR-100 here
    assert after.table(1).datasets["cifar10"].label == "Ten classes"


def test_what_a_variant_learns_decides_its_step_sizes() -> None:
    """A variant with no training settings of its own learns from targets as the paper's do, not with SGD's steps."""
    plan = planned(variants={"block2": {"learns": "targets", "blocks": [2]}, "labels": {"learns": "labels"}})
    own, other = (plan.train("cifar10", "plain", name, "paper", 3, 0).training for name in ("block2", "search-all"))
    assert own == other and (own.learning_rate_scaling, own.bias_scale) == ("raw", 0.0)
    labels = plan.train("cifar10", "plain", "labels", "none", 3, 0).training
    assert (labels.learning_rate_scaling, labels.bias_scale) == ("decoupled", 64.0)


def test_figure_2s_probes_have_the_sweeps_generations_in_every_layer() -> None:
    job = planned().fitness("60")
    assert (job.recipe.population, job.recipe.parents) == (60, 5)
    assert [layer.generations for layer in job.recipe.layers] == [300] * 4


def test_the_gallery_shows_the_targets_search() -> None:
    """Of figure 3's data set, unless another is named; of the first run where there are several."""
    plan = planned(recipes={"paper": {"runs": 3}})
    assert plan.gallery().recipe == plan.recipes["paper"].run(0) and plan.gallery().images == 3
    other = planned(gallery={"dataset": "mnist", "images": 2})
    assert (other.gallery().recipe, other.gallery_dataset) == (other.recipes["mnist"], "mnist")
    assert other.figure("gallery").datasets.keys() == {"mnist"}
    assert set(plan.figure_runs("curves")) == {*plan.table_runs(1), *plan.table_runs(2)}


def test_readings_are_studied_over_every_search_of_a_data_set() -> None:
    study = {"datasets": ["cifar10"], "variants": ["search-all", "search-skip0"], "baseline": "sgd", "seeds": 2}
    study |= {"grid": {"smooth": ["child", "noise"]}, "search": [{"start": "population"}]}
    study |= {"recipes": {"cifar10": ["mnist"]}, "training": [{"compare": "before_gelu"}]}
    one, two = (planned(readings=study, datasets={"cifar10": {"searches": n}}).readings_runs() for n in (1, 2))
    assert {run.recipe.removesuffix("--seed-1") for run in two} == {run.recipe for run in one}
    learned = [run for run in two if run.recipe != "none"]
    assert len(learned) == 2 * len([run for run in one if run.recipe != "none"])
    by_reading: dict[tuple[str, str], set[str]] = {}
    for run in learned:
        by_reading.setdefault((run.variant, run.recipe.removesuffix("--seed-1")), set()).add(run.recipe)
    assert all(len(recipes) == 2 for recipes in by_reading.values())
    assert {recipe for variant, recipe in by_reading if variant == "search-skip0"} == {"paper", "paper--smooth-noise"}
    assert ("search-all--compare-before_gelu", "paper") in by_reading and ("search-all", "mnist") in by_reading


def test_a_data_set_may_have_a_network_of_its_own() -> None:
    changes = {"datasets": {"cifar10": {"network": {"width": 64, "head_init": "kaiming"}}}}
    plan = planned(**changes)
    assert (plan.network("cifar10").width, plan.network("cifar10").head_init) == (64, "kaiming")
    assert (plan.network("mnist").width, plan.network("mnist").head_init) == (256, "default")
    run = plan.train("cifar10", "plain", "sgd", "none", 1, 0)
    assert (run.width, run.head_init) == (64, "kaiming")
    assert reproduction(plan, []).what.startswith("width 256 and 64;")
    with pytest.raises(UserError, match=r"datasets\.cifar10\.network\.widht: unknown key"):
        planned(datasets={"cifar10": {"network": {"widht": 64}}})


def test_figure_8_spends_search_compute_in_every_way_from_every_search() -> None:
    compute = {"datasets": ["mnist"], "variants": ["search-all", "search-skip0"], "baseline": "sgd"}
    compute |= {"populations": [60, 240], "generations": [150], "runs": [1, 4]}
    plan = planned(compute=compute, figures={"figure8": "compute"}, datasets={"mnist": {"searches": 2}}, seeds=2)
    runs = plan.compute_runs()
    recipes = {run.recipe: plan.recipes[run.recipe] for run in runs if run.recipe != "none"}
    assert {name: (r.population, r.layers[0].generations, r.runs, r.seed) for name, r in recipes.items()} == {
        "mnist": (240, 300, 1, 0),
        "mnist--seed-1": (240, 300, 1, 1),
        "mnist--population-60": (60, 300, 1, 0),
        "mnist--population-60--seed-1": (60, 300, 1, 1),
        "mnist--generations-150": (240, 150, 1, 0),
        "mnist--generations-150--seed-1": (240, 150, 1, 1),
        "mnist--runs-4": (240, 300, 4, 0),
        "mnist--runs-4--seed-1": (240, 300, 4, 1),
        "mnist--runs-4--generations-75": (240, 75, 4, 0),
        "mnist--runs-4--generations-75--seed-1": (240, 75, 4, 1),
        "mnist--runs-4--population-60": (60, 300, 4, 0),
        "mnist--runs-4--population-60--seed-1": (60, 300, 4, 1),
    }
    one, equal = recipes["mnist"].candidates, recipes["mnist--runs-4--generations-75"].candidates
    assert one == 240 + 3 + 220 * (300 + 100 + 100 + 10) and equal == pytest.approx(one, rel=0.02)
    assert len(runs) == 12 * 2 * 2 + 3 * 3 * 2  # recipes, variants, seeds; depths, learning rates, seeds of SGD
    of_runs = planned(compute=compute, recipes={"mnist": {"runs": 2}}).recipes
    assert of_runs["mnist--runs-4--generations-150"].candidates == pytest.approx(of_runs["mnist"].candidates, rel=0.02)
    assert set(runs) <= set(plan.all_runs()) and plan.figure("figure8").datasets.keys() == {"mnist"}
    assert not planned().compute_runs()


def test_figure_8_has_the_baseline_with_augmentation_where_the_data_set_has_any() -> None:
    compute = {"datasets": ["mnist", "cifar10"], "variants": ["search-all"], "baseline": "sgd"}
    runs = planned(compute={**compute, "populations": [60], "generations": [75], "runs": [1]}).compute_runs()
    augmented = [run for run in runs if run.augmentation == "augmented"]
    plain = [run._replace(augmentation="augmented") for run in runs if run.variant.startswith("sgd")]
    assert augmented and {run.dataset for run in augmented} == {"cifar10"}
    assert set(augmented) == {run for run in plain if run.dataset == "cifar10"}  # tuned as much


CHAINS = {
    "on": {"first": "search-all", "then": "search-on", "cycles": 2, "recipe": "paper"},
    "born-again": {"first": "sgd", "then": "distil", "cycles": 2, "recipe": "paper"},
    "restarts": {"first": "sgd", "then": "sgd-on", "cycles": 1},
}
THEN = {
    "search-on": {"learns": "targets", "blocks": [0, 1, 2], "training": {"start": "search"}},
    "distil": {"learns": "logits"},
    "sgd-on": {"learns": "labels", "training": {"start": "search"}},
}


def test_every_cycle_searches_the_network_of_the_one_before() -> None:
    cycles = {"datasets": ["cifar10"], "seeds": 2, "chains": CHAINS}
    plan = planned(cycles=cycles, variants=THEN, figures={"cycles": "cycles"})
    runs = plan.cycle_runs()
    assert len(runs) == len(set(runs)) == (3 + 3 + 1) * 2  # cycles of three chains, of which two share the first; seeds
    assert {run.depth for run in runs} == {3} and set(runs) <= set(plan.all_runs())
    last = Run("cifar10", "plain", "search-on", "paper--chain-on--cycle-2--network-1", 3, 1)
    chain = [last]
    while (before := plan.learned(chain[-1].dataset, chain[-1].recipe)) is not None:
        chain.append(before)
    assert chain[1:] == [
        Run("cifar10", "plain", "search-on", "paper--chain-on--cycle-1--network-1", 3, 1),
        Run("cifar10", "plain", "search-all", "paper", 3, 1),
    ]
    assert plan.learned("cifar10", "paper--chain-born-again--cycle-1--network-0") == Run(
        "cifar10", "plain", "sgd", "none", 3, 0
    )
    assert plan.recipes[last.recipe] == plan.recipes["paper"]
    job = plan.train(*last)
    assert job.training.start == "search" and job.training.learning_rate_scaling == "raw"
    distilled = plan.train("cifar10", "plain", "distil", "paper--chain-born-again--cycle-1--network-0", 3, 0)
    assert distilled.recipe is not None and distilled.training.learning_rate_scaling == "decoupled"
    searched = {targets.recipe for targets in plan.cycle_targets()}
    assert searched >= {"paper", last.recipe} and not any(recipe.startswith("none") for recipe in searched)
    restart = Run("cifar10", "plain", "sgd-on", "none--chain-restarts--cycle-1--network-1", 3, 1)
    assert restart in runs and plan.train(*restart).recipe is None
    assert plan.learned(restart.dataset, restart.recipe) == Run("cifar10", "plain", "sgd", "none", 3, 1)
    with pytest.raises(UserError, match="'search' needs depth 1, but search-on is trained at depth 3"):
        plan.train("cifar10", "plain", "search-on", "paper", 3, 0)  # whose search network is the untrained one
    with pytest.raises(UserError, match=r"cycles\.chains\.on\.then: must be a variant that learns targets or logits"):
        planned(cycles={**cycles, "chains": {"on": {**CHAINS["on"], "then": "sgd"}}}, variants=THEN)
    fresh = {"fresh": {"first": "sgd", "then": "sgd", "cycles": 1}}
    for changes, message in (
        ({"cycles": {**cycles, "chains": fresh}}, r"cycles\.chains\.fresh: sgd must have training\.start: search"),
        ({"search_path": "fused"}, r"search_path: 'fused' can't search the learned networks of cycles\.chains\.on"),
        (
            {"training": {"evaluation": "recalibrated"}},
            r"cycles\.chains\.on: search-all must have training\.evaluation",
        ),
        ({"figures": {"figure8": "cycles"}}, r"figures\.figure8: is drawn from compute, not from cycles"),
    ):
        with pytest.raises(UserError, match=message):
            planned(**{"cycles": cycles, "variants": THEN, **changes})
    with pytest.raises(UserError, match=r"cycles\.chains\.on\.then: must be a variant that learns labels"):
        planned(cycles={**cycles, "chains": {"on": {"first": "sgd", "then": "distil", "cycles": 1}}}, variants=THEN)


def test_ensembles_of_a_kind_share_no_run() -> None:
    cycles = {"datasets": ["cifar10"], "seeds": 2, "chains": CHAINS}
    kinds = {
        "seeds": {"variant": "search-all"},
        "searches": {"variant": "search-all", "over": "searches"},
        "sgd": {"variant": "sgd"},
        "restarts": {"chain": "restarts"},
    }
    ensembles = {"datasets": ["cifar10"], "members": 4, "repeats": 2, "kinds": kinds}
    changes = {"cycles": cycles, "variants": THEN, "figures": {"ensembles": "ensembles"}}
    plan = planned(ensembles=ensembles, **changes)
    members = {kind: [plan.members("cifar10", kind, str(repeat)) for repeat in (0, 1)] for kind in kinds}
    for kind, (first, second) in members.items():
        count = 2 if kind == "restarts" else 4
        assert len(set(first)) == len(set(second)) == count and not set(first) & set(second), kind
        assert set(first) <= set(plan.all_runs())
    recipes = [f"paper--seed-{seed}" for seed in (4, 5, 6, 7)]  # none of the first ensemble's
    assert [(run.recipe, run.seed) for run in members["searches"][1]] == [(recipe, 1) for recipe in recipes]
    assert [(run.recipe, run.seed) for run in members["seeds"][1]] == [("paper--seed-1", seed) for seed in range(4, 8)]
    assert [run.seed for run in members["sgd"][1]] == [4, 5, 6, 7]
    assert [run.recipe for run in members["restarts"][1]] == ["none", "none--chain-restarts--cycle-1--network-1"]
    assert len(plan.ensembles()) == 8 and plan.ensemble("cifar10", "sgd", "1").repeat == 1
    for change, message in (
        ({"kinds": {"x": {"variant": "sgd", "over": "searches"}}}, "sgd learns labels, so that there are no searches"),
        ({"kinds": {"x": {"variant": "sgd", "chain": "on"}}}, "must have either a variant or a chain"),
        ({"kinds": {"x": {"over": "seeds", "chain": "on"}}}, "must not say `over` of a chain"),
        ({"kinds": {"x": {"chain": "off"}}}, r"ensembles\.kinds\.x\.chain: 'off' is not defined"),
        ({"kinds": {"x": {"chain": "on"}}, "datasets": ["mnist"]}, r"cycles\.datasets.*'mnist' is not defined"),
        ({"repeats": 3}, r"ensembles\.repeats: must be at most cycles\.seeds"),
    ):
        with pytest.raises(UserError, match=message):
            Plan(load(merge(PAPER, {"ensembles": {**ensembles, **change}, **changes})))


def test_all_runs_of_a_recipe_share_its_statistics_and_probes() -> None:
    one, several = planned(), planned(recipes={"paper": {"runs": 4}})
    assert several.search("cifar10", "paper", "0000").recipe.runs == 4
    assert one.statistics("cifar10", "paper") == several.statistics("cifar10", "paper")
    assert one.fitness(60) == several.fitness(60) and one.diversity() == several.diversity()


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"width": 128}},
        {"datasets": {"cifar10": {"network": {"width": 128}}}},
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
        {"recipes": {"paper": {"runs": 2}}},
        {"recipes": {"mnist": {"layers": PAPER["recipes"]["paper"]["layers"]}}},  # α is not A.5's
        {"recipes": {"paper": {"crossover": "uniform"}}},
        {"training": {"momentum": 0.5}},
        {"training": {"kl_weight": 0.0}},
        {"variants": {"sgd": {"tune": {"learning_rate": [1.0]}}}, "training": {"learning_rate": 1.0}},
        {"seeds": 2},
        {"figure2": {"images": 5}},
    ],
)
def test_the_papers_scale_is_all_of_it(change: dict[str, Any]) -> None:
    assert is_full(planned())
    assert not is_full(planned(**change))
    assert reproduction(planned(**change), []).full is False


@pytest.mark.parametrize(
    "change", [{"images": 40_000}, {"test_images": 5_000}, {"source": "npz:data/cifar10.npz"}, {"paper": "CIFAR-100"}]
)
def test_only_the_papers_data_are_compared_with_its_numbers(change: dict[str, Any]) -> None:
    assert {name.paper for name in planned().table(1).datasets.values()} == {"MNIST", "CIFAR-10", "CIFAR-100"}
    plan = planned(datasets={"cifar10": change})
    assert plan.table(1).datasets["cifar10"].paper is None
    assert "other data: CIFAR-10" in reproduction(plan, []).what
    assert "other data" not in reproduction(planned(), []).what


def test_a_scale_names_the_files_that_override_the_configuration() -> None:
    job = reproduction(planned(), ["config.yaml", "workflow/presets/demo.yaml"])
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
