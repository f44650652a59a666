"""Where a stage computes."""

import torch

from repsearch.errors import UserError


def choose(name: str, threads: int) -> torch.device:
    """`auto`: a GPU if there is one, else the CPU. Sets the threads that torch uses on the CPU.

    Raises UserError for `cuda` where there is none.
    """
    torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' was asked for, but torch finds no GPU; set device: cpu (or auto)")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def fits(tensor: torch.Tensor, device: torch.device) -> bool:
    """Whether the tensor leaves at least half of the device's free memory. Always so on the CPU, where it lies."""
    return device.type == "cpu" or 2 * tensor.nbytes < torch.cuda.mem_get_info(device)[0]
