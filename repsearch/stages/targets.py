"""Stage: what a recipe's targets are like, for the readings study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repsearch import metrics as measures
from repsearch.search.recipe import BLOCKS, SEARCH_LAYERS
from repsearch.storage import targets
from repsearch.storage.files import write_manifest
from repsearch.storage.provenance import code_version

IMAGES = 2000  # whose pairs are compared: the first ones


def make(manifests: Sequence[Path], out: Path, dataset: str, recipe: str) -> None:
    """Write mean cross-entropies (nats) before the search and after each search layer's evolution, over all images;
    and each block's mean cosine similarity within and between classes, over the pairs of the first `IMAGES` images.
    """
    facts: dict[str, Any] = {"dataset": dataset, "recipe": recipe}
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
    facts |= {name: attributes[name] for name in ("recipe_digest", "network")}
    facts["code_version"] = f"{attributes['code_version']}, {code_version('stage_targets')}"
    facts["images"] = sum(map(len, labels))
    facts["cross_entropy_initial"] = float(np.concatenate(initial).mean())
    for layer, values in final.items():
        facts[f"cross_entropy_{layer}"] = float(np.concatenate(values).mean())
    for block, parts in maps.items():
        together = torch.from_numpy(np.concatenate(parts))
        classes = torch.from_numpy(np.concatenate(labels)[: len(together)])
        within, between = measures.class_cosines(measures.cosine_gram(together), classes)
        facts[f"within_class_{block}"], facts[f"between_class_{block}"] = within, between
    write_manifest(out, facts)
