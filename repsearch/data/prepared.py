"""Data sets: three kinds of source, brought to one prepared file."""

import logging
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repsearch.errors import UserError, reason
from repsearch.storage.files import atomic, file_digest
from repsearch.storage.manifest import verify, write_manifest
from repsearch.storage.untrusted import check_zip, npy_shape

log = logging.getLogger(__name__)

TORCHVISION = {"MNIST": 60_000, "CIFAR10": 50_000, "CIFAR100": 50_000}  # name: training images
DOWNLOADS = {  # name: the files to supply where there is no network, below the data folder
    "MNIST": "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
    "CIFAR10": "cifar-10-python.tar.gz",
    "CIFAR100": "cifar-100-python.tar.gz",
}
DIGITS = 1797
MOST_CLASSES = 100_000
ATTEMPTS = 3
DIGITS_TEST = 297  # scikit-learn's digits have no official split: the last ones, by other writers, are the test set
SPLIT_SEED = 0
ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # of an npz file


class Raw(NamedTuple):
    """uint8 images [N, C, H, W], int64 labels [N] in 0 … classes-1, and the classes' names."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: list[str]


@dataclass
class Prepared:
    """A prepared data set. images: every kept training image; train, validation: the fixed split, indices into them.

    mean, std: [C], of the training part's pixels in [0, 1].
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
        """Zero mean, unit variance by channel over the training part. [N, C, H, W] float32."""
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
    """Write `out` (npz) and, beside it, its manifest (`.json`).

    images, test_images: keep that many, drawn with a fixed seed; validation_images of the kept training images are
    held out (A.3: 4000 of 50,000). Raises UserError for a source that is unknown, malformed or too small.
    """
    raw = load(source, folder)
    random = np.random.default_rng(SPLIT_SEED)
    kept = _sample(random, len(raw.x_train), images, "images", source)
    kept_test = _sample(random, len(raw.x_test), test_images, "test_images", source)
    if validation_images >= len(kept):
        raise UserError(
            f"validation_images ({validation_images}) leaves none of {source}'s {len(kept)} images to train on"
        )
    order = random.permutation(len(kept))
    validation, train = np.sort(order[:validation_images]), np.sort(order[validation_images:])
    x = raw.x_train[kept]
    pixels = x[train].astype(np.float64) / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    if not (std > 0).all():
        raise UserError(f"{source}: a channel is constant over all training images")
    with atomic(out) as temporary, temporary.open("wb") as opened:
        np.savez(
            opened,
            images=x,
            labels=raw.y_train[kept],
            train=train,
            validation=validation,
            test_images=raw.x_test[kept_test],
            test_labels=raw.y_test[kept_test],
            mean=mean.astype(np.float32),
            std=std.astype(np.float32),
        )
    manifest = {
        "source": source,
        "classes": raw.classes,
        "shape": list(x.shape[1:]),
        "train_images": len(train),
        "validation_images": len(validation),
        "test_images": len(kept_test),
        "sha256": file_digest(out),
    }
    write_manifest(out.with_suffix(".json"), key or {}, [out], manifest)


def _sample(random: np.random.Generator, count: int, wanted: int | None, key: str, source: str) -> NDArray[np.int64]:
    if wanted is None:
        return np.arange(count)
    if wanted > count:
        raise UserError(f"{key}: {wanted} asked for, but {source} has {count}")
    return np.sort(random.permutation(count)[:wanted])


def read(path: Path) -> Prepared:
    """A file that `prepare` wrote. Raises UserError where it is missing, truncated or not what its manifest says."""
    manifest = verify(path.with_suffix(".json"))
    names = [field.name for field in fields(Prepared) if field.name != "manifest"]
    with _opened(path) as archive, np.load(path, allow_pickle=False) as arrays:
        _check_members(path, archive, names)
        data = Prepared(**{name: arrays[name] for name in names}, manifest=manifest)
        _check_prepared(data, str(path))
    return data


def _check_prepared(data: Prepared, path: str) -> None:
    """Raise an error where a prepared data set can't be what `prepare` wrote, though its manifest vouches for it."""
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


def training_images(source: str) -> int:
    """How many training images a source has, held-out ones included; nothing is downloaded. Raises UserError."""
    known = known_training_images(source)
    return _npz_length(Path(source.removeprefix("npz:"))) if known is None else known


def known_training_images(source: str) -> int | None:
    """As `training_images`, without touching a file: None for an npz file. Raises UserError for an unknown source."""
    kind, name = _parts(source)
    if kind == "npz":
        return None
    return TORCHVISION[name] if kind == "torchvision" else DIGITS - DIGITS_TEST


def _parts(source: str) -> tuple[str, str]:
    """Kind and name of a source. Raises UserError where there is no such source."""
    kind, _, name = source.partition(":")
    if source == "sklearn:digits" or (kind == "torchvision" and name in TORCHVISION) or (kind == "npz" and name):
        return kind, name
    raise UserError(f"unknown source {source!r}: use torchvision:{'|'.join(TORCHVISION)}, npz:PATH or sklearn:digits")


def load(source: str, folder: Path) -> Raw:
    """`torchvision:<name>`, `npz:<path>` or `sklearn:digits`, checked. folder: where downloads go."""
    kind, name = _parts(source)
    if kind == "torchvision":
        return _torchvision(name, folder)
    return _npz(Path(name)) if kind == "npz" else _digits()


