"""Code versions: a digest of the code that could change a stage's result, and of nothing else."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from repsearch.storage.files import digest

_PACKAGE = Path(__file__).parents[1]
_NAME = "repsearch"

# Modules that move results, watch over them or talk about them, and compute none: of these only the number FORMAT
# counts, which says how they store things. A change to what a file holds or means must raise it.
PLUMBING = {
    "cli", "config.alternatives", "config.parsing", "config.schema", "devices", "errors", "progress",
    "storage.checkpoint", "storage.files", "storage.locks", "storage.partial", "storage.provenance", "storage.shards",
    "storage.untrusted",
}  # fmt: skip
# The compiled paths of the search: they count for what they computed, not for what another path did.
BACKENDS = {
    "dense": (),
    "cpu": ("search.cpu.evolve", "search.cpu.kernels"),
    "gpu": ("search.gpu.evolve", "search.gpu.kernels", "search.gpu.math"),
}
_UNSAID = {"title"}  # keyword arguments that only a person reads


@cache
def code_version(stage: str, backend: str = "dense") -> str:
    """Twelve hex digits for module `stage`, all that it imports, directly or not, and a backend of the search.

    Comments, docstrings, formatting, log lines and error messages do not count, nor do the modules of `PLUMBING`.
    backend: a key of `BACKENDS`.
    """
    return digest({name: _meaning(name) for name in sorted({*closure(stage), *BACKENDS[backend]})})


def code_versions(stage: str) -> list[str]:
    """The versions of all backends: a result of any of these is what the stage would compute now, up to rounding."""
    return [code_version(stage, backend) for backend in BACKENDS]


def closure(stage: str) -> set[str]:
    """The modules whose content decides what `stage` computes, without the backends of the search."""
    compiled = {name for names in BACKENDS.values() for name in names}
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in compiled:
            found.add(name)
            waiting += [] if name in PLUMBING else _imports(name)
    return found


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    return _PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def _imports(module: str) -> list[str]:
    """Modules of this package that `module` imports, at its top or inside functions."""
    names = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(f"{_NAME}."):
            source = node.module.removeprefix(_NAME).removeprefix(".")
            names += [source, *(f"{source}.{alias.name}".removeprefix(".") for alias in node.names)]
    return [name for name in names if name and _path(name).exists()]


def _meaning(module: str) -> str:
    tree = ast.parse(ast.unparse(_tree(module)))  # a copy
    if module in PLUMBING:
        tree.body = [node for node in tree.body if isinstance(node, ast.Assign) and "FORMAT" in ast.unparse(node)]
    text = ast.unparse(_Silent().visit(tree))
    return hashlib.sha256(text.encode()).hexdigest()


class _Silent(ast.NodeTransformer):
    """Takes out what is said to people: docstrings, log lines, error messages, titles."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        logs = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "log"
        said = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if logs or said else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in _UNSAID]
        return self.generic_visit(node)
