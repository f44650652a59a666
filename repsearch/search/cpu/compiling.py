"""How functions of the compiled CPU path are compiled by Numba, and where the results are stored."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import config, njit

log = logging.getLogger(__name__)

# The files that are compiled, or whose constants are.
_CPU = Path(__file__).parent
SOURCES = [*sorted(_CPU.glob("*.py")), _CPU.parent / "operators.py", _CPU.parent / "randomness.py"]


def cache_folder(sources: Sequence[Path], parent: str = "") -> Path:
    """Where compiled functions are stored: a folder for this state of the sources.

    It is in `parent` if given, else next to the sources, in the user's cache or in a temporary folder: the first that
    can be written to. Numba itself watches only the file of a function, not those of the functions that it calls.
    """
    state = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    near, user = sources[0].parent / "__pycache__", Path(os.path.expanduser("~")) / ".cache" / "repsearch"
    for candidate in (Path(parent),) if parent else (near, user):
        folder = candidate / f"numba-{state}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="repsearch-numba-"))


config.CACHE_DIR = str(cache_folder(SOURCES, config.CACHE_DIR))  # type: ignore[attr-defined]  # NUMBA_CACHE_DIR


def announce(function: Any) -> None:
    """Says so in the log where a function's first call is going to compile it, which takes long."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-*.nbi"
    if not function.signatures and not any(Path(config.CACHE_DIR).rglob(name)):  # type: ignore[attr-defined]
        log.info("compiling the search for this machine: about half a minute, once for this version of the code")


F = np.float32
U = np.uint64

# Fused multiply-add is allowed, reordering is not. error_model: a check for division by zero would prevent vectors.
FAST = {"contract", "nsz", "nnan", "ninf"}
compiled: Callable[..., Any] = njit(nogil=True, fastmath=FAST, error_model="numpy", cache=True)
# Called by compiled functions alone: without the code to call it from Python, which takes long to compile.
_UNWRAPPED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
internal: Callable[..., Any] = njit(nogil=True, fastmath=FAST, error_model="numpy", **_UNWRAPPED)
# A small function, which becomes a part of its callers.
part: Callable[..., Any] = njit(nogil=True, fastmath=FAST, error_model="numpy", forceinline=True)
# Without fastmath, even that of the caller.
exact: Callable[..., Any] = njit(nogil=True, fastmath=False, error_model="numpy", cache=True)
reordering: Callable[..., Any] = njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