def _torchvision(name: str, folder: Path) -> Raw:
    import torchvision

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data: {folder} can't be a folder for downloads ({error.strerror})") from None
    kind = getattr(torchvision.datasets, name)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            train, test = (kind(folder, train=part, download=True) for part in (True, False))
            break
        except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision: RuntimeError on a bad checksum
            why = reason(error)
            if attempt == ATTEMPTS:
                raise UserError(
                    f"torchvision:{name} can't be downloaded ({why}): check the network, or put "
                    f"{DOWNLOADS[name]} into {Path(folder).resolve()}"
                ) from None
            log.warning("download of %s failed (%s), trying again", name, why)
            time.sleep(2**attempt)
    return checked(
        np.asarray(train.data), np.asarray(train.targets), np.asarray(test.data), np.asarray(test.targets),
        f"torchvision:{name}", list(train.classes),
    )  # fmt: skip


def _npz(path: Path) -> Raw:
    with _opened(path) as archive, np.load(path, allow_pickle=False) as arrays:
        optional = [name for name in ("classes",) if name in arrays.files]
        _check_members(path, archive, [*ARRAYS, *optional])
        x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
        classes = _class_names(path, arrays["classes"]) if optional else None
    return checked(x_train, y_train, x_test, y_test, str(path), classes)


@cache
def _npz_length(path: Path) -> int:
    """How many labels y_train has, from its header alone: planning must be quick."""
    with _opened(path) as archive:
        _check_members(path, archive, ARRAYS)
        shape = npy_shape(archive, "y_train")
    if len(shape) != 1 or not shape[0]:
        raise UserError(f"{path}: y_train must hold a label for each training image, not {list(shape)}")
    return int(shape[0])


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file that an npz file is. What goes wrong while it is read becomes a UserError that names it."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(f"{path} can't be read: it is not a whole npz file, such as numpy.savez writes")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: check the data set's source, npz:PATH") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own for a damaged file
        raise UserError(f"{path} can't be read: {reason(error)}") from None


def _check_members(path: Path, archive: zipfile.ZipFile, names: Sequence[str]) -> None:
    """Raise an error where the arrays `names` are not all there, or can't be loaded safely."""
    check_zip(archive)
    missing = [name for name in names if f"{name}.npy" not in archive.namelist()]
    if missing:
        raise UserError(f"{path}: no array {', '.join(missing)} (it needs {', '.join(names)})")
    for name in names:
        npy_shape(archive, name)


def _class_names(path: Path, names: NDArray[Any]) -> list[str]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{path}: classes must be a list of names, not {names.dtype} {list(names.shape)}")
    return [str(name) for name in names]


def checked(
    x_train: NDArray[Any],
    y_train: NDArray[Any],
    x_test: NDArray[Any],
    y_test: NDArray[Any],
    source: str,
    classes: list[str] | None,
) -> Raw:
    """Arrays as a `Raw`: images become [N, C, H, W]. Raises UserError naming source and array."""
    images = []
    for name, x in (("x_train", x_train), ("x_test", x_test)):
        if x.dtype != np.uint8:
            raise UserError(f"{source}: {name} must be uint8 (0 … 255), not {x.dtype}")
        if x.ndim == 3:
            x = x[:, None]
        elif x.ndim == 4 and x.shape[3] in (1, 3):
            x = x.transpose(0, 3, 1, 2)
        elif not (x.ndim == 4 and x.shape[1] in (1, 3)):
            raise UserError(
                f"{source}: {name} must be [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W], not {list(x.shape)}"
            )
        if x.shape[2] != x.shape[3] or x.shape[2] < 9:
            raise UserError(
                f"{source}: {name} must be square and at least 9 × 9 pixels, not {x.shape[2]} × {x.shape[3]}"
            )
        images.append(np.ascontiguousarray(x))
    if images[0].shape[1:] != images[1].shape[1:]:
        raise UserError(
            f"{source}: x_train is {list(images[0].shape[1:])} an image, x_test {list(images[1].shape[1:])}"
        )
    labels = []
    for name, y, x in (("y_train", y_train, images[0]), ("y_test", y_test, images[1])):
        if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
            raise UserError(f"{source}: {name} must hold {len(x)} integers, not {y.dtype} {list(y.shape)}")
        if not len(y):
            raise UserError(f"{source}: {name} is empty")
        labels.append(y.astype(np.int64))
    count = len(classes) if classes else int(labels[0].max()) + 1
    if count > MOST_CLASSES:
        raise UserError(f"{source}: y_train has the label {count - 1}: number the classes 0, 1, 2 and so on")
    for name, y in zip(("y_train", "y_test"), labels, strict=True):
        outside = y[(y < 0) | (y >= count)]
        if len(outside):
            raise UserError(f"{source}: {name} has the label {outside[0]}, outside 0 … {count - 1}")
    if count < 2:
        raise UserError(f"{source}: there must be at least two classes")
    return Raw(images[0], labels[0], images[1], labels[1], classes or [str(i) for i in range(count)])


def _digits() -> Raw:
    """1797 real handwritten digits, 8 × 8 and 17 grey levels, enlarged to 28 × 28 by bilinear interpolation."""
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, (28, 28), mode="bilinear").round().clamp(0, 255).byte().numpy()
    y = bunch.target
    cut = len(y) - DIGITS_TEST
    return checked(
        large[:cut], y[:cut], large[cut:], y[cut:], "sklearn:digits", [str(name) for name in bunch.target_names]
    )
