"""Which path the generations of a block take.

`dense` (`evolution`) is plain torch: any network, any reading. `fused` (`cpu.evolve`, `gpu.evolve`) makes, max-pools
and scores a child in one pass, for networks whose convolutions after block 0 are identities, as in the untrained one.
Where the statistics are recorded of all candidates together (R3 `trajectory`, `calibration`), a fused path makes and
max-pools them, and `evolution` scores them.
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
from repsearch.search.network import SearchNetwork
from repsearch.search.recipe import OPERATORS, Recipe

log = logging.getLogger(__name__)

GPU_SIDE = 32  # of block 0's maps: images up to 66 × 66
SearchPath = Literal["auto", "dense", "fused"]
Score = Callable[[Tensor, int], Tensor]  # of `cpu.channel.evolve`
Evolve = Callable[..., tuple[Tensor, Tensor]]  # `cpu.evolve.evolve`; with a `Score`, `cpu.channel.evolve`

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


def choose(network: SearchNetwork, recipe: Recipe, path: SearchPath, together: bool = False) -> Evolve | None:
    """The fused path's `evolve` for the device that the network lies on; None for the dense path.

    together: whether candidates of all images are scored together, for which `evolve` takes a `Score`. `auto` is fused
    where that can serve; the log says which, once. Raises UserError where `fused` is asked for and can't serve,
    ValueError for a `path` that is none.
    """
    if path not in get_args(SearchPath):
        raise ValueError(f"path must be {', '.join(map(repr, get_args(SearchPath)))}, not {path!r}")
    why = None if path == "dense" else refusal(network, recipe) or (_apart(network, recipe) if together else None)
    name = "search path of the calibration images" if together else "search path"
    if path == "fused" and why:
        raise UserError(f"search_path: 'fused' can't search, since {why}; set search_path: auto (or dense)")
    if path == "dense" or why:
        _say(f"{name}: dense" + (f", since {why}" if why else ""))
        return None
    if network.device.type == "cuda":
        from repsearch.search.gpu.evolve import evolve
    else:
        from repsearch.search.cpu.evolve import evolve_for

        evolve = evolve_for(recipe)
    _say(f"{name}: fused ({evolve.__module__})")
    return evolve


def computed_by(network: SearchNetwork, recipe: Recipe, path: SearchPath, together: bool = False) -> str:
    """What computes the generations of blocks: `dense`, `cpu` or `gpu` (`provenance.BACKENDS`). The rest: `choose`."""
    if not choose(network, recipe, path, together):
        return "dense"
    return "gpu" if network.device.type == "cuda" else "cpu"


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
        return "the network's later blocks are not identities"
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


def _apart(network: SearchNetwork, recipe: Recipe) -> str | None:
    """Why the fused path that serves a search scores each image by itself alone; None where it has a `Score`."""
    if recipe.mutation != "channel":
        return f"candidates of mutation {recipe.mutation!r} are not scored together"
    if recipe.smooth != "child" and network.device.type == "cpu":
        return f"candidates of smooth {recipe.smooth!r} are not scored together on a CPU"
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
