"""Which path the generations of a block take.

`dense` (`evolution`) is plain torch: any network, any reading. `fused` (`cpu.evolve`, `gpu.evolve`) makes, max-pools
and scores a child in one pass, for networks whose convolutions after block 0 are identities, as in the untrained one.
"""

import ast
import hashlib
import inspect
import logging
import textwrap
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from repsearch.errors import UserError
from repsearch.search import operators as op
from repsearch.search.network import SearchNetwork, Tail
from repsearch.search.recipe import OPERATORS, Recipe

log = logging.getLogger(__name__)

GPU_SIDE = 32  # of block 0's maps: images up to 66 × 66
SearchPath = Literal["auto", "dense", "fused"]
Evolve = Callable[[Tail, Tensor, Recipe, Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor]]

# The operators that the fused paths compute in their own way, by name: `source_digest` of the version that they know.
# After an edit in `operators`, bring cpu/ and gpu/ in step with it, then change the digest here.
IMPLEMENTED = {
    "mean": "11dd91b0a5ca",
    "channel": "65cbdd4c1a94",
    "element": "30063ff0b25b",
    "smooth": "266267ab5b40",
    "smoothing_matrix": "f6452f616798",
    "normalise": "f6e0abec43f8",
    "channel_std": "5009ad4e0ad4",
    "select": "981ef1a7be27",
}


def choose(network: SearchNetwork, recipe: Recipe, path: SearchPath) -> Evolve | None:
    """The fused path's `evolve` for the device that the network lies on; None for the dense path.

    `auto` is fused where that can serve; the log says which, once. Raises UserError where `fused` is asked for and
    can't serve, ValueError for a `path` that is none.
    """
    if path not in get_args(SearchPath):
        raise ValueError(f"path must be {', '.join(map(repr, get_args(SearchPath)))}, not {path!r}")
    why = None if path == "dense" else refusal(network, recipe)
    if path == "fused" and why:
        raise UserError(f"search_path: 'fused' can't search, since {why}; set search_path: auto (or dense)")
    if path == "dense" or why:
        _say("search path: dense" + (f", since {why}" if why else ""))
        return None
    if network.device.type == "cuda":
        from repsearch.search.gpu.evolve import evolve
    else:
        from repsearch.search.cpu.evolve import evolve_for

        evolve = evolve_for(recipe)
    _say(f"search path: fused ({evolve.__module__})")
    return evolve


def refusal(network: SearchNetwork, recipe: Recipe) -> str | None:
    """Why the fused paths can't serve this search; None where they can."""
    on_gpu = network.device.type == "cuda"
    if on_gpu and network.shape.map_sizes[0] > GPU_SIDE:
        return f"maps of more than {GPU_SIDE} × {GPU_SIDE} positions don't fit a GPU's registers"
    compiler = "triton" if on_gpu else "numba"
    if find_spec(compiler) is None:
        return f"the package {compiler} is not installed"
    if not recipe.independent:
        return "its BatchNorm statistics are the batch's (batch_norm: batch)"
    if network.shape.convolutions != 2 or not network.later_blocks_are_identities:
        return "the network's convolutions are not identities"
    if network.network.head.weight.dtype != torch.float32:
        return "the network is not in single precision"
    implemented = {name: getattr(op, name) for name in IMPLEMENTED}
    named = {field: getattr(recipe, field) for field in OPERATORS}
    unknown = [field for field, name in named.items() if op.BUILT_IN[field].get(name) not in implemented.values()]
    if unknown:
        return "the compiled path does not know " + ", ".join(f"{field} {named[field]!r}" for field in unknown)
    for name, function in implemented.items():
        digest = source_digest(function)
        if digest != IMPLEMENTED[name]:
            return (
                f"operators.{name} was edited: bring search/cpu and search/gpu in step with it, then set its digest in "
                f"search/backends.py to {digest!r}"
            )
    return None


@cache
def source_digest(function: Callable[..., Any]) -> str:
    """Twelve hex digits for a function's code without docstring, comments and formatting; "none" without its source."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return "none"
    if isinstance(tree, ast.FunctionDef) and ast.get_docstring(tree) is not None:
        del tree.body[0]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


@cache
def _say(line: str) -> None:
    """Logs a line once in the life of the process."""
    log.info(line)
