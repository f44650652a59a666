"""What a configuration costs: counts with closed forms, against the plan, the stages' files and Snakemake."""

import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from repsearch.bench import costs, estimate, rates
from repsearch.bench.costs import Costs, Searched, Task, Unit, Work
from repsearch.bench.roofline import convolution_operations
from repsearch.config.load import load, merge
from repsearch.errors import UserError
from repsearch.learning.settings import Training
from repsearch.network import Network, Shape, whitening_filters
from repsearch.plan import Plan
from repsearch.search.evolution import search
from repsearch.search.recipe import Layer, Recipe
from repsearch.stages.search import _arrays
from tests import small
from tests.golden import plan as golden

ROOT = Path(__file__).resolve().parents[2]
KIND = Searched(Shape(3, 32, 10, 64), False, ("channel",))
RULES = {
    "prepare": "prepare_dataset", "network": "initialise_network", "statistics": "take_statistics",
    "search": "search_shard", "fitness": "probe_fitness", "diversity": "probe_diversity",
    "gallery": "probe_gallery", "describe": "describe_targets",
}  # fmt: skip


def shape(dataset: str) -> Shape:
    return Shape(1, 28, 10, 8)


@given(st.data())
def test_a_search_has_the_candidates_of_its_recipe(data: st.DataObject) -> None:
    generations = data.draw(st.lists(st.integers(0, 9), min_size=4, max_size=4))
    population, images, runs = (data.draw(st.integers(low, 40)) for low in (1, 0, 1))
    parents = data.draw(st.integers(1, population))
    layers: Any = tuple(Layer(count, 0.1, 1.0, 0) for count in generations)
    recipe = Recipe(layers, population=population, parents=parents, explorers=0, runs=runs)
    amounts = costs.search_amounts(KIND, recipe, images)
    openings = amounts.pop(Unit(KIND, "opening"))
    assert openings == images * runs
    # Of the first populations there are block 0's and one candidate in each later layer.
    assert sum(amounts.values()) == images * (recipe.candidates - runs * (population + 3))
    alone = costs.search_amounts(KIND, recipe, images, layer=2)
    assert alone == {Unit(KIND, "opening"): openings, Unit(KIND, "block2"): amounts[Unit(KIND, "block2")]}


def test_images_that_are_searched_together_score_the_parents_again() -> None:
    recipe = small.recipe(statistics_images=6)  # 8 candidates; 3, 2, 2, 2 generations
    assert costs.together_amounts(KIND, recipe) == {Unit(KIND, "together"): 6 * 8 * 10}
    assert costs.together_amounts(KIND, recipe, layer=0) == {Unit(KIND, "together"): 6 * 8 * 4}
    assert costs.together_amounts(KIND, replace(recipe, batch_norm="frozen")) == {Unit(KIND, "together"): 6 * 8}


@pytest.mark.parametrize("runs", [1, 2])
def test_a_store_has_the_bytes_of_its_arrays(runs: int) -> None:
    network, recipe = small.search_network(), small.recipe(runs=runs)
    labels, indices, given = small.labels(3), torch.arange(3), small.statistics(network, recipe)
    arrays = _arrays(search(network, small.images(3), labels, recipe, indices, given, "dense"))
    stored = {**arrays, "labels": labels.numpy(), "indices": indices.numpy()}
    assert costs.store_bytes(network.shape, recipe, 3) == sum(values.nbytes for values in stored.values())


@pytest.mark.parametrize("made", [Shape(1, 28, 10, 8), Shape(3, 17, 4, 6, 6, head_bias=True)])
def test_weights_have_the_bytes_of_the_network(made: Shape) -> None:
    images = torch.randn(20, made.channels, made.size, made.size)
    network = Network(made, whitening_filters(images, patches=100))
    assert costs.weights_bytes(made) == sum(4 * values.numel() for values in network.parameters())


def test_training_is_three_passes_of_images_and_one_of_those_that_are_validated() -> None:
    deep, training = Shape(3, 32, 100, 64, convolutions=6), Training(epochs=7, batch=50)
    amounts = costs.train_amounts(deep, training, True, True, 1000, 200)
    operation, pairs = sorted(amounts, key=lambda unit: unit.what)
    assert amounts[operation] == 7 * (3 * 1000 + 200) * convolution_operations(deep)
    assert amounts[pairs] == 7 * 2 * 200**2 * 64 * (15**2 + 7**2 + 3**2)
    assert operation.kind == costs.Trained(Shape(3, 32, 10, 64), True, 50, "float32")
    assert list(costs.train_amounts(deep, training, True, False, 1000, 200)) == [operation]


def test_hours_are_amounts_times_rates_and_starts() -> None:
    unit, other = Unit(KIND, "block0"), Unit(None, "pairs")
    tasks = [Task("train", {unit: 100, other: 10}, 2e9), Task("train", {unit: 50}, 1e9), Task("table")]
    result = costs.summary(Work(tasks), {unit: 36.0, other: 3.6}, 360.0, slots=2)
    train, table = result["rows"]
    assert train["rule"] == "train" and train["jobs"] == 2 and train["gigabytes"] == 3
    assert train["hours"] == pytest.approx(1 + 0.01 + 0.1 + 0.5 + 0.1) and train["longest"] == pytest.approx(1.11)
    assert table["hours"] == pytest.approx(0.1)
    assert result["hours"] == pytest.approx(1.81) and result["jobs"] == 3
    assert result["wall_hours"] == pytest.approx(1.21)  # the longest of each rule, rather than 1.81 / 2
    assert costs.summary(Work(tasks), {unit: 36.0, other: 3.6}, 360.0, slots=1)["wall_hours"] == pytest.approx(1.81)
    assert re.search(r"^all +3 +109 min +3\.0 GB$", estimate.text(result, "2 cores"), re.MULTILINE)


