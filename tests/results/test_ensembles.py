"""The figure of ensembles."""

from pathlib import Path

import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.jobs import DatasetName, FigureJob
from repsearch.results import figures
from repsearch.storage.manifest import write_manifest

JOB = FigureJob("ensembles", {"toy": DatasetName("Toy")}, "")


def _evaluated(folder: Path, kind: str, repeat: int, member: float, ensemble: float, **changes: str) -> Path:
    """A made-up ensemble whose weighted mean is 0.01 better, and whose members disagree on a tenth."""
    values = {"member": member, "ensemble": ensemble, "weighted": ensemble + 0.01, "picked": ensemble}
    values |= {"best": member, "disagreement": 0.1, "candidates": 1e6, "image_passes": 2e6}
    frame = pd.DataFrame({"measure": list(values), "value": list(values.values())})
    facts = {"dataset": "toy", "kind": kind, "repeat": repeat, "members": 8, "train_images": 400, "width": 32}
    facts |= {"validation_images": 500, "test_images": 2000, "depth": 1, "epochs": 20, "recipe_digest": "1" * 12}
    csv = folder / f"{kind}-{repeat}.csv"
    facts |= {"precision": "float32", "evaluated_by": "3" * 12, "code_version": "2" * 12, **changes}
    frame.assign(**facts).to_csv(csv, index=False)
    write_manifest(csv.with_suffix(".json"), {}, [csv], {})
    return csv


def test_ensembles_of_a_kind_are_averaged_and_drawn(tmp_path: Path) -> None:
    inputs = [_evaluated(tmp_path, "seeds", repeat, 0.8 + repeat / 100, 0.85 + repeat / 50) for repeat in (0, 1)]
    inputs += [_evaluated(tmp_path, "sgd", 0, 0.9, 0.9)]
    figures.make(JOB, inputs, tmp_path / "ensembles.csv")
    frame = pd.read_csv(tmp_path / "ensembles.csv").set_index(["kind", "measure"])
    assert frame.loc[("seeds", "member"), ["mean", "n"]].tolist() == pytest.approx([80.5, 2])
    assert frame.loc[("seeds", "gain"), "mean"] == pytest.approx((5 + 6) / 2)  # per ensemble, then averaged
    assert frame.loc[("seeds", "gain"), "std"] == pytest.approx(0.5**0.5, rel=1e-4)
    assert frame.loc[("sgd", "disagreement"), "mean"] == pytest.approx(10)
    assert frame.loc[("sgd", "candidates"), "mean"] == 1e6
    module = figures.find("ensembles")
    figure = module.draw(frame.reset_index())
    accuracy, spread = figure.axes
    assert [text.get_text() for text in spread.get_legend().get_texts()] == ["seeds", "sgd"]
    assert len({container.lines[0].get_marker() for container in spread.containers}) == 2
    assert [text.get_text() for text in accuracy.get_xticklabels()] == ["seeds", "sgd"]
    assert len(accuracy.containers) == 4 and len(spread.containers) == 2
    assert accuracy.get_title() == "Toy, 400 images"
    text = (tmp_path / "ensembles.md").read_text()
    assert "8 members" in text and "500 validation images" in text


@pytest.mark.parametrize(("field", "other"), [("precision", "bfloat16"), ("code_version", "4" * 12)])
def test_ensembles_that_are_not_alike_are_never_averaged(tmp_path: Path, field: str, other: str) -> None:
    inputs = [_evaluated(tmp_path, "seeds", 0, 0.8, 0.9), _evaluated(tmp_path, "seeds", 1, 0.8, 0.9, **{field: other})]
    with pytest.raises(UserError, match=f"can't average ensembles of seeds that differ in {field}"):
        figures.find("ensembles").build(JOB, inputs)
