"""The paper's claims against one results folder, as the rows of one table."""

from dataclasses import dataclass
from math import isnan
from pathlib import Path

from repsearch.jobs import ReproductionJob
from repsearch.results import reproduction
from repsearch.results.claims import Claim, Effect, Verdict

SEES = "(sees: the smallest distance from the threshold that the test would find with about 80 % power)"


@dataclass(frozen=True)
class Row:
    """A claim and what was found. paper, ours: lines. details: (term, lines), of how it was tested."""

    section: str
    claim: str
    quote: str
    paper: str
    ours: list[str]
    verdict: Verdict
    limits: str
    details: list[tuple[str, list[str]]]
    command: str


def rows(job: ReproductionJob, folder: Path) -> list[Row]:
    """Every claim that a CSV of the folder says something about, in the paper's order."""
    entries, _ = reproduction.collect([(job, folder)])
    return [_row(job, file, claim) for lines in entries.values() for _, file, claim in lines]


def _row(job: ReproductionJob, file: str, claim: Claim) -> Row:
    details = [("Statistic", [claim.statistic]), ("Test", [claim.test]), ("n", [claim.n])]
    if not claim.by_construction:
        seeing = [SEES] if any(not isnan(effect.estimate.error) for effect in claim.effects) else []
        details.append(("Effect [95 % interval]", [*(str(effect) for effect in claim.effects), *seeing]))
    details += [("Data", [claim.scale])]
    ours = [claim.ours] if claim.ours else []
    ours += [_number(effect) for effect in claim.effects] + [text for text in (claim.problem,) if text]
    return Row(
        claim.section,
        claim.claim,
        claim.quote,
        claim.paper,
        [line for text in ours for line in text.split("\n")],
        claim.verdict,
        claim.by_construction or ", ".join(reproduction.limits(claim)),
        [(term, [text for text in lines if text]) for term, lines in details],
        job.command(file),
    )


def _number(effect: Effect) -> str:
    return effect.words if effect.compared or not effect.name else f"{effect.name}: {effect.estimate.mean:+.2f}"
