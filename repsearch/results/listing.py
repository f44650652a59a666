"""The training runs of a results folder, one per row, with the settings in which they differ."""

import csv
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from repsearch.errors import UserError
from repsearch.jobs import DatasetName
from repsearch.results.runs import read
from repsearch.results.tables import accuracies
from repsearch.storage.manifest import read_manifest

log = logging.getLogger(__name__)
WILDCARDS = ["dataset", "augmentation", "variant", "recipe", "depth", "seed"]  # of a run's folder
RESULTS = ["best_epoch", "validation", "test", "seconds", "device"]
MEANS = ["dataset", "augmentation", "variant", "setting", "recipe", "depth", "n", "searches", "seeds"]
MEANS += ["validation_mean", "validation_std", "mean", "std"]
PERCENT = ["validation", "test", "validation_mean", "validation_std", "mean", "std"]


def find(results: Path) -> list[Path]:
    """The summaries of a results folder's finished runs. Raises UserError where there are none."""
    found = sorted(results.glob("runs/*/*/*/*/depth*/seed*/summary.json"))
    if not found:
        raise UserError(f"{results} has no finished training runs ({results / 'runs'}): name a results folder")
    return found


def table(results: Path) -> pd.DataFrame:
    """One row per run: the wildcards of its folder, settings, `RESULTS`.

    Of the settings (`training.…`, `recipe.…` and the network's) there are those that runs differ in, by the last part
    of their names where no other column is called so; those of the search layers as 60/20/20/5. validation, test:
    accuracy in per cent. seconds: of the job, from Snakemake's benchmark; NaN where there is none. Runs that can't be
    read are named in the log and left out. Raises UserError where none is left.
    """
    rows = []
    for summary in _readable(results):
        stated = read_manifest(summary)
        facts = {name: stated.get(name) for name in ("precision", "code_version", "torch")}
        settings = {**dict(_flat("", _settings(stated["key"]))), **facts}
        row = {name: stated[name] for name in WILDCARDS} | settings
        row |= {"best_epoch": stated.get("epoch_chosen"), "seconds": _seconds(results, summary)}
        row |= {part: round(100 * stated[f"{part}_accuracy"], 4) for part in ("validation", "test")}
        row["device"] = stated.get("device")
        rows.append({name: _printable(value) for name, value in row.items()})
    frame = pd.DataFrame(rows)
    differing = [name for name in frame.columns if len(frame[name].dropna().unique()) > 1]
    others = [name for name in differing if name not in (*WILDCARDS, *RESULTS)]
    return frame[[*WILDCARDS, *others, *RESULTS]].rename(columns=_short(others))


def means(results: Path) -> pd.DataFrame:
    """One row per setting: means and standard deviations (%) over its searches and training seeds, as in the tables.

    mean, std: of test accuracy. recipe_digest: where runs of one recipe's name had different settings. Raises UserError
    for runs that must not be averaged.
    """
    summaries = _readable(results)
    frame = accuracies(read(summaries, _names(summaries)))
    renewed = frame.groupby("recipe")["recipe_digest"].nunique().max() > 1
    return frame[MEANS + (["recipe_digest"] if renewed else [])].map(_printable)


def _readable(results: Path) -> list[Path]:
    """The summaries that are whole and say what results need."""
    usable = []
    for summary in (found := find(results)):
        try:
            read_manifest(summary)
            read([summary], _names([summary]))
        except UserError as error:
            log.warning("left out: %s", error)
        else:
            usable.append(summary)
    if not usable:
        raise UserError(f"{results}: none of its {len(found)} training runs can be read")
    return usable


def _names(summaries: list[Path]) -> dict[str, DatasetName]:
    """By the folders' names."""
    names = {summary.parts[-7] for summary in summaries}
    return {name: DatasetName(name) for name in names}


def _settings(key: Any) -> dict[str, Any]:
    names = ("width", "head_bias", "head_init", "training", "recipe")
    return {name: key["job"][name] for name in names if key["job"].get(name) is not None}


def _short(names: list[str]) -> dict[str, str]:
    """Dotted names of settings → their last parts, those that no other column has."""
    last = {name: name.rpartition(".")[2] for name in names}
    counts = Counter([*last.values(), *WILDCARDS, *RESULTS])
    return {name: short for name, short in last.items() if counts[short] == 1}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, plain value) of nested settings. The values of a list, such as the search layers, are joined."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), each)
    elif isinstance(value, list):
        joined: dict[str, list[str]] = {}
        for each in value:
            for inner, plain in _flat(name, each):
                joined.setdefault(inner, []).append(str(plain))
        yield from ((inner, "/".join(plain)) for inner, plain in joined.items())
    else:
        yield ascii(name)[1:-1], value


def _printable(value: Any) -> Any:
    """Other people's text could hold what a terminal obeys."""
    return ascii(value)[1:-1] if isinstance(value, str) and not value.isprintable() else value


def _seconds(results: Path, summary: Path) -> float:
    run = summary.parent.relative_to(results)
    path = results / "benchmarks" / run.with_name(f"{run.name}.tsv")
    try:
        with path.open(encoding="utf-8") as opened:
            return float(next(csv.DictReader(opened, delimiter="\t"))["s"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration, csv.Error):
        return float("nan")
