"""What ran, where and for how long: from Snakemake's benchmark files and the runs' summaries."""

import platform
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from repsearch.errors import UserError
from repsearch.storage.files import read_json

KINDS = {  # by the folder of benchmarks, in the order of the work
    "data": "Prepare a data set",
    "network": "Search network",
    "statistics": "BatchNorm statistics",
    "search": "Search a shard",
    "probes": "Probe (figures 2 and 3, gallery)",
    "targets": "Describe targets",
    "runs": "Training run",
    "ensembles": "Ensemble",
    "tables": "Table",
    "figures": "Figure",
}
FACTS = ("device", "precision", "torch")  # of a run's summary
PACKAGES = ("repsearch", "torch", "numpy", "zarr", "snakemake")


@dataclass(frozen=True)
class Used:
    """The jobs of one kind: how many; seconds in all, of the longest and of CPU time; the most memory of one, in MB."""

    kind: str
    jobs: int
    seconds: float
    longest: float
    cpu: float
    memory: float


def used(folder: Path) -> list[Used]:
    """By kind of job; then all together, under "". Files that can't be read are left out: a job may be writing one."""
    parts = []
    for path in sorted((folder / "benchmarks").rglob("*.tsv")):
        try:
            frame = (
                pd.read_csv(path, sep="\t", na_values=["-", "NA"])[["s", "max_rss", "cpu_time"]].tail(1).astype(float)
            )
        except (OSError, ValueError, KeyError):
            continue
        kind = path.relative_to(folder / "benchmarks").parts[0]
        parts.append(frame.assign(kind=KINDS.get(kind, "Pages")))
    if not parts:
        return []
    jobs = pd.concat(parts, ignore_index=True)
    order = [kind for kind in (*KINDS.values(), "Pages") if kind in set(jobs["kind"])]
    return [_sum(kind, jobs[jobs["kind"] == kind]) for kind in order] + [_sum("", jobs)]


def _sum(kind: str, jobs: pd.DataFrame) -> Used:
    seconds = jobs["s"]
    return Used(kind, len(jobs), seconds.sum(), seconds.max(), jobs["cpu_time"].sum(), jobs["max_rss"].max())


def devices(folder: Path) -> list[str]:
    """On which device, in which precision and with which torch the training runs were made, and how many."""
    counts: Counter[str] = Counter()
    for path in sorted((folder / "runs").rglob("summary.json")):
        try:
            summary = read_json(path)
        except UserError:
            continue
        counts["{device}, {precision}, torch {torch}".format_map({**dict.fromkeys(FACTS, "?"), **summary})] += 1
    return [f"{count} training run{'s' if count > 1 else ''} on {where}" for where, count in sorted(counts.items())]


def versions() -> list[tuple[str, str]]:
    """Python and the packages that results depend on, as they are here."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 4 h 05 min"""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def memory(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
