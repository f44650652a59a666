"""docs/results.md explains every column of every CSV."""

import re
from pathlib import Path

import pytest

from repsearch.results import figures, readings, table3, tables

PAGE = (Path(__file__).resolve().parents[2] / "docs/results.md").read_text(encoding="utf-8")
MODULES = {"table1": tables, "table2": tables, "table3": table3, "readings": readings}
MODULES |= {name: figures.find(name) for name in figures.available()}


@pytest.mark.parametrize("csv", MODULES)
def test_every_column_is_explained(csv: str) -> None:
    shared, own = (
        re.search(rf"### {title}\n(.*?)\n##", PAGE + "\n##", re.DOTALL) for title in ("Of several CSVs", "Of one")
    )
    assert shared and own
    rows = [line for line in own[1].splitlines() if line.startswith("| `") and f"`{csv}`" in line.split(" | ")[0]]
    assert len(rows) == 1, f"docs/results.md has {len(rows)} rows of {csv}"
    named = {*re.findall(r"`(\w+)`", shared[1]), *re.findall(r"`(\w+)`", rows[0])}
    assert not {*MODULES[csv].COLUMNS} - named
