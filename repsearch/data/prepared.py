"""The prepared data set: a source's images with a fixed split and the normalisation, in one npz file."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsearch.data.sources import check_members, checked, load, open_npz
from repsearch.errors import UserError
from repsearch.storage.files import atomic, file_digest
from repsearch.storage.manifest import verify, write_manifest

SPLIT_SEED = 0


@dataclass
class Prepared:
    """A prepared data set.

    images: uint8 [N, C, H, W], every training image that is used; labels: int64 [N]. train, validation: indices into
    them, the fixed split (A.3). test_images, test_labels: the same of the test set. mean, std: float32 [C], of the
    training part's pixels in [0, 1]. manifest: `source`, `classes` (names), `shape` (C, H, W) and counts.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    manifest: dict[str, Any]

    @property
    def classes(self) -> int:
        return len(self.manifest["classes"])

    def normalised(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images with zero mean and unit variance per channel over the training part. [N, C, H, W] → the same."""
        scaled = images.astype(np.float32) / np.float32(255)
        return np.asarray((scaled - self.mean[:, None, None]) / self.std[:, None, None], np.float32)


def prepare(
    source: str,
    folder: Path,
    out: Path,
    validation_images: int,
    images: int | None = None,
    test_images: int | None = None,
    key: dict[str, Any] | None = None,
) -> None:
    """Write a source's data set to `out` (npz) and its manifest to the file of that name with the suffix `.json`.

    folder: where downloads go. images, test_images: how many to use, drawn with a fixed seed (None: all);
    validation_images of the training images used are held out (A.3: 4000 of 50,000). key: what the manifest is to say
    that the file was made from. Raises UserError for a source that is unknown, malformed or too small.
    """
    raw = load(source, folder)
    random = np.random.default_rng(SPLIT_SEED)
    chosen = _sample(random, len(raw.x_train), images, "images", source)
    chosen_test = _sample(random, len(raw.x_test), test_images, "test_images", source)
    if validation_images >= len(chosen):
        raise UserError(
            f"validation_images ({validation_images}) leaves none of {source}'s {len(chosen)} images to train on"
        )
    order = random.permutation(len(chosen))
    validation, train = np.sort(order[:validation_images]), np.sort(order[validation_images:])
    x = raw.x_train[chosen]
    pixels = x[train].astype(np.float64) / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    if not (std > 0).all():
        raise UserError(f"{source}: a channel is constant over all training images")
    with atomic(out) as temporary, temporary.open("wb") as opened:
        np.savez(
            opened,
            images=x,
            labels=raw.y_train[chosen],
            train=train,
            validation=validation,
            test_images=raw.x_test[chosen_test],
            test_labels=raw.y_test[chosen_test],
            mean=mean.astype(np.float32),
            std=std.astype(np.float32),
        )
    manifest = {
        "source": source,
        "classes": raw.classes,
        "shape": list(x.shape[1:]),
        "train_images": len(train),
        "validation_images": len(validation),
        "test_images": len(chosen_test),
        "sha256": file_digest(out),
    }
    write_manifest(out.with_suffix(".json"), key or {}, [out], manifest)


def _sample(random: np.random.Generator, count: int, wanted: int | None, key: str, source: str) -> NDArray[np.int64]:
    """Sorted indices of `wanted` of `count` images."""
    if wanted is None:
        return np.arange(count)
    if wanted > count:
        raise UserError(f"{key}: {wanted} asked for, but {source} has {count}")
    return np.sort(random.permutation(count)[:wanted])


def read(path: Path) -> Prepared:
    """A file that `prepare` wrote. Raises UserError where it is missing, truncated or not what its manifest says."""
    manifest = verify(path.with_suffix(".json"))
    names = [field.name for field in fields(Prepared) if field.name != "manifest"]
    with open_npz(path) as archive, np.load(path, allow_pickle=False) as arrays:
        check_members(path, archive, names)
        data = Prepared(**{name: arrays[name] for name in names}, manifest=manifest)
        _check_prepared(data, str(path))
    return data


def _check_prepared(data: Prepared, path: str) -> None:
    """Raise an error where a data set can't be what `prepare` wrote, though its digest is the manifest's."""
    checked(data.images, data.labels, data.test_images, data.test_labels, path, data.manifest["classes"])
    split = np.sort(np.concatenate([data.train, data.validation]))
    channels = data.images.shape[1:2]
    if (
        list(data.images.shape[1:]) != data.manifest["shape"]
        or data.images.ndim != 4
        or not np.array_equal(split, np.arange(len(data.images)))
        or not np.issubdtype(split.dtype, np.integer)
        or not len(data.train) > 0
        or not all(x.shape == channels and x.dtype == np.float32 and (x >= 0).all() for x in (data.mean, data.std))
        or not (np.isfinite(data.mean) & (data.std > 0) & np.isfinite(data.std)).all()
    ):
        raise UserError(f"{path} is no prepared data set: delete it and run snakemake again")
