import math
from dataclasses import replace
from typing import Any

import pytest

from repsearch.search.recipe import Layer, Recipe, scaled, scaled_generations, scaled_population

LAYERS = (Layer(300, 0.3, 5.0, 5), Layer(100, 0.2, 3.0, 1), Layer(100, 0.1, 3.0, 1), Layer(10, 0.1, 1.0, 0))
PAPER = Recipe(LAYERS)


def test_the_defaults_are_the_papers() -> None:
    assert (PAPER.population, PAPER.parents, PAPER.explorers, PAPER.refiners) == (240, 20, 100, 120)


@pytest.mark.parametrize("population", [1, 2, 3, 6, 12, 13, 24, 60, 120, 239, 240, 480])
def test_scaled_population(population: int) -> None:
    scaled = scaled_population(PAPER, population)
    assert scaled.parents + scaled.explorers + scaled.refiners == scaled.population == population
    assert scaled.parents == 1 or abs(scaled.parents - population * 20 / 240) <= 0.5
    assert scaled.parents >= 1
    for part, of_240 in ((scaled.parents, 20), (scaled.explorers, 100), (scaled.refiners, 120)):
        assert abs(part - population * of_240 / 240) <= 1
        if population % 12 == 0:
            assert part * 240 == population * of_240
    assert scaled.layers == LAYERS and scaled.seed == PAPER.seed


@pytest.mark.parametrize(("count", "expected"), [(300, [300, 100, 100, 10]), (30, [30, 10, 10, 1]), (3, [3, 1, 1, 1])])
def test_scaled_generations(count: int, expected: list[int]) -> None:
    scaled = scaled_generations(PAPER, count)
    assert [layer.generations for layer in scaled.layers] == expected
    assert [layer.alpha for layer in scaled.layers] == [0.3, 0.2, 0.1, 0.1]
    assert PAPER.layers[0].generations == 300  # the recipe itself is unchanged


def test_scaled_generations_leaves_out_what_was_left_out() -> None:
    scaled = scaled_generations(Recipe((*LAYERS[:3], Layer(0, 0.1, 1.0, 0))), 30)
    assert [layer.generations for layer in scaled.layers] == [30, 10, 10, 0]


def test_population_and_generations_are_scaled_together_with_other_changes() -> None:
    both = scaled(PAPER, {"population": 60, "generations": 30, "runs": 4, "seed": 2})
    assert both == replace(scaled_generations(scaled_population(PAPER, 60), 30), runs=4, seed=2)
    assert scaled(PAPER, {}) == PAPER


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_runs_have_seeds_of_their_own(seed: int) -> None:
    recipe = replace(PAPER, runs=1000, seed=seed)
    runs = [recipe.run(number) for number in range(1000)]
    assert runs[0] == replace(PAPER, seed=seed)
    assert len({run.seed for run in runs}) == 1000 and all(run.runs == 1 for run in runs)
    # No run is the first run of another search with a small seed.
    assert all(run.seed >= 2**32 for run in runs[1:])
    assert replace(PAPER, seed=2**64 - 1, runs=2).run(1).seed == 2**32 - 1  # 64 bits at most


def test_candidates_are_counted_over_all_runs_and_layers() -> None:
    recipe = Recipe(tuple(Layer(g, 0.1, 1.0, 0) for g in (3, 2, 0, 1)), population=8, parents=2, explorers=3)
    assert recipe.candidates == 8 + 3 + 6 * 6
    assert replace(recipe, start="population", runs=5).candidates == 5 * (4 * 8 + 6 * 6)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"population": 0}, "population"),
        ({"parents": 0}, "parents"),
        ({"explorers": -1}, "explorers"),
        ({"explorers": 221}, "explorers"),
        ({"parents": 241, "explorers": 0}, "parents"),
        ({"initial_noise": -0.1}, "initial_noise"),
        ({"initial_noise": math.nan}, "initial_noise"),
        ({"initial_noise": math.inf}, "initial_noise"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"runs": 0}, "runs must be finite and at least 1"),
        ({"runs": 1001}, "runs must be at most 1000"),
        ({"layers": LAYERS[:3]}, "layers"),
        ({"layers": ({"generations": 1},) * 4}, "layers"),
        ({"crossover": "median"}, "crossover must be 'mean', 'uniform' or your own 'module:function', not 'median'"),
        ({"mutation": "pixel"}, "mutation must be 'channel', 'element' or your own"),
        ({"smoothing": "my.module:"}, "smoothing must be 'average' or your own"),
        ({"normalisation": 3}, "normalisation must be 'standard' or your own"),
        ({"smooth": "parents"}, "smooth must be 'child' or 'noise', not 'parents'"),
        ({"batch_norm": "freezing"}, "batch_norm must be 'trajectory' or 'frozen' or 'frozen-unsmoothed' or 'batch'"),
        ({"statistics_images": 0}, "statistics_images must be finite and at least 1"),
        ({"statistics_images": 12.5}, "statistics_images must be an integer"),
        ({"refine_from": "explorers"}, "refine_from must be"),
        ({"start": None}, "start must be"),
        ({"count_padding": 1}, "count_padding must be True or False, not 1"),
        ({"population": 240.0}, "population must be an integer"),
        ({"parents": True}, "parents must be an integer"),
        ({"initial_noise": "0.3"}, "initial_noise must be a number"),
    ],
)
def test_a_recipe_s_mistakes_are_named(changes: dict, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Recipe(**{"layers": LAYERS, **changes})


@pytest.mark.parametrize("field", ["generations", "alpha", "boost", "blur"])
def test_a_layer_s_mistakes_are_named(field: str) -> None:
    good = {"generations": 1, "alpha": 0.1, "boost": 1.0, "blur": 0}
    assert Layer(**{**good, field: 0})
    for bad in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"{field} must be"):
            Layer(**{**good, field: bad})


def test_plain_form_is_a_round_trip() -> None:
    plain = PAPER.to_dict()
    assert Recipe(**{**plain, "layers": tuple(Layer(**layer) for layer in plain["layers"])}) == PAPER


@pytest.mark.parametrize(
    ("batch_norm", "independent", "reevaluates"),
    [("trajectory", True, True), ("frozen", True, False), ("frozen-unsmoothed", True, False), ("batch", False, True)],
)
def test_what_the_statistics_mean_for_a_search(batch_norm: Any, independent: bool, reevaluates: bool) -> None:
    recipe = Recipe(LAYERS, batch_norm=batch_norm)
    assert (recipe.independent, recipe.reevaluates) == (independent, reevaluates)
    assert PAPER.batch_norm == "trajectory"
