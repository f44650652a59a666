from itertools import chain
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from repsearch.jobs import DatasetName, ReadingsJob, ReproductionJob, TableJob
from repsearch.results import figures, readings, tables
from repsearch.results.report import page
from tests.results import made_up

JOB = ReproductionJob("toy", "width 4 <narrow>", "results/toy", "--configfile toy.yaml", full=False)
WIDE = [f"set{number}" for number in range(8)]  # data sets of a table that no phone is as wide as


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a wide table, two figures, a gallery, curves, benchmarks, a run and the page."""
    inputs, folder = tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("results") / "toy"
    names = {name: DatasetName(f"Data set {name} <b>") for name in WIDE}
    runs = made_up.table_runs(inputs, "plain", WIDE, {"sgd": 0.9, "search-all": 0.89})
    tables.make(TableJob(1, names), runs, folder / "tables/table1.csv")
    readings.make(ReadingsJob(made_up.DATASETS), [*chain(*made_up.study(inputs))], folder / "tables/readings.csv")
    for name in ("figure2", "figure3"):
        made = made_up.figure_inputs(name, inputs / name)
        figures.make(made_up.figure_job(name), made, folder / f"figures/{name}.csv")
    for name in ("gallery", "curves"):
        Figure(figsize=(6, 3)).savefig(folder / f"figures/{name}.png", dpi=200)
        (folder / f"figures/{name}.md").write_text(f"**{name.title()}.** Made up. And more. Code version: 1.")
    made_up.run(folder / "runs")
    for path, seconds in {"search/toy/0000": 7200.0, "search/toy/0001": 60.0, "figures/figure2": 2.0}.items():
        tsv = folder / f"benchmarks/{path}.tsv"
        tsv.parent.mkdir(parents=True, exist_ok=True)
        row = {"s": seconds, "max_rss": 1500.0 if seconds > 100 else "-", "cpu_time": 2 * seconds}
        pd.DataFrame([row]).to_csv(tsv, sep="\t", index=False)
    page.make(JOB, sorted(folder.glob("[tf]*/*")), folder / "report.html")
    return folder
