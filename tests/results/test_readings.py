import pandas as pd
import pytest
from scipy.stats import t

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


def test_the_smallest_difference_that_shows_is_of_the_pooled_error():
    frame = pd.DataFrame({"validation_error": [3.0, 4.0, 99.0], "validation_df": [20, 20, 0]})  # the last is of one run
    error = (2 * (9 + 16) / 2) ** 0.5
    assert readings.smallest_difference(frame) == pytest.approx(error * (t.ppf(0.975, 40) + t.ppf(0.8, 40)))
    assert readings.smallest_difference(frame[2:]) == 0


def test_an_altered_run_is_not_counted(tmp_path):
    runs, targets = made_up.study(tmp_path)
    runs[0].write_text(runs[0].read_text().replace('"depth": 3', '"depth": 2'))
    with pytest.raises(UserError, match="was altered"):
        readings.make(ReadingsJob(made_up.DATASETS), [*runs, *targets], tmp_path / "readings.csv")


def test_the_claim_needs_a_recipe_that_differs_in_its_blur_alone(tmp_path):
    runs, targets = made_up.study(tmp_path)
    frame = readings.build(made_up.read(runs), targets)
    (claim,) = readings.claims(frame)
    assert claim.effects[0].compared == "55.0 ± 7.1 and 25.0 ± 7.1" and claim.verdict == "undecided"
    assert "noise per channel" in claim.claim
    assert not list(readings.claims(frame[frame["reading"] != "small-unsmoothed"]))


def test_targets_of_several_searches_are_averaged(tmp_path):
    runs = [made_up.run(tmp_path, search=search, seed=seed) for search in (0, 1) for seed in (0, 1)]
    names = {"small": "1" * 12, "small--seed-1": "2" * 12}
    targets = [made_up.facts(tmp_path, name, digest, 1.5 + index) for index, (name, digest) in enumerate(names.items())]
    (row,) = readings.build(made_up.read(runs), targets).to_dict("records")
    assert (row["reading"], row["n"], row["searches"], row["cross_entropy_logits"]) == ("small", 4, 2, 2.0)
    with pytest.raises(UserError, match="no facts of the targets of toy, small"):
        readings.build(made_up.read(runs), targets[:1])
