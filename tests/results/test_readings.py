import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.jobs import ReadingsJob
from repsearch.results import readings
from repsearch.results.runs import read_csv
from tests.results import made_up


def test_the_study_compares_each_reading_with_sgd(tmp_path):
    runs, targets = made_up.study(tmp_path)
    job, out = ReadingsJob(made_up.DATASETS), tmp_path / "readings.csv"
    readings.make(job, [*runs, *targets], out)
    frame = read_csv(out, readings.COLUMNS)
    rows = frame.set_index(["part", "reading", "variant"])
    assert rows.loc[("search", "default", "search-all"), "validation_mean"] == pytest.approx(55)
    assert rows.loc[("search", "smooth noise", "search-all"), "validation_std"] == pytest.approx(7.0711, abs=1e-4)
    assert rows.loc[("training", "compare before_gelu", "search-all"), "cross_entropy_block0"] == 1.5
    assert pd.isna(rows.loc[("baseline", "default", "sgd"), "cross_entropy_block0"])
    assert readings.best_baseline(frame)["validation_mean"] == pytest.approx(65)
    text = out.with_suffix(".md").read_text()
    assert "| Search | default | 1.50, 1.50, 1.50, 1.50 |" in text and "55.0 ± 7.1" in text
    assert out.with_suffix(".png").stat().st_size > 10_000
    with pytest.raises(UserError, match="no facts of the targets of toy, small--smooth-noise"):
        readings.make(job, [*runs, targets[0]], out)


def test_an_altered_run_is_not_counted(tmp_path):
    runs, targets = made_up.study(tmp_path)
    runs[0].write_text(runs[0].read_text().replace('"depth": 3', '"depth": 2'))
    with pytest.raises(UserError, match="was altered"):
        readings.make(ReadingsJob(made_up.DATASETS), [*runs, *targets], tmp_path / "readings.csv")


def test_the_claim_needs_a_recipe_without_blur(tmp_path):
    runs, targets = made_up.study(tmp_path)
    frame = readings.build(made_up.read(runs), targets)
    (claim,) = readings.claims(frame)
    assert claim.ours == "validation accuracy 55.0 ± 7.1 with, 25.0 ± 7.1 without" and claim.verdict == "undecided"
    assert not list(readings.claims(frame[frame["reading"] != "small-unsmoothed"]))
