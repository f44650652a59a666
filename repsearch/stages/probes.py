"""Stages: the probes of §3.2. Fitness (figure 2): one search layer alone. Diversity (figure 3): independent runs."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.devices import computing_on
from repsearch.errors import UserError
from repsearch.metrics import cosine_gram, effective_number
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import search_one_layer
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import BLOCKS, Recipe
from repsearch.stages import network as stage_network
from repsearch.stages.search import backend, over_images, path_name, search_images, seeded
from repsearch.storage import partial
from repsearch.storage.files import digest, finish, read_manifest, unchanged, write_csv
from repsearch.storage.provenance import code_version, code_versions

log = logging.getLogger(__name__)
PROBE_SEED = 1  # of the random choice of images


def _key(dataset: Path, network: Path, recipe: Recipe, **settings: Any) -> dict[str, Any]:
    return {
        "recipe": recipe.to_dict(),
        **settings,
        "dataset": read_manifest(dataset.with_suffix(".json"))["sha256"],
        "network": read_manifest(network.with_suffix(".json"))["sha256"],
    }


def _random_images(data: datasets.Prepared, count: int, key: str) -> NDArray[np.int64]:
    if count > len(data.train):
        raise UserError(f"{key}: {count} asked for, but there are {len(data.train)} training images")
    return np.sort(np.random.default_rng(PROBE_SEED).permutation(data.train)[:count])


def _write(out: Path, frame: pd.DataFrame, recipe: Recipe, key: dict[str, Any]) -> None:
    frame = frame.assign(recipe_digest=digest(recipe.to_dict()), code_version=key["code"])
    write_csv(out, frame)
    finish(out.with_suffix(".json"), key, [out], {})
    partial.forget(out)


def _up_to_date(out: Path, key: dict[str, Any]) -> bool:
    made = unchanged(out.with_suffix(".json"), key, code_versions("stages.probes"))
    if made:
        partial.forget(out)
        log.info("%s is up to date: its inputs did not change", out)
    return made


def _parts(out: Path, key: dict[str, Any], net: SearchNetwork, recipe: Recipe, path: SearchPath) -> partial.Parts:
    """What was searched before the probe was cut short."""
    key = {**key, **computing_on(net.device), "path": path_name(net, recipe, path)}
    return partial.Parts(out, key, partial.SEARCH_SECONDS)


def fitness(
    dataset: Path,
    network: Path,
    recipe: Recipe,
    layer: int,
    images: int,
    out: Path,
    device: torch.device,
    path: SearchPath = "auto",
) -> None:
    """Figure 2: evolve block `layer` alone for random training images; write its cross-entropy by generation.

    CSV: block, population, generation (0 is the initial population), mean and std over images, n images.
    """
    key = _key(dataset, network, recipe, layer=layer, images=images)
    if _up_to_date(out, key):
        return
    data = datasets.read(dataset)
    net = stage_network.read(network)[0].to(device)
    key["code"] = code_version("stages.probes", backend(net, recipe, path))
    indices, title = _random_images(data, images, "figure2.images"), f"fitness of {BLOCKS[layer]}"

    def work(x: Tensor, labels: Tensor, numbers: Tensor) -> partial.Arrays:
        return {"history": search_one_layer(net, x, labels, recipe, numbers, layer, path).cpu().numpy()}

    def rest(done: int) -> Iterator[partial.Arrays]:
        return over_images(net, data, indices[done:], recipe, path, title, work)

    history = torch.from_numpy(_parts(out, key, net, recipe, path).rows(rest)["history"]).double()
    frame = pd.DataFrame(
        {
            "block": BLOCKS[layer],
            "population": recipe.population,
            "generation": range(history.shape[1]),
            "mean": history.mean(0).numpy(),
            "std": history.std(0).numpy() if images > 1 else np.nan,
            "n": images,
        }
    )
    _write(out, frame, recipe, key)


def diversity(
    dataset: Path,
    network: Path,
    recipe: Recipe,
    images: int,
    runs: int,
    probability: float,
    out: Path,
    device: torch.device,
    path: SearchPath = "auto",
) -> None:
    """Figure 3: `runs` independent searches of each image; N_eff of the best candidates of the first r, by block.

    A run searches all layers; its candidate of a block counts if the correct class's probability at the end of that
    block's evolution exceeds `probability` (½ in §3.2). CSV: block, runs, mean and std over the n images with one that
    counts, accepted (share of candidates that count).
    """
    key = _key(dataset, network, recipe, images=images, runs=runs, probability=probability)
    if _up_to_date(out, key):
        return
    data = datasets.read(dataset)
    net = stage_network.read(network)[0].to(device)
    key["code"] = code_version("stages.probes", backend(net, recipe, path))
    indices = _random_images(data, images, "figure3.images")

    def rest(done: int) -> Iterator[partial.Arrays]:
        """One row a run and image, run by run."""
        for run in range(done // images, runs):
            left = indices[done % images if run == done // images else 0 :]
            for found in search_images(net, data, left, seeded(recipe, run), path, f"run {run + 1} of {runs}"):
                loss = {f"loss/{block}": found.history[block][:, -1].numpy() for block in BLOCKS}
                yield {block: found.targets[block].half().numpy() for block in BLOCKS} | loss

    searched = _parts(out, key, net, recipe, path).rows(rest)

    def by_image(name: str) -> Tensor:
        return torch.from_numpy(searched[name]).unflatten(0, (runs, images)).transpose(0, 1).contiguous()

    rows: list[dict[str, Any]] = []
    for block in BLOCKS:
        candidates, counts = by_image(block), torch.exp(-by_image(f"loss/{block}")) > probability  # [images, runs, …]
        grams = [cosine_gram(candidates[i]) for i in range(images)]
        for used in range(1, runs + 1):
            numbers = [
                effective_number(g[:used, :used][k][:, k])
                for g, c in zip(grams, counts, strict=True)
                if (k := c[:used]).any()
            ]
            rows.append(
                {
                    "block": block,
                    "runs": used,
                    "mean": np.mean(numbers) if numbers else np.nan,
                    "std": np.std(numbers, ddof=1) if len(numbers) > 1 else np.nan,
                    "n": len(numbers),
                    "probability": probability,
                    "accepted": float(counts[:, :used].float().mean()),
                }
            )
    _write(out, pd.DataFrame(rows), recipe, key)
