"""Where a stage computes, and whether its job asks for a GPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from repsearch.errors import UserError

if TYPE_CHECKING:
    import torch

GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")  # below /dev: NVIDIA's, AMD's, and any under Windows' Linux


def device_wanted(device: str, elsewhere: bool) -> str:
    """The device of a job from the setting `device`. elsewhere: jobs run on other machines, a cluster's.

    There `auto` is `cuda`: the login node can't tell what the others have, and a job whose GPU doesn't work had better
    fail at once than compute on the CPU for days.
    """
    return "cuda" if device == "auto" and elsewhere else device


def gpus_wanted(device: str, folder: Path = Path("/dev")) -> int:
    """How many GPUs a job asks the workflow for, from the setting `device`: 1 or 0.

    `auto` looks for a GPU on this machine, without torch, which takes seconds to import. So jobs that will compute on
    the CPU run side by side.
    """
    if device == "auto":
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
        return int(not hidden and any(found for pattern in GPU_FILES for found in folder.glob(pattern)))
    return int(device == "cuda")


def choose(name: str, threads: int) -> torch.device:
    """`auto`: a GPU if there is one, else the CPU. Sets the threads that torch uses on the CPU.

    Raises UserError for `cuda` where there is none.
    """
    import torch

    torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' was asked for, but torch finds no GPU; set device: cpu (or auto)")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def fits(tensor: torch.Tensor, device: torch.device) -> bool:
    """Whether the tensor leaves at least half of the device's free memory. Always so on the CPU, where it lies."""
    import torch

    return device.type == "cpu" or 2 * tensor.nbytes < torch.cuda.mem_get_info(device)[0]
