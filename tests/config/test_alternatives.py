"""Alternatives to recipes and variants: their names, and what they change."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from repsearch.config import alternatives
from repsearch.config.load import load, merge
from repsearch.config.resolve import Resolved
from repsearch.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
STUDY: dict[str, Any] = {
    "datasets": ["cifar10"],
    "variants": ["search-all", "search-skip0"],
    "baseline": "sgd",
    "seeds": 2,
    "grid": {"smooth": ["child", "noise"], "batch_norm": ["trajectory", "frozen-unsmoothed", "batch"]},
    "search": [{"initial_noise": 0.1}, {"mutation": "channel"}],
    "training": [{"compare": "before_gelu"}, {"learning_rate_scaling": "decoupled", "learning_rate": 2.0}],
    "baseline_training": {"learning_rate": [2.0, 4.0]},
}


def _raw(**changes: Any) -> dict[str, Any]:
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    return {**raw, "readings": deepcopy(STUDY), **changes}


def test_names_say_what_changes_and_can_be_read_back() -> None:
    name = alternatives.name("paper", {"mutation": "element", "initial_noise": 0.1, "count_padding": False})
    assert name == "paper--mutation-element--initial_noise-0.1--count_padding-false"
    assert alternatives.family(name) == "paper"
    assert alternatives.setting(name) == "mutation element, initial_noise 0.1, count_padding false"
    assert alternatives.name("paper", {}) == "paper" and alternatives.setting("paper") == ""


def test_the_grid_is_every_combination_that_searches_differently() -> None:
    chosen = Resolved(load(_raw())).grid_readings("paper")
    assert chosen == [
        {},
        {"batch_norm": "frozen-unsmoothed"},
        {"batch_norm": "batch"},
        {"smooth": "noise"},  # with frozen-unsmoothed it would be the same search
        {"smooth": "noise", "batch_norm": "batch"},
    ]
    frozen = {"batch_norm": "frozen-unsmoothed", "smooth": "noise"}
    assert Resolved(load(merge(_raw(), {"recipes": {"paper": frozen}}))).grid_readings("paper")[0] == {}
    every = Resolved(load(_raw())).search_readings("paper")
    assert every[5:] == [{"initial_noise": 0.1}]  # the mutation is the default already


def test_alternatives_are_recipes_and_variants_of_their_own() -> None:
    resolved = Resolved(load(_raw()))
    assert resolved.recipes["paper--smooth-noise"].smooth == "noise"
    raw = resolved.training("cifar10", "search-all--learning_rate_scaling-decoupled--learning_rate-2")
    assert (raw.learning_rate_scaling, raw.learning_rate) == ("decoupled", 2.0)
    assert resolved.training_readings("cifar10", "search-skip0") == [{}]  # the grid alone
    assert resolved.training_readings("cifar10", "sgd") == [{}, {"learning_rate": 2.0}]


def test_tuning_tries_every_combination_and_the_plain_variant_once() -> None:
    raw = _raw()
    raw["variants"]["sgd"]["tune"] = {"learning_rate": [2.0, 4.0], "schedule": ["triangle", "constant"]}
    assert Resolved(load(raw)).tuned("cifar10", "sgd") == [
        "sgd--learning_rate-2",
        "sgd--learning_rate-2--schedule-constant",
        "sgd",
        "sgd--schedule-constant",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": ["cifar11"]}, "readings.datasets: 'cifar11'"),
        ({"variants": ["sgd"]}, "readings.variants: sgd must learn targets"),
        ({"baseline": "search-all"}, "readings.baseline: search-all must learn labels"),
        ({"grid": {"smoth": ["child"]}}, "smoth: unknown key"),
        ({"grid": {"smooth": ["never"]}}, "smooth"),
        ({"training": [{"epochs": 0}]}, "epochs: must be at least 1"),
        ({"grid": {"smooth": ["../x"]}}, "readings.grid.smooth"),
        ({"recipes": {"cifar10": ["nobody"]}}, "readings.recipes.cifar10: 'nobody'"),
    ],
)
def test_a_mistake_in_the_study_is_named(change: dict[str, Any], message: str) -> None:
    raw = _raw()
    raw["readings"] |= change
    with pytest.raises(UserError, match=message):
        load(raw)


def test_the_study_can_be_of_one_data_set_of_those_with_further_recipes() -> None:
    raw = _raw()
    raw["readings"] |= {"datasets": ["cifar10"], "recipes": {"cifar10": ["paper"], "mnist": ["mnist"]}}
    resolved = Resolved(load(raw))
    assert ("paper", {}) in resolved.readings_recipes("cifar10")
    raw["readings"]["recipes"] = {"cifar11": ["paper"]}
    with pytest.raises(UserError, match=r"readings\.recipes: 'cifar11' is not defined"):
        load(raw)


def test_names_of_ones_own_must_not_look_like_alternatives() -> None:
    raw = _raw()
    raw["variants"]["sgd--mine"] = {"learns": "labels"}
    with pytest.raises(UserError, match="marks alternatives"):
        load(raw)
