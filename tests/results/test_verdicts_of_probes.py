"""Claims on means over images (figures 2 and 3): where each holds, is refuted, and is left open."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from repsearch.results.claims import Claim
from tests.results.verdicts import HOLDS, OPEN, REFUTED, claims

# Figure 2


def fitness(
    std: float = 0.1, n: int = 100, elitist: int = 1, **means: tuple[list[float], list[float]]
) -> dict[str, Claim]:
    """means: of each block, with population 10, 20, 40 and after 1, 2, 4 generations."""
    rows = [
        {"panel": panel, "block": block, "x": x, "mean": mean, "std": std, "n": n, "elitist": elitist}
        for block, series in means.items()
        for panel, points, values in zip(("population", "generations"), ((10, 20, 40), (1, 2, 4)), series, strict=True)
        for x, mean in zip(points, values, strict=True)
    ]
    return claims("figure2", pd.DataFrame(rows))


def three(population: list[float], generations: list[float], **options: Any) -> dict[str, Claim]:
    return fitness(
        block0=(population, generations), block1=(population, generations), block2=(population, generations), **options
    )


@pytest.mark.parametrize(
    ("population", "std", "expected"),
    [
        ([2.0, 1.5, 1.0], 0.1, HOLDS),
        ([1.0, 1.5, 2.0], 0.1, REFUTED),
        ([2.0, 1.0, 2.0], 0.1, OPEN),  # exactly at the boundary
        ([2.0, 1.5, 1.0], 10.0, OPEN),
    ],
)
def test_cross_entropy_falls_with_population(population: list[float], std: float, expected: str) -> None:
    claim = three(population, [2.0, 1.5, 1.0], std=std)["The search's cross-entropy falls with population"]
    assert claim.verdict == expected and claim.n == "100 images, one search network"


@pytest.mark.parametrize(
    ("generations", "elitist", "expected"),
    [
        ([3.0, 2.0, 1.0], 1, "by construction"),
        ([3.0, 2.0, 1.0], 0, HOLDS),  # parents are evaluated anew, so that it could have risen
        ([1.0, 2.0, 3.0], 0, REFUTED),
        ([2.0, 3.0, 2.0], 0, OPEN),
    ],
)
def test_cross_entropy_falls_with_generations(generations: list[float], elitist: int, expected: str) -> None:
    found = three([2.0, 1.5, 1.0], generations, elitist=elitist)
    claim = found["The search's cross-entropy falls with generations"]
    assert claim.verdict == expected
    if not elitist:  # in block 2 it can't rise whatever the recipe, so that its fall is no evidence
        assert [effect.name for effect in claim.effects] == ["block 0", "block 1"]


@pytest.mark.parametrize(
    ("generations", "std", "expected"),
    [
        ([3.0, 2.0, 1.0], 0.1, HOLDS),
        ([3.0, 2.0, 2.0], 0.1, REFUTED),  # it fell, but no longer
        ([3.0, 2.0, 1.95], 0.1, OPEN),  # by just what counts
        ([3.0, 2.0, 1.9], 0.1, HOLDS),
        ([3.0, 2.0, 1.8], 1.0, OPEN),
    ],
)
def test_the_last_generations_pay(generations: list[float], std: float, expected: str) -> None:
    claim = three([2.0, 1.5, 1.0], generations, std=std)[
        "In every block the last generations still lower the cross-entropy by 0.05 nats or more (our threshold)"
    ]
    assert claim.verdict == expected


@pytest.mark.parametrize(
    ("block0", "block1", "block2", "expected"),
    [(1.2, 1.3, 1.0, HOLDS), (0.8, 1.3, 1.0, REFUTED), (1.0, 1.3, 1.0, OPEN), (1.01, 1.3, 1.0, OPEN)],
)
def test_block_2_is_easiest_with_most_compute(block0: float, block1: float, block2: float, expected: str) -> None:
    lasts = {"block0": block0, "block1": block1, "block2": block2}
    found = fitness(**{block: ([9.0, 9.0, last], [9.0, 8.0, last]) for block, last in lasts.items()})
    claim = found["In the end block 2 has a lower cross-entropy than blocks 0 and 1"]
    assert claim.verdict == expected
    fewer = "1 generations: block 0 9.00, block 1 9.00, block 2 9.00; with 2 generations: block 0 8.00"
    assert claim.ours.startswith(f"(with {fewer}")


# Figure 3


def diversity(
    by_block: Callable[[int, int, int], tuple[int, float]], images: int = 20, **options: Any
) -> dict[str, Claim]:
    """by_block: (block, image, runs) → how many count, and their N_eff. 8 runs."""
    rows = []
    for block in range(3):
        for image in range(images):
            for runs in range(1, 9):
                accepted, effective = by_block(block, image, runs)
                rows.append(
                    {
                        "block": f"block{block}",
                        "image": image,
                        "runs": runs,
                        "accepted": accepted,
                        "effective": effective,
                    }
                )
    return claims("figure3", pd.DataFrame(rows).assign(**{"probability": 0.5, **options}))


def spread(image: int) -> float:
    """A little of an image's own, of mean 0."""
    return 0.02 * (image % 2 - 0.5)


