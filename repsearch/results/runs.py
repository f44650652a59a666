"""What tables and figures are made from: runs read back, runs that may be averaged, CSVs with typed columns.

The runs of one number differ in their training seed and in their search: recipes that are alike but for `seed` are
different searches of one recipe. Its name is theirs without `--seed-N`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from repsearch.config.alternatives import MARK
from repsearch.errors import UserError
from repsearch.jobs import DatasetName
from repsearch.results.estimates import Estimate
from repsearch.storage.files import digest, read_json
from repsearch.storage.manifest import verify

POINT = ["dataset", "augmentation", "variant", "depth", "recipe"]  # runs equal in these make up one number
SCALE = ["train_images", "validation_images", "test_images", "width", "epochs"]
DIGESTS = ["recipe_digest", "code_version", "settings_digest"]
ALIKE = ["recipe_but_seed", "code_version", "settings_digest", "population", "generations", *SCALE, "precision"]
NUMBERS = ["depth", "population", "generations", "runs", "candidates", "seed", *SCALE]
NUMBERS += ["validation_accuracy", "test_accuracy"]
SUMMARY = [*DIGESTS, "precision", *NUMBERS]  # what a summary must say, besides POINT
COUNTS = ["n", "searches", "seeds"]
RUN_FACTS = ["variant", "depth", "dataset", "label", "augmentation", "recipe", "train_images", "validation_images"]
RUN_FACTS += ["width", "epochs", "recipe_digest", "code_version"]  # in the CSVs of figures made from runs
TEXT = {"dataset", "label", "paper", "augmentation", "variant", "recipe", *DIGESTS}  # columns that are not numbers
TEXT |= {
    "panel",
    "block",
    "series",
    "kind",
    "part",
    "reading",
    "setting",
    "mutation",
    "but_blur",
    "chain",
    "measure",
    "method",
    "precision",
    "evaluated_by",
    "size",
    "verdict",
    "class",
    "true_class",
}
RERUN = "run snakemake again so that all are made alike"
ONE_PRECISION = "their machines differ: set training.precision to one of these, then run snakemake again"


class MissingColumns(UserError):
    """A CSV that lacks columns, as one that was published by another version does."""


def verify_inputs(paths: Iterable[Path]) -> None:
    """Raise UserError, naming the file, where an input was altered: a run's summary, or a CSV with its manifest."""
    for path in paths:
        verify(path.with_suffix(".json"))


def dataset_name(datasets: Mapping[str, DatasetName], dataset: str) -> DatasetName:
    """A data set's names in results. Raises UserError where the job has none."""
    if dataset not in datasets:
        raise UserError(f"data set {dataset!r} has no label: the job names {', '.join(datasets) or 'none'}")
    return datasets[dataset]


def recipe_of(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of a run's recipe, from its summary; None for a run without targets."""
    recipe = summary["key"]["job"]["recipe"]
    return None if recipe is None else dict(recipe)


def without_search(recipe: str) -> str:
    """The name of a recipe whatever its search's seed (`paper--seed-1` is `paper`) or its network's training seed."""
    first, *others = recipe.split(MARK)
    return MARK.join([first, *(part for part in others if not re.fullmatch(r"(seed|network)-\d+", part))])


def read(paths: Sequence[Path], datasets: Mapping[str, DatasetName]) -> pd.DataFrame:
    """One row per run: what its summary says, the summary's `path`, its data set's `label`, and `paper`.

    recipe: the name without the search's seed, which is `search` (0 without a recipe). recipe_but_seed: a digest of the
    other settings of the recipe. targets: the recipe's whole name. inputs: a digest of what the run was made from.
    paper: the column of the paper's tables to compare with, or "". Raises UserError where a summary lacks something or
    its data set is not in `datasets`.
    """
    if not paths:
        raise UserError("no training runs were given: name the summary.json of at least one")
    rows, required = [], [*POINT, *SUMMARY]
    for path in paths:
        summary = read_json(path)
        missing = sorted({name for name in required if name not in summary})
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}: {RERUN}")
        wrong = [name for name in NUMBERS if not isinstance(summary[name], int | float)]
        if wrong:
            raise UserError(f"{path}: {', '.join(wrong)} must be numbers: {RERUN}")
        try:
            recipe, inputs = recipe_of(summary) or {}, digest(summary["key"]["inputs"])
        except (KeyError, TypeError):
            raise UserError(f"{path} lacks its recipe or inputs: {RERUN}") from None
        name = dataset_name(datasets, str(summary["dataset"]))
        facts = {field: summary[field] for field in required} | {"recipe": without_search(summary["recipe"])}
        facts["search"] = recipe.pop("seed", 0)
        facts |= {"recipe_but_seed": digest(recipe), "inputs": inputs, "targets": summary["recipe"]}
        rows.append({"path": Path(path), **facts, "label": name.label, "paper": name.paper or ""})
    return pd.DataFrame(rows)


