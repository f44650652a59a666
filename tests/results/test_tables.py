import json
import math
import statistics

import pandas as pd
import pytest

from repsearch import paper
from repsearch.errors import UserError
from repsearch.jobs import DatasetName, TableJob
from repsearch.results import tables
from repsearch.results.runs import read_csv
from tests.results.made_up import DATASETS, NO_RECIPE, read, run


def table(number, paths):
    return tables.best(tables.all_tried(number, read(paths)))


def test_mean_and_sample_std_by_hand(tmp_path):
    runs = [run(tmp_path, seed=s, test_accuracy=a, validation_accuracy=0.6) for s, a in enumerate((0.50, 0.52, 0.57))]
    (row,) = tables.accuracies(read(runs)).to_dict("records")
    assert row["mean"] == pytest.approx(53)
    assert row["std"] == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert (row["n"], row["validation_mean"], row["validation_std"]) == (3, pytest.approx(60), pytest.approx(0))
    assert (row["recipe_digest"], row["code_version"]) == ("111111111111", "12e456789012")


def test_one_run_has_no_std(tmp_path):
    frame = table(1, [run(tmp_path)])
    assert math.isnan(frame.loc[0, "std"])
    assert "50.0 (n = 1)" in tables.to_markdown(1, frame)
    assert "±" not in tables.to_markdown(1, frame).split("\n\n")[1]


def test_validation_not_test_chooses_the_depth(tmp_path):
    sgd = {"variant": "sgd", **NO_RECIPE}
    runs = [
        run(tmp_path, **sgd, depth=1, validation_accuracy=0.61, test_accuracy=0.59),
        run(tmp_path, **sgd, depth=2, validation_accuracy=0.63, test_accuracy=0.58),  # chosen, worst on test
        run(tmp_path, **sgd, depth=3, validation_accuracy=0.62, test_accuracy=0.64),
    ]
    assert table(1, runs)[["depth", "mean"]].to_numpy().tolist() == [[2, pytest.approx(58)]]
    assert tables.all_tried(1, read(runs))["depth"].tolist() == [1, 2, 3]
    assert "SGD, depth 3" in tables.to_markdown(1, tables.all_tried(1, read(runs)))


