"""What a claim's verdict is made of, and the page of all claims."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.jobs import ReproductionJob, TableJob
from repsearch.results import figures, reproduction, tables
from repsearch.results.claims import Claim, Effect, verdict
from repsearch.results.estimates import Estimate
from tests.results import made_up

ROOT = Path(__file__).resolve().parents[2]
SCALE = ReproductionJob("toy", "width 4", "results/toy", "--configfile toy.yaml", full=False)
FULL = ReproductionJob("paper", "width 256", "results", "", full=True)
CLAIM = Claim("§1, figure 1", "All is well", "well", "a number", "a test", [], "3 images", "Toy")


def effect(mean: float, margin: float = 0.0, either: bool = False, error: float = 1.0) -> Effect:
    """With 10 degrees of freedom, so that 2.23 errors are significant and 2.63 at half of the level."""
    return Effect("", Estimate(mean, error, 10), margin=margin, either=either)


@pytest.mark.parametrize(
    ("found", "shown", "refuted"),
    [
        (effect(2.3), True, False),
        (effect(2.2), False, False),  # just within the noise
        (effect(-2.3), False, True),
        (effect(2.3, margin=1.0), False, False),
        (effect(3.3, margin=1.0), True, False),
        (effect(-1.3, margin=1.0), False, True),
        (effect(0.0, error=0.0), False, False),  # exactly at its margin
        (effect(1.0, error=math.nan), False, False),
        (effect(-13.0, margin=10.0, either=True), True, False),
        (effect(13.0, margin=10.0, either=True), True, False),
        (effect(9.0, margin=10.0, either=True), False, False),
        (effect(-7.0, margin=10.0, either=True), False, True),  # equivalent
        (effect(0.0, margin=1.0, either=True), False, False),  # equal, but not known well enough
    ],
)
def test_an_effect_is_shown_refuted_or_open(found: Effect, shown: bool, refuted: bool) -> None:
    assert (found.shown(), found.refuted()) == (shown, refuted)


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([3.0, 3.0], "holds"),
        ([3.0, 0.0], "undecided"),
        ([3.0, -2.5], "undecided"),  # refuted if it were the only one
        ([-2.5], "does not"),
        ([3.0, -2.7], "does not"),
        ([0.0, -3.0], "does not"),
        ([], "undecided"),
    ],
)
def test_all_effects_must_be_shown_and_one_refutes(means: Sequence[float], expected: str) -> None:
    assert verdict([effect(mean) for mean in means]) == expected


def test_what_cannot_fail_or_be_read_is_no_verdict() -> None:
    sure = [effect(9.0)]
    assert replace(CLAIM, effects=sure).verdict == "holds"
    assert replace(CLAIM, effects=sure, by_construction="it is so").verdict == "by construction"
    assert replace(CLAIM, effects=sure, problem="not tuned").verdict == "undecided"


def test_an_effect_says_what_it_is_and_what_it_could_have_been() -> None:
    found = Effect("block 0", Estimate(3.0, 1.0, 10), "5.0 → 2.0")
    assert str(found) == "block 0 5.0 → 2.0: +3.00 [+0.77, +5.23], p = 0.013, sees 3.11"
    assert str(effect(9.0)) == "+9.00 [+6.77, +11.23], p < 0.001, sees 3.11"
    assert "no error" in str(effect(1.0, error=math.nan)) and "nan" not in str(effect(1.0, error=math.nan))


def test_a_p_value_just_below_the_level_is_not_rounded_to_it() -> None:
    just_shown = Effect("", Estimate(2.233, 1.0, 10))
    assert just_shown.shown() and 0.0495 < just_shown.p < 0.05
    assert f"p = {just_shown.p:.4f}" in str(just_shown) and "p = 0.050," not in str(just_shown)


@pytest.mark.parametrize(
    ("scale", "changes", "words"),
    [
        (FULL, {}, "**holds**"),
        (FULL, {"searches": 3}, "**holds**"),
        (FULL, {"searches": 1}, "**holds**, on one search"),
        (FULL, {"setting": "at a probability of 0.1"}, "**holds**, at a probability of 0.1"),
        (SCALE, {"searches": 1}, "**holds**, on one search, not at the paper's scale"),
        (SCALE, {"effects": []}, "undecided, not at the paper's scale"),
        (FULL, {"by_construction": "it is so"}, "true by construction, not counted"),
    ],
)
def test_a_verdict_says_what_limits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: ReproductionJob, changes: dict[str, object], words: str
) -> None:
    claim = replace(CLAIM, **{"effects": [effect(9.0)], **changes})  # type: ignore[arg-type]
    monkeypatch.setattr(reproduction, "sources", lambda folder: {"tables/table1.csv": tables})
    monkeypatch.setattr(reproduction, "claims", lambda *_: [claim])
    assert f"| {words} |" in reproduction.to_markdown([(scale, tmp_path)])


def test_what_is_true_by_construction_shows_its_numbers_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = replace(CLAIM, effects=[Effect("block 0", Estimate(9.0, 1.0, 10), "9 → 0")], by_construction="it is so")
    monkeypatch.setattr(reproduction, "sources", lambda folder: {"tables/table1.csv": tables})
    monkeypatch.setattr(reproduction, "claims", lambda *_: [claim])
    page = reproduction.to_markdown([(FULL, tmp_path)])
    assert "| block 0 9 → 0<br>it is so | 3 images |" in page and "p < " not in page.partition("## Claim by claim")[2]


def _folder(folder: Path) -> Path:
    """Figures 2, 3 and 5 to 7 and tables 1 and 2 of made-up runs."""
    for name in ("figure2", "figure3", "figure5", "figure6", "figure7"):
        figures.make(
            made_up.figure_job(name), made_up.figure_inputs(name, folder / name), folder / f"figures/{name}.csv"
        )
    for number, augmentation in ((1, "plain"), (2, "augmented")):
        accuracies = {"sgd": 0.9, "search-skip0": 0.85, "search-all": 0.7}
        runs = made_up.table_runs(folder / "runs/tables", augmentation, ["toy"], accuracies)
        tables.make(TableJob(number, made_up.DATASETS), runs, folder / f"tables/table{number}.csv")
    return folder


def test_the_page_says_what_is_claimed_tested_and_found(tmp_path: Path) -> None:
    page = reproduction.to_markdown([(SCALE, _folder(tmp_path))])
    for words in (
        "within 1% of SGD",  # the paper's words
        "minus that of SGD, which must be above -1",
        "Welch's t-test",
        "2 searches × 3 training seeds for Search-based Learning, 3 training seeds for SGD",
        "**does not hold**, not at the paper's scale",
        "true by construction, not counted",
        "46,000 training images",
        "`snakemake results/toy/tables/table1.csv --configfile toy.yaml`",
        "Every claim at the paper's own scale",
        "the preset `readings` asks it",
    ):
        assert words in page
    page = reproduction.to_markdown([(FULL, tmp_path)])
    assert "**does not hold** |" in page and "not at the paper's scale |" not in page
    assert "Every claim at the paper's" not in page and "`snakemake results/tables/table1.csv`" in page


def test_publishing_keeps_what_the_page_is_made_from(tmp_path: Path) -> None:
    results, docs = _folder(tmp_path / "results"), tmp_path / "docs"
    reproduction.make(SCALE, results, results / "reproduction.md")
    (results / "figures/gallery.csv").write_text("megabytes")
    reproduction.publish(SCALE, results, docs)
    assert not [*docs.rglob("gallery.csv")] and [*docs.rglob("figure2.csv")]
    assert [scale for scale, _ in reproduction.published(docs)] == [SCALE]
    former = docs / SCALE.name / "figures/former.csv"
    former.write_text("of a figure that is no longer made")
    reproduction.publish(SCALE, results, docs)
    assert not former.exists()
    assert (tmp_path / "docs.md").read_text() == (results / "reproduction.md").read_text()


def test_a_csv_of_other_columns_is_listed_as_not_read(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "tables/table1.csv"
    pd.read_csv(file).drop(columns="error").to_csv(file, index=False)
    page = reproduction.to_markdown([(SCALE, tmp_path)])
    why = "an earlier version published it: it has no column error"
    assert f"| tables/table1.csv | The claims of this file at the scale toy | {why} |" in page
    assert "within 1 % of SGD" not in page and "figure 5" in page


def test_a_csv_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "tables/table1.csv"
    pd.read_csv(file).assign(mean="high").to_csv(file, index=False)
    with pytest.raises(UserError, match=re.escape(str(file))):
        reproduction.to_markdown([(SCALE, tmp_path)])
    with pytest.raises(UserError, match="run snakemake first"):
        reproduction.to_markdown([(SCALE, tmp_path / "nothing")])


def test_the_repositorys_page_is_made_from_its_csvs() -> None:
    folder = ROOT / "docs/reproduction"
    page = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
    assert page == reproduction.to_markdown(reproduction.published(folder)), "run: snakemake publish"


def test_numbers_of_a_csv_decide_as_those_of_the_runs_do() -> None:
    row = pd.Series({"mean": 2.0, "error": 0.5, "df": 4.0})
    assert Estimate.read(row) == Estimate(2.0, 0.5, 4.0) and np.isfinite(Estimate.read(row).p())
