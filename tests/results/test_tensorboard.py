"""TensorBoard's event files hold what the runs' epochs.csv say."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.results.tensorboard import convert
from tests.results.test_listing import run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (0, 1):
        epochs = run(tmp_path, seed=seed).with_name("epochs.csv")
        losses = [1.0 + seed, 0.5, 0.25]
        frame = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": losses, "validation_accuracy": [0.2, 0.6, 0.5]})
        frame.to_csv(epochs, index=False)
    return tmp_path


def test_each_column_is_a_curve_over_epochs(results: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second time in place of the first
        assert convert(results, tmp_path / "events") == 2
    folder = tmp_path / "events/toy/plain/search-all/small/depth3/seed1"
    assert len(list(folder.iterdir())) == 1
    events = accumulator.EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["scalars"]) == {"train_loss", "validation_accuracy", "test_accuracy"}
    assert [(event.step, event.value) for event in events.Scalars("train_loss")] == [(1, 2.0), (2, 0.5), (3, 0.25)]
    assert [(event.step, event.value) for event in events.Scalars("test_accuracy")] == [(2, 0.5)]


def test_without_the_package_the_error_says_what_to_install(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(UserError, match=r"pip install 'repsearch\[tensorboard\]'"):
        convert(results, results / "events")


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with pytest.raises(UserError, match="no finished training runs"):
        convert(tmp_path, tmp_path / "events")