def test_of_settings_that_validation_finds_equal_the_variants_own_is_taken(tmp_path):
    """Also where means of the same values in another order differ in their last bit."""
    accuracies = {"sgd--learning_rate-2": (0.993, 0.9935, 0.993), "sgd": (0.9935, 0.993, 0.993)}
    runs = [
        run(tmp_path, variant=variant, seed=seed, validation_accuracy=accuracy, **NO_RECIPE)
        for variant, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    assert table(1, runs)["setting"].tolist() == ["default"]


def test_where_one_variant_is_tuned_it_says_for_each_what_was_tried(tmp_path):
    runs = [run(tmp_path, variant="sgd", depth=depth) for depth in (1, 2)] + [run(tmp_path, depth=1)]
    text = tables.to_markdown(1, table(1, runs))
    assert "per block: SGD 2 (the best of 2 on validation); Search-based Learning 2 (one setting)." in text


def test_validation_chooses_among_tuned_settings_too(tmp_path):
    runs = [
        run(tmp_path, variant="sgd", validation_accuracy=0.5, test_accuracy=0.9),
        run(tmp_path, variant="sgd--learning_rate-8", validation_accuracy=0.6, test_accuracy=0.4),  # chosen
    ]
    (row,) = table(1, runs).to_dict("records")
    assert (row["variant"], row["setting"], row["tried"]) == ("sgd", "learning_rate 8", 2)
    assert row["mean"] == pytest.approx(40)
    text = tables.to_markdown(1, table(1, runs))
    assert "per block: SGD 6 with learning_rate 8 (the best of 2 on validation)." in text


def test_of_equal_depths_the_smaller(tmp_path):
    runs = [run(tmp_path, depth=depth) for depth in (3, 1, 2)]
    assert table(1, runs)["depth"].tolist() == [1]


@pytest.mark.parametrize("column", ["population", "code_version", "settings_digest"])
def test_runs_that_differ_are_not_averaged(tmp_path, column):
    runs = [run(tmp_path, seed=0), run(tmp_path, seed=1, **{column: 999})]
    with pytest.raises(UserError, match="run snakemake again so that all are made alike") as error:
        tables.accuracies(read(runs))
    assert column in str(error.value)
    assert all(str(path) in str(error.value) for path in runs)
    assert "\n" not in str(error.value)


def test_runs_on_former_targets_of_a_search_are_not_averaged(tmp_path):
    runs = [run(tmp_path, seed=0, inputs="former"), run(tmp_path, seed=1)]
    with pytest.raises(UserError, match=r"differ in inputs: .* run snakemake again"):
        tables.accuracies(read(runs))
    runs = [run(tmp_path, search=search, seed=3, inputs=str(search)) for search in (1, 2)]
    assert len(tables.accuracies(read(runs))) == 1


def test_runs_of_two_precisions_are_not_averaged(tmp_path):
    """As `auto` gives them on machines that differ: to run them again would change nothing."""
    runs = [run(tmp_path, seed=0), run(tmp_path, seed=1, precision="float32")]
    with pytest.raises(UserError, match=r"differ in precision: .*; their machines differ: set training.prec"):
        tables.accuracies(read(runs))


def test_a_seed_counts_once(tmp_path):
    with pytest.raises(UserError, match="seed 0 would count twice"):
        tables.accuracies(read([run(tmp_path), run(tmp_path)]))


def test_searches_of_another_recipe_are_not_averaged(tmp_path):
    other = run(tmp_path, search=1, searched={"smooth": "noise"})
    with pytest.raises(UserError, match="differ in recipe_but_seed"):
        tables.accuracies(read([run(tmp_path), other]))


def test_every_search_has_the_same_seeds(tmp_path):
    runs = [run(tmp_path, seed=0), run(tmp_path, seed=1), run(tmp_path, search=1, seed=0)]
    with pytest.raises(UserError, match="some searches lack training seeds"):
        tables.accuracies(read(runs))


def test_a_run_without_its_recipe_is_refused(tmp_path):
    path = run(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": {}}))
    with pytest.raises(UserError, match="lacks its recipe"):
        read([path])


def test_several_searches_make_one_row(tmp_path):
    """Two searches of three seeds: the mean of all six, and an error of two components."""
    accuracy = {(0, 0): 0.50, (0, 1): 0.52, (0, 2): 0.54, (1, 0): 0.53, (1, 1): 0.52, (1, 2): 0.57}
    runs = [run(tmp_path, search=s, seed=t, test_accuracy=value) for (s, t), value in accuracy.items()]
    (row,) = table(1, runs).to_dict("records")
    assert (row["recipe"], row["recipe_digest"]) == ("small", "111111111111+222222222222")
    assert (row["n"], row["searches"], row["seeds"]) == (6, 2, 3)
    assert row["mean"] == pytest.approx(53)
    searches, seeds = [52, 54], [51.5, 52, 55.5]  # means
    variances = [statistics.variance(searches) / 2, statistics.variance(seeds) / 3]
    assert row["error"] == pytest.approx(math.sqrt(sum(variances)))
    assert row["df"] == pytest.approx(sum(variances) ** 2 / (variances[0] ** 2 / 1 + variances[1] ** 2 / 2))
    text = tables.to_markdown(1, table(1, runs))
    assert "53.0 ± 2.4 (n = 2 × 3)" in text and "searches × training seeds" in text


def test_other_points_may_differ(tmp_path):
    assert len(tables.accuracies(read([run(tmp_path), run(tmp_path, variant="sgd", code_version="other")]))) == 2


def test_damaged_summaries(tmp_path):
    path = run(tmp_path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "test_accuracy": "0.5"}))
    with pytest.raises(UserError, match="test_accuracy must be numbers"):
        read([path])
    del values["width"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"summary\.json lacks width"):
        read([path])
    with pytest.raises(UserError, match="no training runs"):
        read([])


def test_rows_in_the_papers_order(tmp_path):
    runs = [
        run(tmp_path, augmentation="augmented", dataset=dataset, variant=variant)
        for dataset in ("b", "a")
        for variant in ("mine", "search-all", "search-skip0", "sgd")
    ]
    frame = table(2, runs)
    order = ["sgd", "search-skip0", "search-all", "mine"]
    assert list(zip(frame["dataset"], frame["variant"], strict=True)) == [(d, v) for d in "ba" for v in order]
    assert list(frame.columns[:6]) == ["dataset", "variant", "depth", "setting", "mean", "std"]


