"""Figure 8: accuracy against what search compute is spent on."""

from pathlib import Path

import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.jobs import DatasetName, FigureJob
from repsearch.results import figures
from tests.results.made_up import NO_RECIPE, run

JOB = FigureJob("figure8", {"toy": DatasetName("Toy")}, "")
RECIPES = {  # population, generations of block 0, runs
    "small": (240, 300, 1),
    "small--population-60": (60, 300, 1),
    "small--generations-75": (240, 75, 1),
    "small--runs-4": (240, 300, 4),
    "small--runs-4--generations-75": (240, 75, 4),
    "small--runs-4--population-60": (60, 300, 4),
}


def _runs(folder: Path, recipes: dict[str, tuple[int, int, int]] = RECIPES) -> list[Path]:
    """Two searches × two seeds of each recipe, and SGD at two learning rates of which validation prefers the default
    without augmentation, the other with it.

    The accuracy is the runs' number in per cent; candidates are population × generations × runs.
    """
    paths = []
    for seed in (0, 1):
        for recipe, (population, generations, runs) in recipes.items():
            size = {"population": population, "generations": generations, "runs": runs}
            size["candidates"] = population * generations * runs
            for variant in ("search-all", "search-skip0"):
                for search in (0, 1):
                    facts = {"recipe": recipe, "variant": variant, "seed": seed, "searched": size, "search": search}
                    paths.append(run(folder, **facts, **size, test_accuracy=runs / 100))
        for name, validated in (("sgd", 0.6), ("sgd--learning_rate-8", 0.5)):
            facts = {"variant": name, "seed": seed, "settings_digest": name, **NO_RECIPE}
            paths.append(run(folder, **facts, validation_accuracy=validated, test_accuracy=0.9 + seed / 100))
            facts |= {"augmentation": "augmented", "settings_digest": f"{name} augmented"}
            paths.append(run(folder, **facts, validation_accuracy=1 - validated, test_accuracy=0.95 + seed / 100))
    return paths


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return figures.find("figure8").build(JOB, _runs(tmp_path))


def test_each_series_starts_from_the_recipe_and_changes_its_axes_alone(frame: pd.DataFrame) -> None:
    part = frame[frame["variant"] == "search-skip0"]
    points = {name: rows["recipe"].tolist() for name, rows in part.groupby("series")}
    assert points == {
        "Larger population": ["small", "small--population-60"],
        "More generations": ["small", "small--generations-75"],
        "More runs": ["small", "small--runs-4"],
        "More runs, fewer generations": ["small", "small--runs-4--generations-75"],
        "More runs, smaller population": ["small", "small--runs-4--population-60"],
    }
    equal = part[part["series"].str.contains(",")]
    assert len(set(equal["candidates"])) == 1 and set(equal["runs"]) == {1, 4}
    assert (part["n"] == 4).all() and (part["searches"] == 2).all()
    assert part["mean"].tolist() == pytest.approx(part["runs"].tolist())
    plain, augmented = frame[frame["series"] == "baseline"].itertuples()
    assert (plain.variant, plain.setting, plain.n, plain.searches) == ("sgd", "default", 2, 0)
    assert (augmented.variant, augmented.setting, augmented.n) == ("sgd", "learning_rate 8", 2)
    assert (plain.augmentation, augmented.augmentation) == ("plain", "augmented")
    assert (plain.mean, augmented.mean) == pytest.approx((90.5, 95.5))


def test_it_is_drawn_and_captioned(frame: pd.DataFrame) -> None:
    figure = figures.find("figure8").draw(frame)
    assert [ax.get_title() for ax in figure.axes] == ["Toy, 46,000 images", "", "", ""]
    growing, equal = figure.axes[:2]
    assert [len(line.lines[0].get_xdata()) for line in growing.containers] == [2, 2, 2]
    assert [list(line.lines[0].get_xdata()) for line in equal.containers] == [[1, 4], [1, 4]]
    assert list(growing.containers[2].lines[0].get_xdata()) == [72, 288]  # thousands of candidates
    assert growing.get_legend_handles_labels()[1][:2] == ["SGD", "SGD, with data augmentation"]
    assert "dash-dotted line is SGD with data augmentation." in figures.find("figure8").caption(frame)
    plain = figures.find("figure8").caption(frame[frame["augmentation"] == "plain"])
    assert "dotted line is SGD" in plain and "with data augmentation" not in plain


def test_a_recipe_that_is_in_no_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="small--odd of toy changes generations and population at once"):
        figures.find("figure8").build(JOB, _runs(tmp_path / "odd", {**RECIPES, "small--odd": (60, 75, 1)}))
    without = {name: size for name, size in RECIPES.items() if name != "small"}
    with pytest.raises(UserError, match="toy lacks runs of the recipe that the others start from"):
        figures.find("figure8").build(JOB, _runs(tmp_path / "without", without))
