"""The prepared data set: a source's images with a fixed split and the normalisation, in one npz file."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repsearch.data.arrays import check_members, checked, open_npz
from repsearch.errors import UserError
from repsearch.storage.manifest import verify


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


def read(path: Path) -> Prepared:
    """A file that `stages.dataset` wrote. Raises UserError, naming it, if missing, truncated or altered."""
    manifest = verify(path.with_suffix(".json"))
    names = [field.name for field in fields(Prepared) if field.name != "manifest"]
    with open_npz(path) as archive, np.load(path, allow_pickle=False) as arrays:
        check_members(path, archive, names)
        data = Prepared(**{name: arrays[name] for name in names}, manifest=manifest)
        _check_prepared(data, str(path))
    return data


def _check_prepared(data: Prepared, path: str) -> None:
    """Raise an error where a data set can't be what the stage wrote, though its digest is the manifest's."""
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
        raise UserError(f"{path} is not a prepared data set: delete it and run snakemake again")
