"""Where a stage computes, and whether its job asks for a GPU."""

from __future__ import annotations

import logging
import os
from functools import cache
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsearch.errors import UserError
from repsearch.storage import locks

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

DEVICES = Path("/dev")
LOCKS = Path("/tmp")  # of this machine, for all its users: two jobs on one GPU may be of two users


def device_wanted(device: str, elsewhere: bool) -> str:
    """The device of a job from the setting `device`. elsewhere: jobs run on other machines, a cluster's.

    There `auto` is `cuda`: the login node can't tell what the others have, and a job whose GPU doesn't work had better
    fail at once than compute on the CPU for days.
    """
    return "cuda" if device == "auto" and elsewhere else device


def gpus_found(folder: Path | None = None) -> int:
    """How many GPUs this machine shows, in `folder` (/dev), without torch, which takes seconds to import.

    CUDA_VISIBLE_DEVICES, where it is set, hides the others. Too high a guess is harmless: a job waits for its GPU.
    """
    folder = folder or DEVICES
    there = len(list(folder.glob("nvidia[0-9]*")))
    if not there and (folder / "kfd").exists():  # AMD
        there = len(list(folder.glob("dri/renderD*")))
    if not there and (folder / "dxg").exists():  # Windows' Linux, which does not tell how many
        there = 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    return min(there, len(list(takewhile(lambda name: name.strip() not in ("", "-1"), visible.split(",")))))


def gpus_wanted(device: str, folder: Path | None = None) -> int:
    """How many GPUs a job asks the workflow for, from the device that is wanted: 1 or 0.

    `auto` looks for a GPU on this machine. So jobs that will compute on the CPU run side by side.
    """
    return int(device == "cuda" or (device == "auto" and gpus_found(folder) > 0))


def choose(name: str, threads: int) -> torch.device:
    """`auto`: a GPU if there is one, else the CPU. Sets the threads that torch uses on the CPU.

    The GPU is this process's own until it ends: waits while all are taken by other jobs. Raises UserError for `cuda`
    where there is none.
    """
    import torch

    torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' was asked for, but torch finds no GPU; set device: cpu (or auto)")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", _own_gpu())


@cache  # a process has one
def _own_gpu() -> int:
    """A GPU that no other job has: its number among those that torch sees.

    Its lock goes by the UUID: with Slurm, or CUDA_VISIBLE_DEVICES, number 0 is another GPU in every job.
    """
    import torch

    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    number = locks.hold_one([f"repsearch-gpu-{gpu.uuid}" for gpu in found], LOCKS)
    torch.cuda.set_device(number)  # also for what names no device
    log.info("GPU %d of %d: %s, %s", number, len(found), found[number].name, found[number].uuid)
    return number


def computing_on(device: torch.device) -> dict[str, Any]:
    """What decides the last bits of a result, beside its settings, code and inputs."""
    import torch

    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numba": version("numba"),
    }


def fits(tensor: torch.Tensor, device: torch.device) -> bool:
    """Whether the tensor leaves at least half of the device's free memory. Always so on the CPU, where it lies."""
    import torch

    return device.type == "cpu" or 2 * tensor.nbytes < torch.cuda.mem_get_info(device)[0]
