"""The paper's claims, each held against the tables and figures of one results folder (docs/reproduction.md)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind_from_stats

from repsearch.errors import UserError
from repsearch.results import figures, readings, tables
from repsearch.results.runs import in_words, read_csv, scale, several

Verdict = Literal["holds", "does not", "undecided"]
SIGNIFICANT = 0.05  # the p-value below which a difference counts


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and what a results folder says of it.

    file: the CSV that it was read from, relative to the folder. n: of the means compared.
    """

    section: str
    claim: str
    paper: str
    ours: str
    n: str
    scale: str
    verdict: Verdict
    file: str


@dataclass(frozen=True)
class Mean:
    """A mean over n runs (or images) and their sample standard deviation, NaN where n is 1."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, row: pd.Series, prefix: str = "") -> "Mean":
        return cls(float(row[f"{prefix}mean"]), float(row[f"{prefix}std"]), int(row["n"]))

    def above(self, other: "Mean", by: float = 0.0) -> bool | None:
        """Whether this is above `other` by more than `by`, by Welch's t-test; None where the test leaves it open."""
        if min(self.n, other.n) < 2:
            return None
        if self.std == other.std == 0:
            return self.mean - by > other.mean
        _, p = ttest_ind_from_stats(self.mean - by, self.std, self.n, other.mean, other.std, other.n, equal_var=False)
        return self.mean - by > other.mean if p < SIGNIFICANT else None


def verdict(*parts: bool | None) -> Verdict:
    """A claim holds where all its parts do; one that is refuted refutes it; else one that is open leaves it open."""
    if any(part is False for part in parts):
        return "does not"
    return "undecided" if None in parts else "holds"


def claims(folder: Path) -> list[Claim]:
    """All claims, in the paper's order, from the CSVs in `folder`/tables and `folder`/figures. What has no CSV there is
    left out. Raises UserError for a CSV that can't serve.
    """
    makers: list[tuple[str, list[str], Callable[[pd.DataFrame], Iterator[Claim]]]] = [
        ("figures/figure2.csv", figures.COLUMNS[2], fitness),
        ("figures/figure3.csv", figures.COLUMNS[3], diversity),
        ("tables/readings.csv", readings.COLUMNS, smoothing),
        ("tables/table1.csv", tables.COLUMNS, near_sgd),
        ("tables/table2.csv", tables.COLUMNS, skipping),
        ("figures/figure4.csv", figures.COLUMNS[4], scaling),
        ("figures/figure5.csv", figures.COLUMNS[5], distance),
        ("figures/figure6.csv", figures.COLUMNS[6], separation),
        ("figures/figure7.csv", figures.COLUMNS[7], deeper_separation),
    ]
    there = [maker for maker in makers if (folder / maker[0]).exists()]
    if not there:
        raise UserError(f"{folder} holds no tables and figures to hold the paper's claims against: run snakemake first")
    return [claim for file, columns, make in there for claim in make(read_csv(folder / file, columns))]


def fitness(frame: pd.DataFrame) -> Iterator[Claim]:
    """§3.2, figure 2."""
    file, where = "figures/figure2.csv", f"{frame['label'].iloc[0]}"
    n = several(frame["n"])
    for panel, unit in (("population", "population"), ("generations", "generations")):
        part = frame[frame["panel"] == panel]
        falls, texts = [], []
        for block, rows in part.groupby("block"):
            rows = rows.sort_values("x")
            first, last = Mean.of(rows.iloc[0]), Mean.of(rows.iloc[-1])
            falls.append(first.above(last))
            texts.append(f"{_name(block)} {first.mean:.2f} → {last.mean:.2f}")
        ends = f"{part['x'].min()} → {part['x'].max()}"
        yield Claim(
            "§3.2, figure 2", f"The search's cross-entropy falls with {unit}", "falls, each block",
            f"{unit} {ends}: {'; '.join(texts)}", n, where, verdict(*falls), file,
        )  # fmt: skip
    last = frame[(frame["panel"] == "population")]
    last = last[last["x"] == last["x"].max()].set_index("block")
    means = {block: Mean.of(row) for block, row in last.iterrows()}
    yield Claim(
        "§3.2, figure 2", "Block 2 optimises more easily than blocks 0 and 1", "block 2 lowest",
        "; ".join(f"{_name(block)} {mean.mean:.2f}" for block, mean in means.items()), n, where,
        verdict(*(means[block].above(means["block2"]) for block in ("block0", "block1"))), file,
    )  # fmt: skip