def test_the_papers_numbers(tmp_path):
    assert len(paper.TABLES) == 12
    frame = table(1, [run(tmp_path, dataset="cifar100", seed=s) for s in (0, 1)])
    assert frame.loc[0, ["paper_mean", "paper_std"]].tolist() == [61.6, 0.2]
    assert frame.loc[0, "difference"] == pytest.approx(50 - 61.6)
    assert "50.0 ± 0.0 (n = 2)<br>[61.6 ± 0.2]" in tables.to_markdown(1, frame)


def test_each_table_has_its_own_runs(tmp_path):
    with pytest.raises(UserError, match="table 2 is with data augmentation"):
        table(2, [run(tmp_path)])
    with pytest.raises(UserError, match="no table 3"):
        tables.make(TableJob(3, DATASETS), [run(tmp_path)], tmp_path / "table3.csv")


def test_an_altered_run_is_not_counted(tmp_path):
    path = run(tmp_path)
    path.write_text(path.read_text().replace('"test_accuracy": 0.5', '"test_accuracy": 0.9'))
    with pytest.raises(UserError, match="was altered"):
        tables.make(TableJob(1, DATASETS), [path], tmp_path / "table1.csv")
    assert not (tmp_path / "table1.csv").exists()


def test_labels_come_from_the_job(tmp_path):
    job = TableJob(1, {"toy": DatasetName("Another label", "MNIST")})
    tables.make(job, [run(tmp_path)], tmp_path / "table1.csv")
    frame = read_csv(tmp_path / "table1.csv", tables.COLUMNS)
    assert frame[["label", "paper", "paper_mean"]].to_numpy().tolist() == [["Another label", "MNIST", 99.0]]
    with pytest.raises(UserError, match="'toy' has no label: the job names mine"):
        tables.make(TableJob(1, {"mine": DatasetName("Mine")}), [run(tmp_path)], tmp_path / "table1.csv")


def test_markdown(tmp_path):
    runs = [run(tmp_path, dataset=d, seed=s) for d in "ab" for s in (0, 1)]
    frame = table(1, [*runs, run(tmp_path, dataset="a", variant="x")])
    caption, body = tables.to_markdown(1, frame)[:-1].split("\n\n")
    for words in ("46,000 training images", "width 256", "4 epochs", "small 111111111111", "12e456789012"):
        assert words in caption
    assert body.splitlines() == [
        "|  | A | B |",
        "| --- | :---: | :---: |",
        "| Search-based Learning | 50.0 ± 0.0 (n = 2) | 50.0 ± 0.0 (n = 2) |",
        "| x | 50.0 (n = 1) | – |",
    ]


def test_drawn_from_the_csv_alone(tmp_path):
    frame = table(1, [run(tmp_path, dataset="mnist", seed=s) for s in (0, 1)])
    csv, png = tmp_path / "table1.csv", tmp_path / "table1.png"
    frame.to_csv(csv, index=False)
    again = read_csv(csv, tables.COLUMNS)
    assert tables.to_markdown(1, again) == tables.to_markdown(1, frame)
    tables.redraw(1, csv)
    assert png.read_bytes().startswith(b"\x89PNG")
    words = [text.get_text() for text in tables.draw(1, again).axes[0].texts]
    assert {"MNIST", "Search-based Learning", "50.0 ± 0.0 (n = 2)\n[99.0 ± 0.1]"} <= set(words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read as CSV"),
        ("dataset\n", "has no column"),
        (",".join(tables.COLUMNS) + "\n", "has no rows"),
        (",".join(tables.COLUMNS) + "\n" + ",".join("x" for _ in tables.COLUMNS) + "\n", "other than numbers in depth"),
    ],
)
def test_csvs_that_cannot_be_used(tmp_path, text, message):
    csv = tmp_path / "table1.csv"
    csv.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        tables.redraw(1, csv)
    assert str(csv) in str(error.value)
    assert not (tmp_path / "table1.png").exists()


def test_missing_csv(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        read_csv(tmp_path / "none.csv", [])


def test_digests_stay_text(tmp_path):
    pd.DataFrame({"recipe_digest": ["012345678901", ""], "mean": [1.5, None]}).to_csv(tmp_path / "a.csv", index=False)
    frame = read_csv(tmp_path / "a.csv", ["recipe_digest", "mean"])
    assert frame["recipe_digest"].tolist() == ["012345678901", ""]
    assert math.isnan(frame.loc[1, "mean"])
