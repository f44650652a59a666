"""Verdicts on the paper's claims, from made-up CSVs whose answers are plain."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.jobs import ReproductionJob, TableJob
from repsearch.results import figures, reproduction, tables
from repsearch.results.claims import Mean, verdict
from tests.results import made_up

ROOT = Path(__file__).resolve().parents[2]
SCALE = ReproductionJob("toy", "width 4", "results/toy", "--configfile toy.yaml", full=False)


def test_a_difference_counts_by_welchs_test() -> None:
    high, low = Mean(50.0, 1.0, 3), Mean(45.0, 1.0, 3)
    assert high.above(low) is True and low.above(high) is False
    assert high.above(Mean(49.5, 1.0, 3)) is None  # within the noise
    assert high.above(low, by=4.9) is None
    assert high.above(low, by=10.0) is False
    assert Mean(50.0, np.nan, 1).above(low) is None  # one run decides nothing


def test_a_claim_of_several_parts() -> None:
    assert verdict(True, True) == "holds"
    assert verdict(True, None) == "undecided"
    assert verdict(None, False) == "does not"


def _folder(folder: Path) -> Path:
    """Figures 2, 3 and 5 to 7 and tables 1 and 2 of made-up runs."""
    probes = [
        made_up.fitness_probe(folder / "probes", block, population) for block in range(3) for population in (10, 20)
    ]
    job = made_up.figure_job("figure2", populations=[10, 20], generations=[2, 8], base_population=20)
    figures.make(job, probes, folder / "figures/figure2.csv")
    probe = made_up.diversity_probe(folder / "probes")
    figures.make(made_up.figure_job("figure3"), [probe], folder / "figures/figure3.csv")
    traced = [
        made_up.traced(folder / "runs", offset=offset, variant=variant, seed=seed)
        for variant, base in (("sgd", 0.0), ("search-all", 0.5))
        for seed, offset in enumerate((base, base + 0.01, base + 0.02))
    ]
    for name in ("figure5", "figure6", "figure7"):
        figures.make(made_up.figure_job(name), traced, folder / f"figures/{name}.csv")
    for number, augmentation in ((1, "plain"), (2, "augmented")):
        accuracies = {"sgd": 0.9, "search-skip0": 0.85, "search-all": 0.7}
        runs = made_up.table_runs(folder / "runs/tables", augmentation, ["toy"], accuracies)
        tables.make(TableJob(number, made_up.DATASETS), runs, folder / f"tables/table{number}.csv")
    return folder


def test_every_claim_gets_the_verdict_its_numbers_have(tmp_path: Path) -> None:
    by_text = {claim.claim: claim for _, claim in reproduction.claims(_folder(tmp_path))}
    verdicts = {text: claim.verdict for text, claim in by_text.items()}
    assert verdicts == {
        "The search's cross-entropy falls with population": "holds",
        "The search's cross-entropy falls with generations": "holds",
        "Block 2 optimises more easily than blocks 0 and 1": "does not",  # made up: block 0 is lowest
        "N_eff grows with independent runs": "holds",
        "N_eff grows fastest for block 0, later blocks slower": "holds",
        "Without augmentation, search-based learning is within 1 % of SGD": "does not",
        "With augmentation, skipping block 0 is better than supervising all layers": "holds",
        "With augmentation, skipping block 0 stays below SGD": "holds",
        "Search-based learning's cosine distance to the targets falls": "does not",  # made up: it rises
        "SGD's cosine distance to the targets stays close to 1": "does not",
        "In block 0 search-based learning separates the classes more than SGD": "undecided",  # made up: alike
        "In blocks 1 and 2 the two differ as well": "undecided",
    }
    near = by_text["Without augmentation, search-based learning is within 1 % of SGD"]
    assert near.ours == "70.1 ± 0.1 against 90.1 ± 0.1" and near.n == "3" and "46,000" in near.scale


def test_the_page_says_the_scale_the_verdict_and_the_command(tmp_path: Path) -> None:
    page = reproduction.to_markdown([(SCALE, _folder(tmp_path))])
    assert "**holds at a smaller scale**" in page and "**does not hold at this scale**" in page
    assert "`snakemake results/toy/tables/table1.csv --configfile toy.yaml`" in page
    assert "Every claim at the paper's own scale" in page
    full = ReproductionJob("paper", "width 256", "results", "", full=True)
    page = reproduction.to_markdown([(full, tmp_path)])
    assert "**holds**" in page and "smaller scale**" not in page and "Every claim at the paper's" not in page
    assert "`snakemake results/tables/table1.csv`" in page


def test_publishing_keeps_what_the_page_is_made_from(tmp_path: Path) -> None:
    results, docs = _folder(tmp_path / "results"), tmp_path / "docs"
    reproduction.make(SCALE, results, results / "reproduction.md")
    reproduction.publish(SCALE, results, docs)
    assert [scale for scale, _ in reproduction.published(docs)] == [SCALE]
    assert (tmp_path / "docs.md").read_text() == (results / "reproduction.md").read_text()


def test_a_csv_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "tables/table1.csv"
    pd.read_csv(file).drop(columns="std").to_csv(file, index=False)
    with pytest.raises(UserError, match=re.escape(str(file))):
        list(reproduction.claims(tmp_path))
    with pytest.raises(UserError, match="run snakemake first"):
        reproduction.to_markdown([(SCALE, tmp_path / "nothing")])


def test_the_repositorys_page_is_made_from_its_csvs() -> None:
    folder = ROOT / "docs/reproduction"
    page = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
    assert page == reproduction.to_markdown(reproduction.published(folder)), "run: snakemake publish"
