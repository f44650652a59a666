"""Table 3: collected from the CSVs of figure 8, cycles and ensembles."""

from pathlib import Path

import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.results import figures, table3
from tests.results import test_cycles, test_ensembles, test_figure8


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    figures.make(test_figure8.JOB, test_figure8._runs(tmp_path / "runs"), tmp_path / "figure8.csv")
    figures.make(test_cycles.JOB, test_cycles._inputs(tmp_path / "cycles"), tmp_path / "cycles.csv")
    evaluated = [test_ensembles._evaluated(tmp_path, "seeds", repeat, 0.8, 0.95 + repeat / 1000) for repeat in range(3)]
    figures.make(test_ensembles.JOB, evaluated, tmp_path / "ensembles.csv")
    return [tmp_path / f"{name}.csv" for name in ("figure8", "cycles", "ensembles")]


@pytest.fixture
def table(inputs: list[Path], tmp_path: Path) -> pd.DataFrame:
    table3.make(inputs, tmp_path / "table3.csv")
    return pd.read_csv(tmp_path / "table3.csv").set_index("method")


def test_methods_are_collected_with_what_they_cost(table: pd.DataFrame) -> None:
    images, passes = 46000 + 4000, 46000 * 4 * 3  # searched; training images × epochs × depth
    all_layers = "Search-based (All layers)"
    augmented = "SGD, with data augmentation"
    assert list(table.index[:4]) == ["SGD", augmented, all_layers, f"{all_layers}: larger population"]
    assert table["is_baseline"].tolist() == [1] + [0] * (len(table) - 1)
    assert table.loc[augmented, "difference"] == pytest.approx(5)
    four = table.loc[f"{all_layers}: more runs, fewer generations"]
    assert (four["mean"], four["searches"], four["seeds"], four["size"]) == (4.0, 2, 2, "4 × 240 × 75")
    assert four["candidates"] == pytest.approx(240 * 300 * images) and four["image_passes"] == passes
    last = table.loc["Cycles: on"]
    assert last["size"] == "2 cycles"
    assert last["mean"] == pytest.approx(70.5)
    assert last["image_passes"] == 3 * passes and last["candidates"] == pytest.approx(3 * 112_561 * images, rel=1e-5)
    ensemble, weighted = table.loc["Ensemble: seeds"], table.loc["Ensemble: seeds, weighted"]
    assert (ensemble["mean"], weighted["mean"]) == pytest.approx((95.1, 96.1))
    assert (ensemble["n"], ensemble["candidates"], ensemble["image_passes"]) == (3, 1e6, 2e6)
    assert table.loc["SGD", "candidates"] == 0


def test_verdicts_are_of_the_difference_from_sgd(table: pd.DataFrame) -> None:
    """SGD is 90 and 91; ensembles are 95.0, 95.1, 95.2: 4.6 points above it, by Welch's t-test with about 1 df."""
    ensemble = table.loc["Ensemble: seeds"]
    assert ensemble["difference"] == pytest.approx(4.6) and ensemble["low"] < 4.6 < ensemble["high"]
    assert ensemble["p"] == pytest.approx(0.062, abs=0.01) and ensemble["verdict"] == "not told apart"
    assert table.loc["Search-based (All layers)", "verdict"] == "below SGD"
    assert table["verdict"].isna()["SGD"]


def test_it_is_readable(table: pd.DataFrame, tmp_path: Path) -> None:
    text = (tmp_path / "table3.md").read_text()
    assert "|  | Toy, 46,000 |" in text and "Welch" in text
    assert "| SGD | 90.5 ± 0.7 (n = 2)<br>552 k |" in text  # 46,000 images × 4 epochs × depth 3
    assert "| Search-based (All layers) | 1.0 ± 0.0 (n = 2 × 2) ▼<br>-89.5 [" in text
    assert (tmp_path / "table3.png").exists()
    assert "<br>1 × 240 × 300; 3.6 G; 552 k |" in text  # candidates of 50,000 images


def test_one_source_is_enough_and_a_foreign_one_is_refused(inputs: list[Path], tmp_path: Path) -> None:
    table3.make(inputs[1:2], tmp_path / "alone.csv")
    assert set(pd.read_csv(tmp_path / "alone.csv")["verdict"].dropna()) == set()
    (tmp_path / "figure8.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"figure8\.csv has no column"):
        table3.make(inputs, tmp_path / "table3.csv")