def points(runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The runs behind each number (searches and seeds of the same settings), one number at a time, in the order of
    `runs`. Of several searches, recipe_digest names all.

    Raises UserError rather than average runs that differ in recipe, code, settings, scale or precision, or in the
    targets of one search, count a run twice, or have other training seeds for one search than for another.
    """
    for _, group in runs.groupby(POINT, sort=False):
        for column in ALIKE:
            _require_alike(group, column)
        for _, of_one_search in group.groupby("targets"):
            _require_alike(of_one_search, "inputs")
        repeated = group[group.duplicated(["search", "seed"], keep=False)]
        if len(repeated):
            files = " and ".join(str(path) for path in repeated["path"][:2])
            raise UserError(f"seed {repeated.iloc[0]['seed']} would count twice: {files}; {RERUN}")
        if len(group) < group["search"].nunique() * group["seed"].nunique():
            raise UserError(
                f"some searches lack training seeds that others have, beside {group.iloc[0]['path']}: {RERUN}"
            )
        yield group.assign(recipe_digest="+".join(group.sort_values("search")["recipe_digest"].unique()))


def _require_alike(runs: pd.DataFrame, column: str) -> None:
    first = runs.iloc[0]
    for _, other in runs[runs[column] != first[column]].iterrows():
        remedy = ONE_PRECISION if column == "precision" else RERUN
        raise UserError(
            f"can't average runs that differ in {column}: {first['path']} has {first[column]!r}, "
            f"{other['path']} has {other[column]!r}; {remedy}"
        )


def counts(runs: pd.DataFrame) -> dict[str, int]:
    """Of one number's runs: n, how many; searches, 0 where they have none; seeds, of training."""
    searches = runs["search"].nunique() if runs["recipe_digest"].iloc[0] else 0
    return dict(zip(COUNTS, (len(runs), searches, runs["seed"].nunique()), strict=True))


def by_search_and_seed(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column's values: one row per search, one column per training seed."""
    return runs.pivot_table(index="search", columns="seed", values=column)


def percent(runs: pd.DataFrame, column: str, prefix: str = "") -> dict[str, float]:
    """Of one number's runs, in per cent: mean, std (of all runs, ddof = 1; NaN for one), error and df of the mean
    (`Estimate.of_runs`). The paper does not say which std it gives.
    """
    values = {"std": float(100 * runs[column].std(ddof=1))}
    values |= asdict(Estimate.of_runs(100 * by_search_and_seed(runs, column)))
    return {f"{prefix}{name}": values[name] for name in ("mean", "std", "error", "df")}


def require_one_dataset(frame: pd.DataFrame) -> None:
    """Raise UserError where a figure's rows are of several data sets or augmentations."""
    kinds = frame[["dataset", "augmentation"]].drop_duplicates()
    if len(kinds) > 1:
        names = ", ".join(" ".join(kind) for kind in kinds.itertuples(index=False))
        raise UserError(f"a figure shows one data set and augmentation, but runs of {names} were given")


def read_csv(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A CSV that must have `columns`; names and digests stay text. Raises UserError where it can't be used."""
    remedy = "delete it and run snakemake again"
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run snakemake to make it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as CSV ({str(error).splitlines()[0]}): {remedy}") from None
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise MissingColumns(f"{path} has no column {', '.join(missing)}: {remedy}")
    if frame.empty:
        raise UserError(f"{path} has no rows: {remedy}")
    words = [name for name in columns if name not in TEXT and not pd.api.types.is_numeric_dtype(frame[name])]
    if words:
        raise UserError(f"{path} has something other than numbers in {', '.join(words)}: {remedy}")
    return frame.fillna({name: "" for name in frame.columns if name in TEXT})
