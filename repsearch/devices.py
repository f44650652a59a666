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
    """The device of a job from the setting `device`. elsewhere: jobs run on other machines, those of a cluster.

    `auto` is `cuda` there: the login node can't tell what the others have, and a job whose GPU doesn't work should fail
    at once rather than compute on the CPU for days.
    """
    return "cuda" if device == "auto" and elsewhere else device


def gpus_found() -> int:
    """How many GPUs this machine shows in `DEVICES`, without torch, which takes seconds to import.

    CUDA_VISIBLE_DEVICES, where it is set, hides the others. Too high a guess is harmless: a job waits for its GPU.
    """
    count = len(list(DEVICES.glob("nvidia[0-9]*")))
    if not count and (DEVICES / "kfd").exists():  # AMD
        count = len(list(DEVICES.glob("dri/renderD*")))
    if not count and (DEVICES / "dxg").exists():  # Linux on Windows, which does not tell how many
        count = 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return count
    return min(count, len(list(takewhile(lambda name: name.strip() not in ("", "-1"), visible.split(",")))))


def gpus_wanted(device: str) -> int:
    """How many GPUs a job asks the workflow for, from the device that is wanted: 1 or 0.

    `auto` looks for a GPU on this machine, so that jobs which will compute on the CPU run in parallel.
    """
    return int(device == "cuda" or (device == "auto" and gpus_found() > 0))


def choose(name: str, threads: int) -> torch.device:
    """The torch device of a job. name: `cpu`, `cuda`, or `auto`, a GPU if there is one. threads: of torch on the CPU.

    No other job gets the GPU until this process ends; waits while other jobs have them all. Raises UserError for `cuda`
    on a machine without a GPU.
    """
    import torch

    torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' was asked for, but torch finds no GPU; set device: cpu (or auto)")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", _locked_gpu())


@cache  # one per process
def _locked_gpu() -> int:
    """The number, among those that torch sees, of a GPU that no other job has.

    Its lock is named by its UUID: with Slurm or CUDA_VISIBLE_DEVICES, number 0 is another GPU in every job.
    """
    import torch

    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    number = locks.hold_one([f"repsearch-gpu-{gpu.uuid}" for gpu in gpus], LOCKS)
    torch.cuda.set_device(number)  # for code that names no device
    log.info("GPU %d of %d: %s, %s", number, len(gpus), gpus[number].name, gpus[number].uuid)
    return number


def computing_on(device: torch.device) -> dict[str, Any]:
    """What decides the last bits of a result, apart from its settings, code and inputs."""
    import torch

    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numba": version("numba"),
    }


def fits(tensor: torch.Tensor, device: torch.device) -> bool:
    """Whether the tensor takes at most half of the device's free memory. On the CPU it is in memory already."""
    import torch

    return device.type == "cpu" or 2 * tensor.nbytes < torch.cuda.mem_get_info(device)[0]
