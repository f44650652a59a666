"""Stage: one training run, from prepared data and searched targets to a summary, a trace by epoch and the weights."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from repsearch.data import prepared as datasets
from repsearch.devices import computing_on, fits
from repsearch.errors import UserError
from repsearch.learning.training import Split, train
from repsearch.network import Network, Shape, whitening_filters
from repsearch.progress import bar
from repsearch.search.recipe import SEARCH_LAYERS
from repsearch.stages.runs import RunSettings, checkpoint_path, made_from, up_to_date
from repsearch.storage import checkpoint
from repsearch.storage.files import atomic, digest, finish, read_manifest, write_csv
from repsearch.storage.provenance import code_version
from repsearch.storage.targets import Targets

log = logging.getLogger(__name__)


def make(
    settings: RunSettings,
    dataset: Path,
    network: Path | None,
    manifests: Sequence[Path],
    out: Path,
    device: torch.device,
    save_seconds: float = checkpoint.SECONDS,
) -> None:
    """Train and write `epochs.csv`, `weights.pt` and `summary.json` into the folder `out`, the summary last.

    A run with targets is traced: cosine distance to them and collision entropies on the validation set, every epoch.
    A run that was cut short goes on from its last checkpoint, saved every `save_seconds`.
    """
    key = made_from(settings, dataset, manifests)
    if up_to_date(key, out):
        return
    data = datasets.read(dataset)
    found: dict[str, NDArray[np.float16]] = {}
    searched_by: list[str] = []
    if settings.recipe is not None:
        expected: dict[str, Any] = {"recipe_digest": digest(settings.recipe.to_dict())}
        if network is not None:
            expected["network"] = read_manifest(network.with_suffix(".json"))["sha256"]
        found = Targets(manifests, len(data.images), expected).arrays
        searched_by = sorted({str(read_manifest(manifest).get("code_version")) for manifest in manifests})
    elif settings.variant.learns == "targets":
        raise UserError(f"variant {settings.variant_name} learns targets, but the run names no recipe")
    images = torch.from_numpy(data.normalised(data.images[data.train]))
    channels, size, _ = data.manifest["shape"]
    shape = Shape(channels, size, data.classes, settings.width, 2 * settings.depth, settings.head_bias)
    model = Network(shape, whitening_filters(images, seed=settings.seed), settings.seed)
    test = Split(
        torch.from_numpy(data.normalised(data.test_images)).to(device),
        torch.from_numpy(data.test_labels).to(device),
        {},
    )
    kept = checkpoint.Checkpoint(out, {**key, **computing_on(device)}, device, save_seconds)
    try:
        run = train(
            model,
            _split(data, data.train, found, device),
            _split(data, data.validation, found, device),
            test,
            settings.training,
            settings.variant,
            settings.seed,
            flip=settings.flip and settings.augmentation == "augmented",
            pad=settings.pad if settings.augmentation == "augmented" else 0,
            progress=lambda epochs: bar(epochs, f"{settings.dataset} {settings.variant_name}", unit="epoch"),
            state=kept.load(),
            save=kept.save,
        )
    except FloatingPointError as error:
        raise UserError(f"{settings.dataset}, {settings.variant_name}: {error}") from None
    write_csv(out / "epochs.csv", pd.DataFrame(run.epochs))
    with atomic(out / "weights.pt") as temporary, temporary.open("wb") as opened:  # or its name would go into the file
        torch.save({"shape": asdict(shape), "weights": run.weights}, opened)
    facts = {
        "dataset": settings.dataset,
        "label": settings.label,
        "paper": settings.paper,
        "augmentation": settings.augmentation,
        "variant": settings.variant_name,
        "depth": settings.depth,
        "recipe": settings.recipe_name,
        "recipe_digest": digest(settings.recipe.to_dict()) if settings.recipe else "",
        "population": settings.recipe.population if settings.recipe else 0,
        "generations": settings.recipe.layers[0].generations if settings.recipe else 0,
        "seed": settings.seed,
        "epochs": settings.training.epochs,
        "epoch_chosen": run.epoch_chosen,
        "validation_accuracy": round(run.validation_accuracy, 6),
        "test_accuracy": round(run.test_accuracy, 6),
        "train_images": len(data.train),
        "validation_images": len(data.validation),
        "test_images": len(data.test_labels),
        "width": settings.width,
        "training": asdict(settings.training),
        "settings_digest": digest([asdict(settings.training), asdict(settings.variant), settings.head_bias]),
        "code_version": digest([code_version("stages.train"), *searched_by]),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    finish(out / "summary.json", key, [out / "epochs.csv", out / "weights.pt"], facts)
    checkpoint_path(out).unlink(missing_ok=True)
    log.info("validation %.4f (epoch %d), test %.4f", run.validation_accuracy, run.epoch_chosen, run.test_accuracy)


def _split(
    data: datasets.Prepared, indices: NDArray[np.int64], found: dict[str, NDArray[np.float16]], device: torch.device
) -> Split:
    """Images, labels and targets of a part of the data; targets stay on the host where the device is full."""
    targets = {}
    for layer in SEARCH_LAYERS if found else ():
        values = torch.from_numpy(found[layer][indices])
        if fits(values, device):
            targets[layer] = values.to(device)
        else:
            log.info("targets of %s stream from the host: they don't fit on the device", layer)
            targets[layer] = values.pin_memory()
    images = torch.from_numpy(data.normalised(data.images[indices])).to(device)
    return Split(images, torch.from_numpy(data.labels[indices]).to(device), targets)
