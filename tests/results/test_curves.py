"""Training curves: of the runs that the tables report, and of no others."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from repsearch.results import figures
from tests.results.made_up import NO_RECIPE, figure_job, run


def traced(folder: Path, **changes: Any) -> Path:
    summary = run(folder, **changes)
    accuracy = [0.1, 0.2, 0.3 + changes.get("seed", 0) / 10]
    epochs = {"epoch": [1, 2, 3], "validation_accuracy": accuracy, "validation_cross_entropy": [2.0, 1.5, 1.0]}
    pd.DataFrame(epochs).to_csv(summary.parent / "epochs.csv", index=False)
    return summary


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """SGD at two depths, of which validation prefers the deeper; a second augmentation; a second data set."""
    plain = [
        traced(tmp_path, variant="sgd", depth=depth, seed=seed, validation_accuracy=depth / 10, **NO_RECIPE)
        for depth in (1, 3)
        for seed in (0, 1)
    ]
    other = traced(tmp_path, augmentation="augmented", variant="search-skip0")
    return figures.find("curves").build(figure_job("curves"), [*plain, other, traced(tmp_path, dataset="mine")])


def test_each_variant_is_at_the_depth_that_its_table_reports(frame: pd.DataFrame) -> None:
    sgd = frame[frame["series"] == "sgd"]
    assert set(sgd["depth"]) == {3} and set(sgd["seed"]) == {0, 1} and len(sgd) == 2 * 2 * 3
    accuracy = sgd[(sgd["kind"] == "accuracy") & (sgd["epoch"] == 3)].set_index("seed")["value"]
    assert accuracy.to_dict() == pytest.approx({0: 30, 1: 40})
    assert list(frame["augmentation"].unique()) == ["plain", "augmented"]


def test_there_is_a_row_per_data_set_and_augmentation(frame: pd.DataFrame) -> None:
    axes = figures.find("curves").draw(frame).axes
    assert [ax.get_title() for ax in axes[::2]] == [
        "Toy (made up), without data augmentation",
        "MINE, without data augmentation",
        "Toy (made up), with data augmentation",
    ]
    assert {ax.get_ylabel() for ax in axes[1::2]} == {"Cross-entropy (nats)"}
    text = figures.find("curves").caption(frame)
    assert text.startswith("**Training curves.** Accuracy") and "2 training seeds" in text
