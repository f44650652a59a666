"""Means, errors and tests against closed forms and SciPy's own tests."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from repsearch.results.estimates import Estimate

RANDOM = np.random.default_rng(0)
FEW, MANY = RANDOM.normal(1.0, 1.0, 4), RANDOM.normal(0.0, 3.0, 9)


def test_independent_values_are_the_one_sample_t_test() -> None:
    estimate, theirs = Estimate.of(FEW), stats.ttest_1samp(FEW, 0.5)
    assert (estimate.mean, estimate.error) == pytest.approx((FEW.mean(), FEW.std(ddof=1) / 2))
    assert estimate.df == pytest.approx(3)
    assert estimate.p(0.5) == pytest.approx(theirs.pvalue)
    assert estimate.interval() == pytest.approx(tuple(theirs.confidence_interval()))


def test_a_difference_is_welchs_t_test() -> None:
    difference, theirs = Estimate.of(FEW) - Estimate.of(MANY), stats.ttest_ind(FEW, MANY, equal_var=False)
    assert difference.p() == pytest.approx(theirs.pvalue) and difference.df == pytest.approx(theirs.df)
    assert difference.interval() == pytest.approx(tuple(theirs.confidence_interval()))


def test_of_mean_std_and_n() -> None:
    row = pd.Series({"mean": FEW.mean(), "std": FEW.std(ddof=1), "n": 4})
    assert Estimate.of_spread(row).interval() == pytest.approx(Estimate.of(FEW).interval())


def test_one_search_speaks_for_its_training_seeds() -> None:
    assert Estimate.of_runs(pd.DataFrame([FEW])).interval() == pytest.approx(Estimate.of(FEW).interval())


def test_one_seed_speaks_for_its_searches() -> None:
    assert Estimate.of_runs(pd.DataFrame({0: FEW})).interval() == pytest.approx(Estimate.of(FEW).interval())


def test_searches_and_seeds_both_count() -> None:
    """Rows 1, 3 and columns 1, 2, 3: means of rows 1 and 3, of columns 1, 2, 3."""
    estimate = Estimate.of_runs(pd.DataFrame([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]))
    of_searches, of_seeds = 2 / 2, 1 / 3  # variances of the means
    assert estimate.mean == 2 and estimate.error**2 == pytest.approx(of_searches + of_seeds)
    assert estimate.df == pytest.approx((of_searches + of_seeds) ** 2 / (of_searches**2 / 1 + of_seeds**2 / 2))


@pytest.mark.parametrize(("of_search", "of_seed"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_5_percent_of_differences_are_found_where_there_is_none(of_search: float, of_seed: float) -> None:
    """In made-up tables of 3 searches × 3 seeds whose true mean is 0. To take all runs as independent, or to take the
    searches' means alone where seeds matter, finds many more.
    """
    searches, seeds, runs = (RANDOM.normal(size=(1000, *shape)) for shape in ((3, 1), (1, 3), (3, 3)))
    tables = of_search * searches + of_seed * seeds + 0.5 * runs
    found = np.mean([Estimate.of_runs(pd.DataFrame(table)).p() < 0.05 for table in tables])
    independent = np.mean(stats.ttest_1samp(tables.reshape(1000, 9), 0, axis=1).pvalue < 0.05)
    of_searches = np.mean(stats.ttest_1samp(tables.mean(2), 0, axis=1).pvalue < 0.05)
    assert found < 0.07 and independent > 0.15 and (of_searches > 0.08 or not of_seed)


def test_equal_values_have_no_error_and_are_decided() -> None:
    same = Estimate.of([2.0, 2.0])
    assert same.interval() == (2.0, 2.0) and (same.p(1.0), same.p(2.0)) == (0.0, 1.0)
    assert (same - same).p() == 1.0


def test_one_value_decides_nothing() -> None:
    one = Estimate.of([2.0])
    for estimate in (one, one - Estimate.of(FEW), Estimate.of_runs(pd.DataFrame([[2.0]]))):
        assert math.isnan(estimate.p()) and math.isnan(estimate.smallest_effect()) and estimate.df == 0
    assert Estimate.of_spread(pd.Series({"mean": 2.0, "std": math.nan, "n": 1})).mean == 2


@pytest.mark.parametrize(("n", "low"), [(3, 0.75), (10, 0.79), (100, 0.79)])
def test_the_smallest_effect_is_seen_four_times_in_five(n: int, low: float) -> None:
    """By the noncentral t distribution: of n values that spread by 1 around the smallest effect."""
    effect = Estimate(0.0, 1 / math.sqrt(n), n - 1).smallest_effect()
    power = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n))
    assert low < power < 0.81
