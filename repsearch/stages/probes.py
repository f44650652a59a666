"""Stages: the probes of §3.2. Fitness (figure 2): one search layer alone. Diversity (figure 3): independent runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.data.prepared import Prepared
from repsearch.devices import computing_on
from repsearch.errors import UserError
from repsearch.jobs import DiversityJob, FitnessJob
from repsearch.metrics import cosine_gram, effective_number
from repsearch.search import backends
from repsearch.search.backends import SearchPath
from repsearch.search.evolution import search_one_layer
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import BLOCKS
from repsearch.stages import cache
from repsearch.stages import statistics as stage_statistics
from repsearch.stages.search import over_images, read_statistics, search_images
from repsearch.storage import networks
from repsearch.storage.files import digest, write_csv
from repsearch.storage.manifest import write_manifest
from repsearch.storage.resume import Arrays, Resume, forget

PROBE_SEED = 1  # of the random choice of images
FITNESS_COLUMNS = ["block", "population", "elitist", "generation", "mean", "std", "n"]
Job = FitnessJob | DiversityJob


def fitness(
    job: FitnessJob, dataset: Path, network: Path, out: Path, device: torch.device, path: SearchPath = "auto"
) -> None:
    """Figure 2: evolve each block alone for random training images; write its cross-entropy by generation.

    The statistics of these searches (R3) are taken here: each has an opening of its own.
    CSV: block, population, elitist (1 where parents keep their fitness, so that the best one can't get worse: R3),
    generation (0 is the initial population), mean and std over images, n images.
    """
    if cache.up_to_date(job, out, dataset, network):
        return
    data, net = datasets.read(dataset), SearchNetwork(networks.read(network)[0]).to(device)
    indices, recipe = _random_images(data, job.images, "figure2.images"), job.recipe
    blocks = range(len(BLOCKS))
    given = [stage_statistics.of_recipe(net, data, recipe, path, b) if recipe.independent else None for b in blocks]

    def work(*batch: Tensor) -> Arrays:
        images, labels, numbers = batch
        histories = (search_one_layer(net, images, labels, recipe, numbers, b, given[b], path) for b in blocks)
        return {block: history.cpu().numpy() for block, history in zip(BLOCKS, histories, strict=True)}

    def rest(done: int) -> Iterator[Arrays]:
        return over_images(net, data, indices[done:], recipe, path, work, title="fitness of each block")

    key = cache.key(job, dataset, network, backend=backends.computed_by(net, recipe, path))
    searched = Resume(out, {**key, **computing_on(device)}).rows(rest)
    frames = [fitness_by_generation(torch.from_numpy(searched[block])).assign(block=block) for block in BLOCKS]
    facts = {"population": recipe.population, "elitist": int(not recipe.reevaluates)}
    _write(job, out, pd.concat(frames, ignore_index=True).assign(**facts)[FITNESS_COLUMNS], key)


def diversity(
    job: DiversityJob,
    dataset: Path,
    network: Path,
    statistics: Path | None,
    out: Path,
    device: torch.device,
    path: SearchPath = "auto",
) -> None:
    """Figure 3: `runs` independent searches of each image; N_eff of the best candidates of the first r runs, by block.

    statistics: those of the recipe, which all runs share; None with R3 `batch`. A run searches all layers; its
    candidate of a block counts if the correct class's probability at the end of that block's evolution exceeds
    `probability`. CSV: block, image (its index), runs, accepted (how many of their candidates count), effective (their
    N_eff; empty where none counts), probability.
    """
    if cache.up_to_date(job, out, dataset, network, statistics):
        return
    data, net = datasets.read(dataset), SearchNetwork(networks.read(network)[0]).to(device)
    indices = _random_images(data, job.images, "figure3.images")
    given = read_statistics(net, job.recipe, statistics)
    key = cache.key(job, dataset, network, statistics, backend=backends.computed_by(net, job.recipe, path))

    def rest(done: int) -> Iterator[Arrays]:
        first, start = divmod(done, job.images)
        for run in range(first, job.runs):
            remaining = indices[start if run == first else 0 :]
            title = f"run {run + 1} of {job.runs}"
            results = search_images(net, data, remaining, job.recipe.run(run), given, path, title=title)
            for result in results:
                loss = {f"loss/{block}": result.history[block][:, -1].numpy() for block in BLOCKS}
                yield {block: result.targets[block].half().numpy() for block in BLOCKS} | loss

    searched = Resume(out, {**key, **computing_on(device)}).rows(rest)

    def by_image(name: str) -> Tensor:
        return torch.from_numpy(searched[name]).unflatten(0, (job.runs, job.images)).transpose(0, 1).contiguous()

    frames = []
    for block in BLOCKS:
        counts = torch.exp(-by_image(f"loss/{block}")) > job.probability
        frame = diversity_by_runs(by_image(block), counts)
        frame["image"] = indices[frame["image"]]
        frame.insert(0, "block", block)
        frames.append(frame)
    _write(job, out, pd.concat(frames, ignore_index=True).assign(probability=job.probability), key)


def fitness_by_generation(history: Tensor) -> pd.DataFrame:
    """Statistics of cross-entropies [images, generations + 1]: generation, mean and std over images, n images.

    The standard deviation is the sample's (n - 1), and NaN for one image.
    """
    images, columns = history.shape
    values = history.double()
    std = values.std(0).numpy() if images > 1 else np.nan
    return pd.DataFrame({"generation": range(columns), "mean": values.mean(0).numpy(), "std": std, "n": images})


def diversity_by_runs(candidates: Tensor, counts: Tensor) -> pd.DataFrame:
    """N_eff of the first r runs of each image, for each r (§3.2).

    candidates: [images, runs, …]; counts: [images, runs], bool. One row per image and r: image (from 0), runs, accepted
    (how many of these candidates count), effective (N_eff of those; NaN where there is none).
    """
    rows: list[dict[str, Any]] = []
    for image, (candidate, count) in enumerate(zip(candidates, counts, strict=True)):
        gram = cosine_gram(candidate)
        for runs in range(1, len(count) + 1):
            chosen = count[:runs].nonzero()[:, 0]
            effective = effective_number(gram[chosen][:, chosen]) if len(chosen) else np.nan
            rows.append({"image": image, "runs": runs, "accepted": len(chosen), "effective": effective})
    return pd.DataFrame(rows)


def _random_images(data: Prepared, count: int, setting: str) -> NDArray[np.int64]:
    """`count` of the training images, in order. setting: named by the UserError where there are too few."""
    if count > len(data.train):
        raise UserError(f"{setting}: {count} asked for, but there are {len(data.train)} training images")
    return np.sort(np.random.default_rng(PROBE_SEED).permutation(data.train)[:count])


def _write(job: Job, out: Path, frame: pd.DataFrame, key: dict[str, Any]) -> None:
    write_csv(out, frame.assign(recipe_digest=digest(job.recipe.to_dict()), code_version=key["code"]))
    write_manifest(cache.manifest_path(job, out), key, [out], {})
    forget(out)
