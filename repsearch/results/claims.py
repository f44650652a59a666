"""A claim of the paper and its verdict (docs/reproduction.md). Each table and figure has its claims in its module."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy.stats import ttest_ind_from_stats

from repsearch.results import phrases

Verdict = Literal["holds", "does not", "undecided"]
SIGNIFICANT = 0.05  # the p-value below which a difference counts


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and what a results folder says about it.

    section: such as "§3.2, figure 2". n: of the means compared. scale: the data set, or the data set: its scale.
    """

    section: str
    claim: str
    paper: str
    ours: str
    n: str
    scale: str
    verdict: Verdict

    @classmethod
    def of(cls, rows: pd.DataFrame, section: str, claim: str, paper: str, ours: str, *parts: bool | None) -> "Claim":
        """A claim read from the rows of one data set, which give n and the scale; its verdict is that of its parts."""
        scale = ": ".join(text for text in (rows["label"].iloc[0], phrases.scale_text(rows)) if text)
        return cls(section, claim, paper, ours, phrases.number_range(rows["n"]), scale, verdict(*parts))


@dataclass(frozen=True)
class Mean:
    """A mean over n runs (or images) and their sample standard deviation, NaN where n is 1."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, row: pd.Series, prefix: str = "") -> "Mean":
        return cls(float(row[f"{prefix}mean"]), float(row[f"{prefix}std"]), int(row["n"]))

    def above(self, other: "Mean", by: float = 0.0) -> bool | None:
        """Whether this is above `other` by more than `by`, by Welch's t-test; None where the test leaves it open."""
        if min(self.n, other.n) < 2:
            return None
        if self.std == other.std == 0:
            return self.mean - by > other.mean
        _, p = ttest_ind_from_stats(self.mean - by, self.std, self.n, other.mean, other.std, other.n, equal_var=False)
        return self.mean - by > other.mean if p < SIGNIFICANT else None


def ends(frame: pd.DataFrame, x: str) -> dict[str, tuple[Mean, Mean]]:
    """The means of each block at the smallest and at the largest x."""
    blocks = frame.sort_values(x).groupby("block")
    return {block: (Mean.of(rows.iloc[0]), Mean.of(rows.iloc[-1])) for block, rows in blocks}


def verdict(*parts: bool | None) -> Verdict:
    """A claim holds if all its parts do; a refuted part refutes it; otherwise a part left open leaves it open."""
    if any(part is False for part in parts):
        return "does not"
    return "undecided" if None in parts else "holds"
