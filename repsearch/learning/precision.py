"""In which precision a network's convolutions are computed."""

from typing import Literal

import torch


def choose(precision: Literal["float32", "bfloat16", "auto"], device: torch.device) -> Literal["float32", "bfloat16"]:
    """`float32` or `bfloat16`, from the setting; `auto` is bfloat16 where the device has instructions for it.

    Without them, convolutions in bfloat16 take several times as long as in float32.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: torch.device) -> bool:
    """A GPU of NVIDIA: compute capability 8.0 or more. A CPU: AVX512_BF16; an ONEDNN_MAX_CPU_ISA of AVX2 forbids it."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu._is_avx512_bf16_supported()  # of the processor; the other, of what the library may use of it
    return bool(found and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
