"""What a configuration will take on this machine: counted in `costs`, with the speeds of `rates`."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repsearch.bench import rates
from repsearch.bench.costs import Costs, summary
from repsearch.data import folders
from repsearch.data.arrays import check_members, open_npz
from repsearch.data.sources import is_code
from repsearch.network import Shape
from repsearch.plan import Plan
from repsearch.progress import duration
from repsearch.search.backends import SearchPath
from repsearch.storage.untrusted import npy_shape

IMAGES = {"SVHN": (3, 32, 10), "CIFAR10": (3, 32, 10), "CIFAR100": (3, 32, 100)}  # channels, side, classes
DIGITS = (1, 28, 10)  # of MNIST and those like it
OF_CODE = (3, 32, 10)  # what is supposed of a source that is code, which is not run


def estimate(plan: Plan, targets: Sequence[str], device: torch.device, path: SearchPath, slots: int) -> dict[str, Any]:
    """`costs.summary` of all jobs that the targets need, with speeds measured here and now; slots: jobs at a time."""
    work = Costs(plan, targets, shapes(plan)).work
    return summary(work, rates.measure(work, device, path), rates.start_seconds(), slots)


def shapes(plan: Plan) -> Callable[[str], Shape]:
    """Data set → the shape of its search network. Nothing is downloaded or run; of an npz file the labels are read."""

    @cache
    def shape(dataset: str) -> Shape:
        network, source = plan.network(dataset), plan.config.datasets[dataset].source
        channels, side, classes = image(source)
        return Shape(channels, side, classes, network.width, 2, network.head_bias, network.head_init)

    return shape


def image(source: str) -> tuple[int, int, int]:
    """Channels, side and classes of a source's images. Raises UserError for an npz file that can't be used."""
    if is_code(source):
        return OF_CODE
    if source.startswith("folder:"):
        return folders.look(Path(source.removeprefix("folder:")))
    if not source.startswith("npz:"):
        return IMAGES.get(source.partition(":")[2], DIGITS)
    path = Path(source.removeprefix("npz:"))
    with open_npz(path) as archive, np.load(path, allow_pickle=False) as arrays:
        check_members(path, archive, ("x_train", "y_train"))
        size = npy_shape(archive, "x_train")
        classes = len(np.unique(arrays["y_train"]))
    return (3 if 3 in size[1:] else 1), max(size[1:]), classes


def text(result: dict[str, Any], what: str) -> str:
    """For people. what: has as many jobs at a time as there are slots, such as `2 cores`."""

    def line(rule: str, jobs: int, hours: float, longest: str, gigabytes: float) -> str:
        stored = f"{gigabytes:,.1f} GB" if gigabytes >= 0.1 else f"{1000 * gigabytes:,.1f} MB"
        return f"{rule:<20}{jobs:>7,}{duration(3600 * hours):>14}{longest:>14}{stored:>14}"

    lines = [f"{'rule':<20}{'jobs':>7}{'time of all':>14}{'longest job':>14}{'disk':>14}"]
    for row in result["rows"]:
        lines.append(line(row["rule"], row["jobs"], row["hours"], duration(3600 * row["longest"]), row["gigabytes"]))
    lines.append(line("all", result["jobs"], result["hours"], "", result["gigabytes"]))
    wall = duration(3600 * result["wall_hours"])
    return "\n".join([*lines, f"On {what}, {result['slots']} jobs at a time: at least {wall}, finished jobs included."])
