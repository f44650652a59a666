"""The file of a recipe's BatchNorm statistics (R3), in npz."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from repsearch.data.arrays import check_members, open_npz
from repsearch.errors import UserError
from repsearch.network import Shape
from repsearch.search.recipe import BLOCKS, Recipe
from repsearch.search.statistics import Statistics
from repsearch.storage.files import REMEDY
from repsearch.storage.manifest import verify

NAMES = [f"{kind}_{block}" for kind in ("opening", "scoring") for block in BLOCKS]  # of the arrays


def arrays(statistics: Statistics) -> dict[str, NDArray[Any]]:
    """What the file holds."""
    tables = [table.cpu() for kind in (statistics.openings, statistics.scorings) for _, table in sorted(kind.items())]
    return {name: table.numpy() for name, table in zip(NAMES, tables, strict=True)}


def read(path: Path, shape: Shape, recipe: Recipe) -> Statistics:
    """A recipe's statistics. shape: of the network.

    Raises UserError where the file is missing, damaged, not what its manifest says or of another network or recipe.
    """
    verify(path.with_suffix(".json"))
    with open_npz(path) as archive, np.load(path, allow_pickle=False) as members:
        check_members(path, archive, NAMES)
        tables = {name: torch.from_numpy(members[name]) for name in NAMES}
    openings, scorings = (
        {layer: tables[f"{kind}_{block}"] for layer, block in enumerate(BLOCKS)} for kind in ("opening", "scoring")
    )
    per_block = shape.convolutions
    for layer, settings in enumerate(recipe.layers[: len(BLOCKS)]):
        rows = settings.generations + 1 if recipe.reevaluates else 1
        if (
            openings[layer].shape != (per_block, 2, shape.width)
            or scorings[layer].shape != (rows, per_block * (len(BLOCKS) - 1 - layer), 2, shape.width)
            or not all(x.dtype == torch.float32 and x.isfinite().all() for x in (openings[layer], scorings[layer]))
        ):
            raise UserError(f"{path} does not hold the statistics of this search: {REMEDY}")
    return Statistics(openings, scorings)
