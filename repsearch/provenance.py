"""Code versions: which modules a stage runs, and a digest of what they say."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from repsearch.files import digest

_PACKAGE = Path(__file__).parent


@cache
def code_version(module: str) -> str:
    """Twelve hex digits for `repsearch.<module>` and all modules of the package that it imports, directly or not.

    Comments, docstrings and formatting do not count: only edits that can change what is computed re-run a stage.
    """
    return digest({name: _meaning(name) for name in sorted(_closure(module))})


def _closure(module: str) -> set[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _imports(name)
    return seen


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse((_PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def _imports(module: str) -> list[str]:
    """Modules of this package that `module` imports, at its top or inside functions."""
    names = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module == __package__:
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{__package__}."):
            names.append(node.module.removeprefix(f"{__package__}."))
    return [name for name in names if (_PACKAGE / f"{name}.py").exists()]


def _meaning(module: str) -> str:
    tree = ast.parse(ast.unparse(_tree(module)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