GROWS = "N_eff still grows in the second half of the runs, by 10 % or more (our threshold)"
FASTEST = "N_eff grows fastest for block 0, later blocks slower: at equal numbers of "
AT_EQUAL_RUNS, AT_EQUAL_COUNTS = (
    FASTEST + "runs, as in the paper's figure",
    FASTEST + "candidates that count (our comparison)",
)


@pytest.mark.parametrize(
    ("last", "expected"), [(3.0, HOLDS), (2.0, REFUTED), (2.2, OPEN), (2.19, REFUTED), (2.21, HOLDS)]
)
def test_n_eff_still_grows(last: float, expected: str) -> None:
    """From 2 after half of the runs; a tenth more is the boundary."""
    found = diversity(lambda _, image, runs: (runs, (2.0 if runs < 8 else last + spread(image)) if runs > 1 else 1.0))
    assert found[GROWS].verdict == expected
    assert found["N_eff of several runs is above that of one"].verdict == "by construction"


def test_n_eff_is_left_open_where_images_differ() -> None:
    found = diversity(lambda _, image, runs: (runs, 2.0 if runs < 8 else 2.5 + 100 * spread(image)))
    assert found[GROWS].verdict == OPEN


@pytest.mark.parametrize(
    ("growth", "expected"),
    [((0.6, 0.4, 0.2), HOLDS), ((0.4, 0.6, 0.2), REFUTED), ((0.4, 0.4, 0.2), OPEN), ((0.41, 0.4, 0.2), HOLDS)],
)
def test_n_eff_grows_fastest_for_block_0(growth: tuple[float, ...], expected: str) -> None:
    found = diversity(lambda block, image, runs: (runs, 1 + (runs - 1) * (growth[block] + spread(image + block) / 10)))
    claim = found[AT_EQUAL_COUNTS]
    assert claim.verdict == expected and claim.n.startswith("20 of 20 images") and "8.0 candidates" in claim.ours
    assert found[AT_EQUAL_RUNS].verdict == expected and found[AT_EQUAL_RUNS].effects == claim.effects  # all count


def test_blocks_are_compared_at_as_many_candidates_that_count() -> None:
    """Block 0 has twice as many that count, each of which adds less: at all runs it would look more diverse."""

    def found(block: int, image: int, runs: int) -> tuple[int, float]:
        accepted = runs if block == 0 else (runs + 1) // 2
        return accepted, 1 + (accepted - 1) * ((0.6, 0.8, 0.7)[block] + spread(image + block))

    claims_of = diversity(found)
    claim = claims_of[AT_EQUAL_COUNTS]
    assert claim.verdict == REFUTED and "4.0 candidates" in claim.ours
    assert claim.effects[0].name == "block 0 2.80, block 1 3.40"  # of four each
    assert claims_of[AT_EQUAL_RUNS].verdict == HOLDS
    names = [effect.name for effect in claims_of[AT_EQUAL_RUNS].effects]
    assert names == ["block 0 5.20, block 1 3.40", "block 1 3.40, block 2 3.10"]


def test_images_without_two_candidates_are_left_out() -> None:
    few = diversity(lambda block, image, runs: (min(runs, 1 + image % 2), 1.0 + 0.1 * (2 - block) * (image % 2)))
    assert few[AT_EQUAL_COUNTS].n.startswith("10 of 20 images")
    assert few[AT_EQUAL_RUNS].n.startswith("20 of 20 images")
    none = diversity(lambda *_: (1, 1.0))[AT_EQUAL_COUNTS]
    assert none.verdict == OPEN and "no image has two runs" in none.problem
    nothing = diversity(lambda block, *_: (0, float("nan")) if block == 2 else (1, 1.0))
    assert nothing[GROWS].verdict == OPEN and "in one block or more" in nothing[GROWS].problem
    alike = nothing[AT_EQUAL_RUNS]
    assert alike.verdict == OPEN and "no image has a run that counts in every block" in alike.problem


@pytest.mark.parametrize(
    ("probability", "setting"), [(0.5, ""), (0.125, "at a probability of 0.125 (the paper's is 0.5)")]
)
def test_another_probability_than_the_papers_is_named(probability: float, setting: str) -> None:
    for claim in diversity(lambda *_: (2, 1.5), probability=probability).values():
        assert claim.setting == setting and f"above {probability}" in claim.ours