@pytest.mark.parametrize("preset", ["paper", "demo", "small", "medium", "gpu", "readings"])
def test_all_counts_the_jobs_that_are_planned(preset: str) -> None:
    plan = golden.plan(preset)
    counted = Counter(task.rule for task in Costs(plan, ["all"], shape).work.tasks)
    planned = Counter(RULES.get(kind, kind) for kind, *_ in golden.jobs(plan))
    assert counted == planned + Counter(["assemble_report"])


def test_chains_need_the_runs_and_networks_of_the_cycles_before() -> None:
    """Of preset beyond, as Snakemake counts them (`-n`)."""
    tasks = Costs(golden.plan("beyond"), ["results/beyond/report.html"], shape).work.tasks
    counted = Counter(task.rule for task in tasks)
    expected = {"train": 1638, "learned_network": 174, "evaluate_ensemble": 30, "take_statistics": 306}
    expected |= {"search_shard": 627, "describe_targets": 98, "table3": 1, "initialise_network": 4}
    assert {rule: counted[rule] for rule in expected} == expected


def test_snakemake_counts_the_same_jobs() -> None:
    targets = ["results/demo/tables/table2.csv", "results/demo/figures/figure2.png"]
    command = [sys.executable, "-m", "snakemake", "-n", "--forceall", "--quiet", "rules", "--cores", "2", *targets]
    command += ["--configfile", "workflow/presets/demo.yaml"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    listed = run.stdout + run.stderr
    rows = re.findall(r"^(\w+) +(\d+)$", listed.partition("Job stats:")[2].partition("total")[0], re.MULTILINE)
    expected = {rule: int(count) for rule, count in rows if rule != "all"}
    assert expected, listed[-1000:]
    assert Counter(task.rule for task in Costs(golden.plan("demo"), targets, shape).work.tasks) == expected


def test_an_unknown_target_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="--target: 'table7' is not a result of this configuration"):
        Costs(golden.plan("demo"), ["table1", "table7"], shape)
    with pytest.raises(UserError, match="'table3' is not a result"):
        Costs(golden.plan("demo"), ["table3"], shape)


def test_a_larger_recipe_of_a_kind_is_measured() -> None:
    work = Costs(golden.plan("demo"), ["all"], shape).work
    (recipe,) = work.recipes.values()
    assert (recipe.population, recipe.layers[0].generations) == (48, 60)


@pytest.mark.parametrize(
    ("size", "expected"), [((9, 28, 28), (1, 28)), ((9, 16, 16, 3), (3, 16)), ((9, 3, 12, 12), (3, 12))]
)
def test_an_npz_file_says_its_images_sizes(tmp_path: Path, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    images = np.zeros(size, np.uint8)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=np.arange(9) % 5, x_test=images, y_test=np.arange(9) % 5)
    assert estimate.image(f"npz:{tmp_path / 'd.npz'}") == (*expected, 5)
    names = np.array(["cat", "dog", "owl"] * 3)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=names, x_test=images, y_test=names)
    assert estimate.image(f"npz:{tmp_path / 'd.npz'}") == (*expected, 3)
    with pytest.raises(UserError, match="does not exist"):
        estimate.image(f"npz:{tmp_path / 'missing.npz'}")


def test_other_sources_sizes_are_known() -> None:
    sizes = [estimate.image(source) for source in ("torchvision:CIFAR100", "torchvision:MNIST", "sklearn:digits")]
    assert sizes == [(3, 32, 100), (1, 28, 10), (1, 28, 10)]
    assert estimate.image("my_data:digits") == estimate.OF_CODE


@pytest.mark.parametrize("batch_norm", ["trajectory", "frozen"])
def test_every_unit_is_measured(batch_norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a tiny scale, for searches of untrained and learned networks."""
    monkeypatch.setattr(rates, "SECONDS", 0.01)
    monkeypatch.setattr(rates, "MOST", 4)
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    layers = [{"generations": 1, "alpha": 0.1, "boost": 1.0, "blur": 1}] * 4
    recipe = {"layers": layers, "population": 6, "parents": 2, "explorers": 2, "batch_norm": batch_norm}
    changes = {"network": {"width": 4}, "recipes": {"paper": recipe, "mnist": {"layers": layers}}}
    changes["training"] = {"epochs": 1, "precision": "float32"}
    plan = Plan(load(merge(raw, changes)))
    work = Costs(plan, ["figure5"], lambda dataset: Shape(1, 12, 4, 4)).work
    (kind,) = work.recipes
    learned = kind._replace(learned=True)
    work.recipes[learned] = work.recipes[kind]
    work.tasks.append(Task("search_shard", costs.search_amounts(learned, work.recipes[kind], 1)))
    measured = rates.measure(work, torch.device("cpu"), "dense")
    assert measured.keys() >= work.units
    assert all(0 < rate < 1 and math.isfinite(rate) for rate in measured.values())
