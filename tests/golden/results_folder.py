"""Every table, figure and page of made-up runs and probes."""

import itertools
import shutil
import tempfile
from pathlib import Path

from repsearch.jobs import ReadingsJob, ReproductionJob, TableJob
from repsearch.results import figures, readings, reproduction, tables
from repsearch.results.report import page
from tests.results import made_up

FOLDER = Path(__file__).parent / "results"
AUGMENTATIONS = {1: "plain", 2: "augmented"}
ACCURACIES = {"sgd": 0.9, "sgd--learning_rate-8": 0.91, "search-skip0": 0.85, "search-all": 0.7}
SCALE = ReproductionJob("toy", "width 4", "results/toy", "--configfile toy.yaml", full=False)


def make(out: Path, inputs: Path) -> None:
    """A results folder `out`, pictures included, from runs and probes written to `inputs`."""
    for name in made_up.FIGURES:
        probes_or_runs = made_up.figure_inputs(name, inputs / name)
        figures.make(made_up.figure_job(name), probes_or_runs, out / f"figures/{name}.csv")
    for number, augmentation in AUGMENTATIONS.items():
        runs = made_up.table_runs(inputs / "tables", augmentation, ["mnist", "mine"], ACCURACIES)
        tables.make(TableJob(number, made_up.DATASETS), runs, out / f"tables/table{number}.csv")
    study = [*itertools.chain(*made_up.study(inputs / "study"))]
    readings.make(ReadingsJob(made_up.DATASETS), study, out / "tables/readings.csv")
    page.make(SCALE, sorted([*out.glob("tables/*"), *out.glob("figures/*")]), out / "report.html")
    reproduction.make(SCALE, out, out / "reproduction.md")


def texts(folder: Path) -> dict[str, bytes]:
    """CSVs and Markdown files by name; the bytes of pictures depend on matplotlib's version."""
    files = [path for path in folder.rglob("*.*") if path.suffix in (".csv", ".md")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        results = Path(temporary, "toy")
        make(results, Path(temporary, "inputs"))
        shutil.rmtree(FOLDER, ignore_errors=True)
        for file, content in texts(results).items():
            (FOLDER / file).parent.mkdir(parents=True, exist_ok=True)
            (FOLDER / file).write_bytes(content)
