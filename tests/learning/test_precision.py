import os
import subprocess
import sys

import pytest
import torch

from repsearch.learning.precision import choose

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


def test_a_precision_that_is_asked_for_is_taken() -> None:
    assert [choose(name, device) for name in ("float32", "bfloat16") for device in (CPU, GPU)] == [
        *("float32", "float32"),
        *("bfloat16", "bfloat16"),
    ]


@pytest.mark.parametrize(("capability", "chosen"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_a_gpu_is_asked_for_its_compute_capability(
    capability: tuple[int, int], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert choose("auto", GPU) == chosen


@pytest.mark.parametrize("found", [False, True])
def test_a_cpu_is_asked_for_its_instructions(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: found)
    allowed = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert choose("auto", CPU) == ("bfloat16" if found and allowed else "float32")


def test_instructions_that_the_library_may_not_use_do_not_count() -> None:
    code = "import torch; from repsearch.learning.precision import choose; print(choose('auto', torch.device('cpu')))"
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "float32"