def diversity(frame: pd.DataFrame) -> Iterator[Claim]:
    """§3.2, figure 3."""
    file, where, n = "figures/figure3.csv", frame["label"].iloc[0], several(frame["n"])
    last, grows, texts = {}, [], []
    for block, rows in frame.groupby("block"):
        rows = rows.sort_values("runs")
        first, end = rows[rows["runs"] == rows["runs"].min()].iloc[0], rows.iloc[-1]
        last[block] = Mean.of(end)
        grows.append(last[block].above(Mean.of(first)))
        texts.append(f"{_name(block)} {end['mean']:.2f}")
    runs = f"N_eff after {frame['runs'].max()} runs (1 after one): {'; '.join(texts)}"
    yield Claim(
        "§3.2, figure 3", "N_eff grows with independent runs", "grows, each block", runs, n, where, verdict(*grows),
        file,
    )  # fmt: skip
    fastest = [last["block0"].above(last["block1"]), last["block1"].above(last["block2"])]
    yield Claim(
        "§3.2, figure 3", "N_eff grows fastest for block 0, later blocks slower", "block 0 > 1 > 2", runs, n, where,
        verdict(*fastest), file,
    )  # fmt: skip


def smoothing(frame: pd.DataFrame) -> Iterator[Claim]:
    """§3.1, "crucial for learnability": the default recipe against one without blur, by validation accuracy.

    The latter is told by its name, which ends in "-unsmoothed" (workflow/presets/readings.yaml).
    """
    for label, own in frame.groupby("label", sort=False):
        chosen = own[(own["part"] == "search") & (own["variant"] == "search-all")].set_index("reading")
        without = [name for name in chosen.index if str(name).endswith("-unsmoothed") and " " not in str(name)]
        if "default" not in chosen.index or not without:
            continue
        smooth, rough = chosen.loc["default"], chosen.loc[without[0]]
        better = Mean.of(smooth, "validation_").above(Mean.of(rough, "validation_"))
        yield Claim(
            "§3.1", "Smoothing is crucial for learning from the targets", "no number",
            f"validation accuracy {in_words(smooth, 'validation_')} with, {in_words(rough, 'validation_')} without",
            several([smooth["n"], rough["n"]]), f"{label}: {scale(own)}", verdict(better), "tables/readings.csv",
        )  # fmt: skip


def near_sgd(frame: pd.DataFrame) -> Iterator[Claim]:
    """§4.3, table 1."""
    for label, own in frame.groupby("label", sort=False):
        rows = own.set_index("variant")
        if not {"sgd", "search-all"} <= set(rows.index):
            continue
        sgd, found = rows.loc["sgd"], rows.loc["search-all"]
        within = Mean.of(sgd).above(Mean.of(found), by=1.0)
        yield Claim(
            "§4.3, table 1", "Without augmentation, search-based learning is within 1 % of SGD",
            f"{_papers(found)} against {_papers(sgd)}", f"{in_words(found)} against {in_words(sgd)}",
            several([sgd["n"], found["n"]]), f"{label}: {scale(own)}", verdict(None if within is None else not within),
            "tables/table1.csv",
        )  # fmt: skip


def skipping(frame: pd.DataFrame) -> Iterator[Claim]:
    """§4.3, table 2."""
    for label, own in frame.groupby("label", sort=False):
        rows = own.set_index("variant")
        if not {"sgd", "search-all", "search-skip0"} <= set(rows.index):
            continue
        sgd, skip, every = (Mean.of(rows.loc[name]) for name in ("sgd", "search-skip0", "search-all"))
        n, where = several(own["n"]), f"{label}: {scale(own)}"
        for text, higher, lower, first, second in (
            ("skipping block 0 is better than supervising all layers", skip, every, "search-skip0", "search-all"),
            ("skipping block 0 stays below SGD", sgd, skip, "sgd", "search-skip0"),
        ):
            yield Claim(
                "§4.3, table 2", f"With augmentation, {text}",
                f"{_papers(rows.loc[first])} against {_papers(rows.loc[second])}",
                f"{in_words(rows.loc[first])} against {in_words(rows.loc[second])}", n, where,
                verdict(higher.above(lower)), "tables/table2.csv",
            )  # fmt: skip


