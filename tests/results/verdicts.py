"""What the tests of verdicts share: a figure's, the tables' or the readings' claims from a made-up frame."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from repsearch.results import figures, readings, tables
from repsearch.results.claims import Claim
from repsearch.results.runs import SCALE

FACTS: dict[str, Any] = {"label": "Toy", **dict.fromkeys(SCALE, 100)}
HOLDS, REFUTED, OPEN = "holds", "does not", "undecided"


def claims(module: str, frame: pd.DataFrame) -> dict[str, Claim]:
    """By the figure's claim."""
    modules: Mapping[str, Any] = {"tables": tables, "readings": readings}
    found: Iterable[Claim] = (modules.get(module) or figures.find(module)).claims(frame.assign(**FACTS))
    return {claim.claim: claim for claim in found}
