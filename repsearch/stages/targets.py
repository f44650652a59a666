"""Stage: what the targets of a recipe are like, for the readings study."""

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
    """Write mean cross-entropies (nats) before the search and after each search layer's evolution, over all images;
    and each block's mean cosine similarity within and between classes, over the pairs of the first `IMAGES` images.
    """
    if cache.up_to_date(job, out, *manifests):
        return
    labels: list[Any] = []
    initial: list[Any] = []
    final: dict[str, list[Any]] = {layer: [] for layer in SEARCH_LAYERS}
    maps: dict[str, list[Any]] = {block: [] for block in BLOCKS}
    for manifest in manifests:
        arrays, attributes = targets.read(*targets.paths(manifest))
        compared = max(0, IMAGES - sum(map(len, labels)))
        initial.append(arrays["initial_cross_entropy"])
        for layer in SEARCH_LAYERS:
            final[layer].append(arrays[f"history/{layer}"][:, -1])
        for block in BLOCKS:
            maps[block].append(arrays[f"targets/{block}"][:compared])
        labels.append(arrays["labels"])
    key = cache.key(job, *manifests)
    facts: dict[str, Any] = {
        "dataset": job.dataset,
        "recipe": job.recipe,
        "recipe_digest": attributes["recipe_digest"],
        "network": attributes["network"],
        "code_version": f"{attributes['code_version']}, {key['code']}",
        "images": sum(map(len, labels)),
        "cross_entropy_initial": float(np.concatenate(initial).mean()),
    }
    for layer, values in final.items():
        facts[f"cross_entropy_{layer}"] = float(np.concatenate(values).mean())
    for block, parts in maps.items():
        vectors = torch.from_numpy(np.concatenate(parts))
        classes = torch.from_numpy(np.concatenate(labels)[: len(vectors)])
        within, between = metrics.class_cosines(metrics.cosine_gram(vectors), classes)
        facts[f"within_class_{block}"], facts[f"between_class_{block}"] = within, between
    write_manifest(out, key, [], facts)
