"""Code versions: a digest of the code that could change a result, and of nothing else."""

import ast
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repsearch.extensions import is_reference, source
from repsearch.storage.files import digest

PACKAGE = Path(__file__).parents[1]

# Modules that hand on, store or describe results, and compute none. Only their number FORMAT counts, which says how
# they store results: a change to what a file holds or means must raise it.
PLUMBING = {
    "cli", "config.parsing", "config.schema", "devices", "errors", "extensions", "jobs", "progress", "stages.batches",
    "stages.cache", "storage.files", "storage.locks", "storage.manifest", "storage.provenance", "storage.resume",
    "storage.shards", "storage.untrusted",
}  # fmt: skip
# The compiled paths of the search, each with what it imports: a result depends on the one that computed it.
BACKENDS = {"dense": None, "cpu": "search.cpu.evolve", "gpu": "search.gpu.evolve"}
_COMPILED = ("search.cpu", "search.gpu")


def code_version(stage: str, backend: str = "dense", named: Mapping[str, str] | None = None) -> str:
    """Twelve hex digits for the module `stage`, all that it imports, and a backend of the search.

    Comments, docstrings, formatting, log lines, error messages and progress titles do not count, nor do the modules of
    `PLUMBING`. backend: a key of `BACKENDS`. named: of the code that the configuration names (`named_code`).
    """
    meanings = {name: _meaning(_text(name), name in PLUMBING) for name in sorted(closure(stage, backend))}
    return digest({**meanings, **(named or {})})


def code_versions(stage: str, named: Mapping[str, str] | None = None) -> list[str]:
    """The versions of all backends: a result of any of them is what the stage would compute now, up to rounding."""
    return [code_version(stage, backend, named) for backend in BACKENDS]


def closure(stage: str, backend: str = "dense") -> set[str]:
    """The modules of this package whose content decides what `stage` computes with a backend of the search."""
    start = BACKENDS[backend]
    if start is None:
        return _reachable([stage], lambda name: not name.startswith(_COMPILED))
    folder = start.rpartition(".")[0]
    return _reachable([stage, start], lambda name: name.startswith(folder) or not name.startswith(_COMPILED))


def named_code(references: Iterable[str]) -> dict[str, str]:
    """For each `module:function`, a digest of the module's file and of what it imports from beside it.

    That is: modules in the folder where the command runs, or in the same installed package. Nothing is imported or run.
    Raises UserError where there is no such module.
    """
    return {reference: _digest_of_named(reference) for reference in references}


def recipe_code(recipe: Any) -> dict[str, str]:
    """`named_code` of the operators that a recipe (or another dataclass of settings) names in its own fields."""
    values = [value for value in vars(recipe).values() if isinstance(value, str)]
    return named_code(value for value in values if is_reference(value))


def _digest_of_named(reference: str) -> str:
    module = reference.partition(":")[0]
    top = module.partition(".")[0]
    file = source(reference)
    root = file.parents[module.count(".") + (file.name == "__init__.py")]

    meanings: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        first = name.partition(".")[0]
        path = _file(root, name) if first == top or (root == Path.cwd() and first != "repsearch") else None
        if path is not None and name not in meanings:
            text = path.read_text(encoding="utf-8")
            meanings[name] = _meaning(text, False)
            waiting += _imports(text, name if path.name == "__init__.py" else name.rpartition(".")[0])
    return digest(meanings)


def _reachable(waiting: list[str], counts: Callable[[str], bool]) -> set[str]:
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached and counts(name):
            reached.add(name)
            waiting += [] if name in PLUMBING else _package_imports(name)
    return reached


def _package_imports(module: str) -> list[str]:
    prefix = "repsearch."
    names = [name.removeprefix(prefix) for name in _imports(_text(module), "") if name.startswith(prefix)]
    return [name for name in names if _file(PACKAGE, name)]


def _text(module: str) -> str:
    path = _file(PACKAGE, module)
    if path is None:
        raise ValueError(f"there is no module {module}")
    return path.read_text(encoding="utf-8")


def _file(root: Path, module: str) -> Path | None:
    path = root.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _imports(text: str, package: str) -> list[str]:
    """The names that a module imports, at its top or in functions, with the packages that contain them.

    `from a.b import c` imports a.b, and a.b.c if that is a module. package: the start of relative imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names if name]
    return sorted({".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)})


@cache
def _meaning(text: str, plumbing: bool) -> str:
    """A digest of what a module computes; of plumbing, of its number FORMAT."""
    tree = ast.parse(text)
    if plumbing:
        assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
        tree.body = [node for node in assigned if ast.unparse(node.targets[0]) == "FORMAT"]
    return hashlib.sha256(ast.unparse(_Silent().visit(tree)).encode()).hexdigest()


class _Silent(ast.NodeTransformer):
    """Removes what computes nothing: docstrings, log lines, error messages, titles of progress bars."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        logs = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "log"
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if logs or text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name):  # not a method: the title of a plot is part of it
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "title"]
        return self.generic_visit(node)
