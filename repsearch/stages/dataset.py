"""Stage: prepare a data set: a source's images with a fixed split and the normalisation, in one npz file."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsearch.data.conversions import shown
from repsearch.data.sources import load
from repsearch.errors import UserError
from repsearch.jobs import PrepareJob
from repsearch.stages import cache
from repsearch.storage.files import atomic, file_digest
from repsearch.storage.manifest import write_manifest

log = logging.getLogger(__name__)

SPLIT_SEED = 0


def make(job: PrepareJob, folder: Path, out: Path) -> None:
    """Write the data set to `out` (npz, read by `data.prepared`) and its manifest.

    folder: where downloads go. The images in use are drawn, and validation images held out of them, with a fixed seed
    (A.3: 4000 of 50,000). Raises UserError for a source that is unknown, malformed or too small.
    """
    if cache.up_to_date(job, out):
        return
    source, raw = job.source, load(job.source, folder)
    random = np.random.default_rng(SPLIT_SEED)
    chosen = _sample(random, len(raw.x_train), job.images, "images", source)
    chosen_test = _sample(random, len(raw.x_test), job.test_images, "test_images", source)
    if job.validation_images >= len(chosen):
        images = f"{source}'s {len(chosen)} images"
        raise UserError(f"validation_images ({job.validation_images}) leaves none of {images} to train on")
    order = random.permutation(len(chosen))
    validation, train = np.sort(order[: job.validation_images]), np.sort(order[job.validation_images :])
    x = raw.x_train[chosen]
    pixels = x[train].astype(np.float64) / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    if not (std > 0).all():
        raise UserError(f"{source}: a channel is constant over all training images")
    arrays: dict[str, Any] = {"images": x, "labels": raw.y_train[chosen], "train": train, "validation": validation}
    arrays |= {"test_images": raw.x_test[chosen_test], "test_labels": raw.y_test[chosen_test]}
    arrays |= {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}
    _describe(raw.classes, arrays)
    with atomic(out) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **arrays)
    counts = {"train_images": len(train), "validation_images": len(validation), "test_images": len(chosen_test)}
    facts = {"source": source, "classes": raw.classes, "shape": list(x.shape[1:]), **counts, "sha256": file_digest(out)}
    write_manifest(cache.manifest_path(job, out), cache.key(job), [out], facts)


def _describe(classes: list[str], arrays: dict[str, NDArray[Any]]) -> None:
    """What was prepared, for the log."""
    x, (channels, height, width) = arrays["images"], arrays["images"].shape[1:]
    train, held_out, test = (len(arrays[name]) for name in ("train", "validation", "test_images"))
    log.info("%d images: %d to learn from, %d for validation, %d for the test", len(x) + test, train, held_out, test)
    colour = "grey" if channels == 1 else "colour"
    log.info("%d × %d pixels, %s, values %d to %d", height, width, colour, x.min(), x.max())
    mean, std = (", ".join(f"{value:.4f}" for value in arrays[name]) for name in ("mean", "std"))
    log.info("normalised (of fractions of 255) by mean %s, standard deviation %s", mean, std)
    counts = np.bincount(arrays["labels"][arrays["train"]], minlength=len(classes))
    each = [f"{name} {count}" for name, count in zip(classes, counts, strict=True)]
    log.info("%d classes, images to learn from: %s", len(classes), shown(each))
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        log.warning("no image to learn from of %s: use more images, or leave these classes out", shown(absent))


def _sample(random: np.random.Generator, count: int, wanted: int | None, key: str, source: str) -> NDArray[np.int64]:
    """Sorted indices of `wanted` of `count` images."""
    if wanted is None:
        return np.arange(count)
    if wanted > count:
        raise UserError(f"{key}: {wanted} asked for, but {source} has {count}")
    return np.sort(random.permutation(count)[:wanted])
