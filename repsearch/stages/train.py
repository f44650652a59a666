"""Stage: one training run, from prepared data and searched targets to a summary, a trace per epoch and the weights."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.data import prepared as datasets
from repsearch.devices import computing_on, fits
from repsearch.errors import UserError
from repsearch.jobs import TrainJob
from repsearch.learning.precision import choose
from repsearch.learning.runs import chosen as learned_runs
from repsearch.learning.training import Split, train
from repsearch.network import Network, Shape, whitening_filters
from repsearch.progress import bar
from repsearch.search.recipe import SEARCH_LAYERS
from repsearch.stages import cache
from repsearch.storage import networks
from repsearch.storage.files import atomic, digest, file_digest, write_rows
from repsearch.storage.manifest import read_manifest, write_manifest
from repsearch.storage.resume import Resume, forget
from repsearch.storage.targets import read_all

log = logging.getLogger(__name__)

# Added to a run's seed: search networks have seeds below, so that no run begins as one of them (R19). Of a seed,
# torch's generator on a CPU takes the lower 32 bits alone.
FRESH = 2**31


def make(
    job: TrainJob, dataset: Path, network: Path | None, manifests: Sequence[Path], out: Path, device: torch.device
) -> None:
    """Train and write `epochs.csv`, `weights.pt` and `summary.json` into the folder `out`, the summary last.

    network: the search network that the targets must come from, and that the run starts from if R19 says so.
    manifests: of all shards, for a run with targets, whose trace has the cosine distance to them and collision
    entropies on the validation set, per epoch. A run that was cut short resumes from its last saved epoch. Raises
    UserError for targets of other settings and a loss that diverges.
    """
    inputs = cache.input_files(job, dataset, network, manifests)
    if cache.up_to_date(job, out, *inputs):
        return
    key = cache.key(job, *inputs)
    data = datasets.read(dataset)
    targets: dict[str, NDArray[np.float16]] = {}
    searched_by: list[str] = []
    if job.recipe is not None:
        expected: dict[str, Any] = {"recipe_digest": digest(job.recipe.to_dict())}
        if network is not None:
            expected["network"] = read_manifest(network.with_suffix(".json"))["sha256"]
        targets = read_all(manifests, len(data.images), expected)
        searched_by = sorted({str(read_manifest(manifest).get("code_version")) for manifest in manifests})
    elif job.variant.learns != "labels":
        raise UserError(f"variant {job.variant_name} learns {job.variant.learns}, but the run names no recipe")
    images = torch.from_numpy(data.normalised(data.images[data.train]))
    channels, size, _ = data.manifest["shape"]
    shape = Shape(channels, size, data.classes, job.width, 2 * job.depth, job.head_bias, job.head_init)
    model = _start(job, shape, images, network)
    test_images = torch.from_numpy(data.normalised(data.test_images))
    test = Split(_channels_last(test_images, device), torch.from_numpy(data.test_labels).to(device), {})
    parts, runs = (data.train, data.validation), job.training.runs
    training, validation = (_split(data, indices, targets, runs, device) for indices in parts)
    settings = replace(job.training, precision=choose(job.training.precision, device))
    log.info("convolutions in %s (precision: %s)", settings.precision, job.training.precision)
    resume = Resume(out, {**key, **computing_on(device), "precision": settings.precision})
    try:
        result = train(
            model, training, validation, test, settings, job.variant, job.seed,
            flip=job.flip, pad=job.pad,
            progress=lambda epochs: bar(epochs, title=f"{job.dataset} {job.variant_name}", unit="epoch"),
            state=resume.state(device), save=resume.save_state,
        )  # fmt: skip
    except FloatingPointError as error:
        raise UserError(f"{job.dataset}, {job.variant_name}: {error}") from None
    write_rows(out / "epochs.csv", result.epochs)
    with atomic(out / "weights.pt") as temporary, temporary.open("wb") as opened:  # torch would store a path's name
        torch.save({"shape": asdict(shape), "weights": result.weights}, opened)
    facts = {
        "dataset": job.dataset, "augmentation": job.augmentation, "variant": job.variant_name, "depth": job.depth,
        "recipe": job.recipe_name, "recipe_digest": digest(job.recipe.to_dict()) if job.recipe else "",
        "population": job.recipe.population if job.recipe else 0,
        "generations": job.recipe.layers[0].generations if job.recipe else 0,
        "runs": job.recipe.runs if job.recipe else 0, "candidates": job.recipe.candidates if job.recipe else 0,
        "seed": job.seed, "epochs": job.training.epochs, "epoch_chosen": result.epoch_chosen,
        "validation_accuracy": round(result.validation_accuracy, 6), "test_accuracy": round(result.test_accuracy, 6),
        "train_images": len(data.train), "validation_images": len(data.validation),
        "test_images": len(data.test_labels), "width": job.width, "training": asdict(job.training),
        "settings_digest": digest([asdict(job.training), asdict(job.variant), job.head_bias, job.head_init]),
        "code_version": key["code"], "searched_by": searched_by,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu", "torch": torch.__version__,
        "precision": settings.precision,
    }  # fmt: skip
    facts["sha256"] = digest([file_digest(out / "weights.pt"), facts])  # for what is made from weights and facts
    write_manifest(out / "summary.json", key, [out / "epochs.csv", out / "weights.pt"], facts)
    forget(out)
    log.info(
        "validation %.2f %% (epoch %d), test %.2f %%",
        100 * result.validation_accuracy, result.epoch_chosen, 100 * result.test_accuracy,
    )  # fmt: skip


def _start(job: TrainJob, shape: Shape, images: Tensor, network: Path | None) -> Network:
    """R19: the network as it is before the first epoch."""
    if job.training.start == "fresh":
        seed = FRESH + job.seed
        return Network(shape, whitening_filters(images, seed=seed), seed)
    if network is None:
        raise UserError("training.start: 'search' needs the search network (--network)")
    searching = networks.read(network)[0]
    if searching.shape != shape:
        raise UserError(f"{network} is not of the run's shape: training.start: 'search' needs depth 1")
    return searching.train()


def _split(
    data: datasets.Prepared, indices: NDArray[np.int64], targets: dict[str, NDArray[np.float16]], runs: str,
    device: torch.device,
) -> Split:  # fmt: skip
    """Images, labels and targets of a part of the data; targets that don't fit on the device stay on the host.

    runs: which of an image's targets are learned (`Training.runs`).
    """
    chosen = {}
    for layer in SEARCH_LAYERS if targets else ():  # one at a time: they can fill the memory
        (values,) = learned_runs({layer: torch.from_numpy(targets[layer][indices])}, runs).values()
        if fits(values, device):
            chosen[layer] = _channels_last(values, device)
        else:
            log.info("targets of %s stream from the host: they don't fit on the device", layer)
            chosen[layer] = _channels_last(values, torch.device("cpu")).pin_memory()
    images = _channels_last(torch.from_numpy(data.normalised(data.images[indices])), device)
    return Split(images, torch.from_numpy(data.labels[indices]).to(device), chosen)


def _channels_last(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device; maps, of one run or several, with their channels last in memory, as the network
    computes.
    """
    values = values.to(device)
    if values.dim() == 5:
        return _channels_last(values.flatten(0, 1), device).unflatten(0, values.shape[:2])
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values
