"""Triton's kernels without a GPU: run in its interpreter, and compiled.

Triton reads TRITON_INTERPRET when it is first imported, for good: so interpreted tests run in a process of their own.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TESTS = Path(__file__).parent

if INTERPRETED and find_spec("triton"):
    from triton.runtime import interpreter

    _patched = interpreter._patch_lang_tensor

    def _patch(tensor: Any, *scope: Any) -> None:
        """Before 3.7, Triton makes an integer of an array with one axis, which NumPy refuses from 2.4 on."""
        _patched(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = _patch


def interpreted(file: str) -> str:
    """Runs the tests of a file in the interpreter; returns what pytest printed. Raises AssertionError if one fails."""
    done = _process("-m", "pytest", "-q", "-p", "no:cacheprovider", file, interpret=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    return done.stdout


def compiled(call: str) -> list[tuple[str, int, int, int]] | None:
    """Evaluates `module:function(arguments)`, which calls `compile_instead`, in a process of its own.

    Returns name, registers, bytes on the stack and bytes of shared memory of each launch; None without the assembler.
    """
    module, _, function = call.partition(":")
    done = _process("-c", f"import {module} as module; module.{function}", interpret=False)
    if done.returncode == 77:
        return None
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stdout)
    usage = re.findall(r"(\w+) registers (\d+) stack (\d+) shared (\d+)", done.stdout)
    return [(name, int(registers), int(stack), int(shared)) for name, registers, stack, shared in usage]


def _process(*arguments: str, interpret: bool) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join(filter(None, [str(TESTS.parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1" if interpret else "0"}
    return subprocess.run([sys.executable, *arguments], cwd=TESTS, env=environment, capture_output=True, text=True)


def compile_instead(kernels: ModuleType) -> dict[str, Any]:
    """For each kernel of a module, by name: what compiles its launches for a GPU of compute capability 9.0.

    Each prints what it takes. Exits with 77 where the assembler is missing.
    """
    import triton

    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    if not (tools / "ptxas").exists() or not (tools / "cuobjdump").exists():
        sys.exit(77)
    found = vars(kernels).items()
    return {name: _Compiling(value, tools) for name, value in found if isinstance(value, triton.runtime.JITFunction)}


class _Compiling:
    """In a kernel's place: compiles what would be launched."""

    TYPES = {  # noqa: RUF012
        torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.int32: "i32", torch.int64: "i64",
    }  # fmt: skip

    def __init__(self, kernel: Any, tools: Path) -> None:
        self.kernel, self.tools = kernel, tools

    def __getitem__(self, grid: tuple[int, ...]) -> "_Compiling":
        assert all(n > 0 for n in grid)
        return self

    def __call__(self, *values: Any, num_warps: int = 4, **constants: Any) -> None:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        arguments = {**dict(zip(self.kernel.arg_names, values, strict=False)), **constants}
        signature, constexprs, hints = {}, {}, {}
        for i, parameter in enumerate(self.kernel.params):
            value = arguments[parameter.name]
            if parameter.is_constexpr or (type(value) is int and value == 1):  # as Triton specialises launches
                signature[parameter.name], constexprs[parameter.name] = "constexpr", value
            elif isinstance(value, float):
                signature[parameter.name] = "fp32"
            else:
                signature[parameter.name] = "*" + self.TYPES[value.dtype] if isinstance(value, Tensor) else "i32"
                if isinstance(value, Tensor) or value % 16 == 0:
                    hints[(i,)] = [["tt.divisibility", 16]]
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constexprs, attrs=hints)
        options = {"num_warps": num_warps}
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            command = [self.tools / "cuobjdump", "-res-usage", file.name]
            usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
        shared = compiled.metadata.shared
        print(f"{self.kernel.__name__} registers {registers} stack {stack} shared {shared}, warps {num_warps}")