def scaling(frame: pd.DataFrame) -> Iterator[Claim]:
    """§4.4, figure 4; "up to saturation" (abstract)."""
    where = f"{frame['label'].iloc[0]}: {scale(frame)}"
    for panel, rows in frame.groupby("panel", sort=False):
        rows = rows.sort_values("x")
        numbers = ", ".join(f"{row['x']}: {in_words(row)}" for _, row in rows.iterrows())
        ends = [Mean.of(rows.iloc[place]) for place in (0, -1)]
        yield Claim(
            "§4.4, figure 4", f"Validation accuracy rises with {panel}", "rises, then saturates", numbers,
            several(rows["n"]), where, verdict(ends[1].above(ends[0])), "figures/figure4.csv",
        )  # fmt: skip


def distance(frame: pd.DataFrame) -> Iterator[Claim]:
    """§4.5, figure 5."""
    where, n = f"{frame['label'].iloc[0]}: {scale(frame)}", several(frame["n"])
    for series, rows in frame.groupby("series"):
        texts, parts = [], []
        for block, own in rows.groupby("block"):
            own = own.sort_values("epoch")
            first, last = Mean.of(own.iloc[0]), Mean.of(own.iloc[-1])
            texts.append(f"{_name(block)} {first.mean:.2f} → {last.mean:.2f}")
            parts.append(first.above(last) if series != "sgd" else abs(1 - last.mean) < 0.2)
        if series == "sgd":
            claim, paper = (
                "SGD's cosine distance to the targets stays close to 1",
                "near 1, each block (here: 0.8 to 1.2)",
            )
        else:
            claim, paper = "Search-based learning's cosine distance to the targets falls", "falls, each block"
        yield Claim(
            "§4.5, figure 5", claim, paper, f"first → last epoch: {'; '.join(texts)}", n, where, verdict(*parts),
            "figures/figure5.csv",
        )  # fmt: skip


def separation(frame: pd.DataFrame) -> Iterator[Claim]:
    """§4.5, figure 6: a more distinct separation of the classes in block 0 than SGD's."""
    where, n = f"{frame['label'].iloc[0]}: {scale(frame)}", several(frame["n"])
    gaps = {series: _gap(rows) for series, rows in frame.groupby("series")}
    if {"sgd", "search-all"} <= set(gaps):
        yield Claim(
            "§4.5, figure 6", "In block 0 search-based learning separates the classes more than SGD", "more distinct",
            "between-class minus within-class entropy, last epoch: "
            + "; ".join(f"{_series(name)} {gap.mean:.2f}" for name, gap in gaps.items()),
            n, where, verdict(gaps["search-all"].above(gaps["sgd"])), "figures/figure6.csv",
        )  # fmt: skip


def deeper_separation(frame: pd.DataFrame) -> Iterator[Claim]:
    """§4.5, figure 7: the trajectories of blocks 1 and 2 differ as well."""
    where, n = f"{frame['label'].iloc[0]}: {scale(frame)}", several(frame["n"])
    differ, texts = [], []
    for block, own in frame.groupby("block"):
        gaps = {series: _gap(rows) for series, rows in own.groupby("series")}
        if not {"sgd", "search-all"} <= set(gaps):
            return
        differ.append(True if gaps["search-all"].above(gaps["sgd"]) is not None else None)
        texts.append(f"{_name(block)} " + ", ".join(f"{_series(name)} {gap.mean:.2f}" for name, gap in gaps.items()))
    yield Claim(
        "§4.5, figure 7", "In blocks 1 and 2 the two differ as well", "differ (a drawing, no number)",
        "between-class minus within-class entropy, last epoch: " + "; ".join(texts), n, where, verdict(*differ),
        "figures/figure7.csv",
    )  # fmt: skip


def _gap(rows: pd.DataFrame) -> Mean:
    """Between-class minus within-class entropy (nats) at the last epoch; their spreads added as if independent."""
    last = rows[rows["epoch"] == rows["epoch"].max()].set_index("kind")
    between, within = Mean.of(last.loc["between-class"]), Mean.of(last.loc["within-class"])
    return Mean(between.mean - within.mean, float(np.hypot(between.std, within.std)), between.n)


def _name(block: object) -> str:
    return str(block).replace("block", "block ")


def _series(name: object) -> str:
    return "SGD" if name == "sgd" else "search"


def _papers(row: pd.Series) -> str:
    return "–" if pd.isna(row["paper_mean"]) else f"{row['paper_mean']:.1f} ± {row['paper_std']:.1f}"
