"""A claim of the paper and its verdict (docs/reproduction.md). Each table and figure has its claims in its module."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

from repsearch.results.estimates import SIGNIFICANT, Estimate

Verdict = Literal["holds", "does not", "undecided", "by construction"]


@dataclass(frozen=True)
class Effect:
    """One comparison, turned so that the claim says: it is above `margin`; with `either`, or below -margin.

    name: of the comparison, such as "block 0". compared: the numbers, such as "0.89 → 0.83".
    """

    name: str
    estimate: Estimate
    compared: str = ""
    margin: float = 0.0
    either: bool = False

    @property
    def p(self) -> float:
        """Two-sided, that the effect is at its margin (with `either`, at the nearer one)."""
        return self._turned.p(self.margin)

    def shown(self, level: float = SIGNIFICANT) -> bool:
        return self.p < level and self._turned.mean > self.margin

    def refuted(self, level: float = SIGNIFICANT) -> bool:
        """Whether the effect is below its margin; with `either`, between the two (an equivalence test)."""
        return self.p < level and self._turned.mean < self.margin

    @property
    def _turned(self) -> Estimate:
        mean = abs(self.estimate.mean) if self.either else self.estimate.mean
        return Estimate(mean, self.estimate.error, self.estimate.df)

    @property
    def words(self) -> str:
        return " ".join(text for text in (self.name, self.compared) if text)

    def __str__(self) -> str:
        known = f"{self.words}: " if self.words else ""
        if isnan(self.estimate.error):
            return f"{known}{self.estimate.mean:+.2f}; one value has no error"
        low, high = self.estimate.interval()
        digits = 4 if abs(self.p - SIGNIFICANT) < 0.0005 else 3  # 0.0496 rounds to a level that it is below
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.{digits}f}"
        return (
            f"{known}{self.estimate.mean:+.2f} [{low:+.2f}, {high:+.2f}], {p}, "
            f"sees {self.estimate.smallest_effect():.2f}"
        )


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and what a results folder says about it.

    section: such as "§3.2, figure 2". claim: in our words. quote: the paper's. statistic: what an effect is, in which
    unit, and which value it must exceed. test: by name. n: of what the mean is over. scale: the data set, or the data
    set: its scale. paper: the paper's numbers, where the data are the paper's. ours: numbers that no effect has.

    searches: over how many searches a mean over runs is; None where it is over images. by_construction: why the claim
    can't fail; it then has no verdict that counts. setting: what differs from the paper's setting, beyond the scale.
    problem: why there can be no verdict.
    """

    section: str
    claim: str
    quote: str
    statistic: str
    test: str
    effects: Sequence[Effect]
    n: str
    scale: str
    paper: str = ""
    ours: str = ""
    searches: int | None = None
    by_construction: str = ""
    setting: str = ""
    problem: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.by_construction:
            return "by construction"
        return "undecided" if self.problem else verdict(self.effects)


def verdict(effects: Sequence[Effect]) -> Verdict:
    """A claim holds where every effect is shown, and does not where one is refuted; otherwise it is open.

    That all of k effects are shown needs no correction for their number. That one is refuted does, and is tested at
    level 0.05 / k (Bonferroni).
    """
    if any(effect.refuted(SIGNIFICANT / len(effects)) for effect in effects):
        return "does not"
    return "holds" if effects and all(effect.shown() for effect in effects) else "undecided"
