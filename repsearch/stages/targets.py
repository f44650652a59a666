"""Stage: what the targets of a recipe are like, for the readings study."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repsearch import metrics
from repsearch.jobs import DescribeJob
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS
from repsearch.stages import cache
from repsearch.storage import targets
from repsearch.storage.manifest import write_manifest

IMAGES = 2000  # the first ones, whose pairs are compared


def make(job: DescribeJob, manifests: Sequence[Path], out: Path) -> None:
    """Write mean cross-entropies (nats) before the search and after each search layer's evolution, over all images and
    runs (history: by generation, 0 included); and each block's mean cosine similarity within and between classes, over
    the pairs of the first `IMAGES` images and their first run.
    """
    if cache.up_to_date(job, out, *manifests):
        return
    parts: defaultdict[str, list[Any]] = defaultdict(list)
    for manifest in manifests:
        arrays, attributes = targets.read(*targets.paths(manifest))
        compared = max(0, IMAGES - sum(map(len, parts["labels"])))
        parts["labels"].append(arrays["labels"])
        parts["cross_entropy_initial"].append(arrays["initial_cross_entropy"])
        for layer in SEARCH_LAYERS:
            parts[f"cross_entropy_{layer}"].append(arrays[f"history/{layer}"][..., -1])
            parts[f"history_{layer}"].append(arrays[f"history/{layer}"])
        for block in BLOCKS:
            maps = arrays[f"targets/{block}"][:compared]
            parts[block].append(maps[:, 0] if maps.ndim == 5 else maps)  # of several runs, the first
    joined = {name: np.concatenate(rows) for name, rows in parts.items()}
    key = cache.key(job, *manifests)
    facts: dict[str, Any] = {"dataset": job.dataset, "recipe": job.recipe}
    facts |= {"recipe_digest": attributes["recipe_digest"], "network": attributes["network"]}
    facts |= {"code_version": f"{attributes['code_version']}, {key['code']}", "images": len(joined["labels"])}
    facts |= {name: float(values.mean()) for name, values in joined.items() if name.startswith("cross_entropy")}
    histories = {layer: joined[f"history_{layer}"] for layer in SEARCH_LAYERS}
    facts["history"] = {layer: rows.reshape(-1, rows.shape[-1]).mean(0).tolist() for layer, rows in histories.items()}
    for block in BLOCKS:
        gram = metrics.cosine_gram(torch.from_numpy(joined[block]))
        within, between = metrics.class_cosines(gram, torch.from_numpy(joined["labels"][: len(gram)]))
        facts[f"within_class_{block}"], facts[f"between_class_{block}"] = within, between
    write_manifest(out, key, [], facts)
