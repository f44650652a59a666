"""The figure of accuracy against the number of images."""

from pathlib import Path

import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.jobs import DatasetName, FigureJob
from repsearch.results import figures
from tests.results.made_up import NO_RECIPE, run

FEW, MANY = "toy-400", "toy"
JOB = FigureJob("gap", {FEW: DatasetName("Toy"), MANY: DatasetName("Toy")}, "")


def _runs(folder: Path, dataset: str, images: int, searched: float, sgd: float) -> list[Path]:
    """Two searches × two seeds of search-based learning at two learning rates, of which the first is better on
    validation and worse in the test; two seeds of SGD. Accuracies differ by 0.02 from seed to seed."""
    size = {"dataset": dataset, "train_images": images}
    runs = []
    for seed in (0, 1):
        noise = 0.01 * (2 * seed - 1)
        plain = {**size, **NO_RECIPE, "variant": "sgd", "seed": seed}
        runs.append(run(folder, **plain, test_accuracy=sgd + noise, validation_accuracy=0.6))
        for search in (0, 1):
            for name, better in (("search-all", 0.0), ("search-all--learning_rate-8", 0.1)):
                accuracies = {"test_accuracy": searched + noise + better, "validation_accuracy": 0.7 - better}
                changes = {**size, "variant": name, "seed": seed, **accuracies}
                runs.append(run(folder, search=search, settings_digest=name, **changes))
    return runs


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    runs = _runs(tmp_path, MANY, 46000, 0.89, 0.90) + _runs(tmp_path, FEW, 400, 0.45, 0.50)
    return figures.find("gap").build(JOB, runs)


def test_the_gap_is_to_sgd_on_the_same_images(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == figures.find("gap").COLUMNS
    table = frame.set_index(["variant", "x"])
    assert list(table.index) == [("search-all", 400), ("search-all", 46000), ("sgd", 400), ("sgd", 46000)]
    assert table["mean"].tolist() == pytest.approx([45, 89, 50, 90])
    assert table["gap"].tolist() == pytest.approx([-5, -1, 0, 0])
    assert table.loc[("search-all", 400), ["n", "searches", "seeds", "tried"]].tolist() == [4, 2, 2, 2]
    assert table.loc[("search-all", 400), "setting"] == "default"  # which validation prefers
    low, high = table.loc[("search-all", 400), ["gap_low", "gap_high"]]
    # Searches agree, seeds have a standard error of 1 on either side: df = 2, t = 4.303.
    assert (low, high) == pytest.approx((-5 - 4.3027 * 2**0.5, -5 + 4.3027 * 2**0.5), rel=1e-4)


def test_it_is_drawn_and_captioned(frame: pd.DataFrame) -> None:
    figure = figures.find("gap").draw(frame)
    assert [ax.get_title() for ax in figure.axes] == ["Toy", ""]
    above, below = figure.axes
    assert [len(container.lines[0].get_xdata()) for container in above.containers] == [2, 2]
    assert list(below.containers[0].lines[0].get_ydata()) == pytest.approx([-5, -1])
    assert "95 % confidence intervals" in figures.find("gap").caption(frame)


def test_a_data_set_without_sgd_is_refused(tmp_path: Path) -> None:
    runs = [path for path in _runs(tmp_path, MANY, 46000, 0.8, 0.9) if "sgd" not in path.parent.name]
    with pytest.raises(UserError, match="gap: toy has no runs of sgd"):
        figures.find("gap").build(JOB, runs)
