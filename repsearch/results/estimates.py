"""Means with their standard errors, and what they tell: intervals, p-values, the smallest effect that would show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit  # Student's t; `scipy.stats` takes a second to import

SIGNIFICANT = 0.05  # the two-sided p-value below which an effect counts; 1 minus the level of the intervals
WELCH = "Welch's t-test"
POWER = 0.8  # with which the smallest visible effect would be seen


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error and the degrees of freedom of that error (NaN and 0 where there is but one value).

    An error may have several independent components, each with its own degrees of freedom. Their variances add, and the
    degrees of freedom of the sum are Welch and Satterthwaite's; for the difference of two means this is Welch's t-test.
    """

    mean: float
    error: float
    df: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Estimate":
        """The mean of independent values, such as of images."""
        numbers = np.asarray(list(values), dtype=float)
        return cls(float(numbers.mean()), *_sum([_of_mean(numbers)]))

    @classmethod
    def of_spread(cls, row: pd.Series) -> "Estimate":
        """From a row's mean, std and n of independent values."""
        mean, std, n = float(row["mean"]), float(row["std"]), int(row["n"])
        return cls(mean, *_sum([(std**2 / n, n - 1)])) if n > 1 else cls(mean, nan, 0)

    @classmethod
    def of_runs(cls, table: pd.DataFrame) -> "Estimate":
        """The mean over searches (rows) of the mean over training seeds (columns), which every search shares.

        Its variance is that of the searches' means over their number plus that of the seeds' means over theirs, so that
        it speaks for other searches and other seeds. (It is somewhat too large: the noise of single runs is in both.
        Of searches alone it would be too small, since they share their seeds.) Of one search it speaks for training
        seeds alone, and the other way round.
        """
        values = table.to_numpy(dtype=float)
        components = [_of_mean(values.mean(axis)) for axis in (0, 1) if values.shape[1 - axis] > 1]
        return cls(float(values.mean()), *_sum(components))

    @classmethod
    def read(cls, row: pd.Series, prefix: str = "") -> "Estimate":
        """From a CSV's row that has mean, error and df."""
        return cls(*(float(row[f"{prefix}{name}"]) for name in ("mean", "error", "df")))

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two independent means (Welch)."""
        components = [(self.error**2, self.df), (other.error**2, other.df)]
        return Estimate(self.mean - other.mean, *_sum(components))

    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval."""
        half = self.error * self._quantile(1 - SIGNIFICANT / 2)
        return self.mean - half, self.mean + half

    def p(self, value: float = 0.0) -> float:
        """Two-sided, that the mean is `value`. NaN from one value."""
        if isnan(self.error):
            return nan
        if self.error == 0:
            return 0.0 if self.mean != value else 1.0
        return float(2 * stdtr(self.df, -abs(self.mean - value) / self.error))

    def smallest_effect(self) -> float:
        """About the smallest distance from the tested value that would be seen with 80 % power."""
        return self.error * (self._quantile(1 - SIGNIFICANT / 2) + self._quantile(POWER))

    def _quantile(self, probability: float) -> float:
        return nan if isnan(self.error) else float(stdtrit(self.df, probability))


def _of_mean(values: np.ndarray) -> tuple[float, float]:
    """(variance of the mean of independent values, its degrees of freedom)."""
    return (float(values.var(ddof=1)) / len(values), len(values) - 1) if len(values) > 1 else (nan, 0)


def _sum(components: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(standard error, degrees of freedom) of a sum of independent components (variance, degrees of freedom)."""
    total = sum(variance for variance, _ in components)
    if not components or isnan(total):
        return nan, 0.0
    if total == 0:
        return 0.0, float(min(df for _, df in components))
    return sqrt(total), total**2 / sum(variance**2 / df for variance, df in components)
