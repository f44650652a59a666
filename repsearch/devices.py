"""Where a stage computes, and whether its job asks for a GPU."""

from __future__ import annotations

import ctypes
import logging
import os
import warnings
from functools import cache
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from repsearch.errors import UserError
from repsearch.storage import locks

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

DEVICES = Path("/dev")
LOCKS = Path("/tmp")  # of this machine, for all its users: two jobs on one GPU may be of two users
SHARING = "REPSEARCH_JOBS_PER_GPU"  # an environment variable: how many of the workflow's jobs may share a GPU; else one


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
    count = _shown("nvidia[0-9]*")
    if not count and (DEVICES / "kfd").exists():  # AMD
        count = _shown("dri/renderD*")
    if not count and (DEVICES / "dxg").exists():  # Linux on Windows, which does not tell how many
        count = 1
    return min(count, _visible(count))


def _shown(pattern: str) -> int:
    return len(list(DEVICES.glob(pattern)))


def _visible(count: int) -> int:
    """How many of `count` GPUs CUDA_VISIBLE_DEVICES leaves to see, at most."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return count
    return len(list(takewhile(lambda name: name.strip() not in ("", "-1"), visible.split(","))))


def gpus_wanted(device: str) -> int:
    """How many GPUs a job asks the workflow for, from the device that is wanted: 1 or 0.

    `auto` looks for a GPU on this machine, so that jobs which will compute on the CPU run in parallel.
    """
    return int(device == "cuda" or (device == "auto" and gpus_found() > 0))


def choose(name: str, threads: int) -> torch.device:
    """The torch device of a job. name: `cpu`, `cuda`, or `auto`, a GPU if there is one. threads: of torch on the CPU.

    No other job gets the GPU until this process ends (`SHARING`: or so many others); waits while other jobs have them
    all. Raises UserError for `cuda` where torch can use no GPU, and for `auto` where it should be able to, rather than
    compute slowly. Where torch was not built for the GPU that the machine has, `auto` warns and computes on the CPU.
    """
    import torch

    torch.set_num_threads(threads)
    if name == "cpu":
        return torch.device("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reason is said below
        available = torch.cuda.is_available()
    if available:
        return torch.device("cuda", _locked_gpu())
    if name == "cuda":
        raise UserError(f"device: 'cuda' was asked for, but {_why_no_gpu()}; set device: cpu (or auto)")
    built_for_it = (torch.version.cuda and _shown("nvidia[0-9]*")) or (torch.version.hip and _shown("kfd"))
    if built_for_it and _visible(1):
        raise UserError(
            f"device: 'auto' found a GPU, but {_why_no_gpu()}; update the GPU's driver, install a torch that supports "
            "it, or set device: cpu"
        )
    if gpus_found():
        log.warning("computing on the CPU: this torch, %s, was not built for this machine's GPU", torch.__version__)
    return torch.device("cpu")


def _why_no_gpu() -> str:
    """What torch says of it, in one line."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return f"torch can use none: {str(error).splitlines()[0].rstrip('.')}"
    return "torch finds none"


@cache  # one per process
def _locked_gpu() -> int:
    """The number, among those that torch sees, of a GPU that no other job has, or fewer than may share it.

    Its lock is named by its UUID: with Slurm or CUDA_VISIBLE_DEVICES, number 0 is another GPU in every job. A GPU that
    jobs share has as many locks; the first locks of all GPUs are tried before the second ones.
    """
    import torch

    uuids = [_uuid(number) for number in range(torch.cuda.device_count())]
    names = [f"repsearch-gpu-{uuid}" for uuid in uuids]
    further = [f"{name}-{place}" for place in range(2, int(os.environ.get(SHARING, 1)) + 1) for name in names]
    number = locks.hold_one(names + further, LOCKS) % len(uuids)
    torch.cuda.set_device(number)  # for code that names no device
    log.info("GPU %d of %d: %s, %s", number, len(uuids), torch.cuda.get_device_name(number), uuids[number])
    return number


def _uuid(number: int) -> str:
    """The UUID of a GPU, or of the slice of a GPU in MIG mode.

    torch may give all slices of a GPU the GPU's own. NVIDIA's driver tells them apart.
    """
    import torch

    properties, device, words = torch.cuda.get_device_properties(number), ctypes.c_int(), (ctypes.c_ubyte * 16)()
    try:
        driver = ctypes.CDLL("libcuda.so.1")  # which torch has loaded
        failed = driver.cuDeviceGet(ctypes.byref(device), number) or driver.cuDeviceGetUuid_v2(words, device)
    except (OSError, AttributeError):  # AMD; a driver before CUDA 11.4
        failed = True
    return str(properties.uuid) if failed else str(UUID(bytes=bytes(words)))


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
