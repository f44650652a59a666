"""Code versions: a digest of the code that could change a result, and of nothing else."""

import ast
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repsearch.errors import UserError
from repsearch.extensions import is_reference, source
from repsearch.storage.files import digest

PACKAGE = Path(__file__).parents[1]

# Modules that hand on, store or describe results, and compute none. Only their number FORMAT counts, which says how
# they store results: a change to what a file holds or means must raise it.
PLUMBING = {
    "config.parsing", "config.schema", "devices", "errors", "extensions", "jobs", "progress",
    "search.backends", "stages.batches", "stages.cache", "storage.files", "storage.locks", "storage.manifest",
    "storage.provenance", "storage.resume", "storage.shards", "storage.untrusted",
}  # fmt: skip
# The compiled paths of the search, each with what it imports: a result depends on the one that computed it.
BACKENDS = {"dense": [], "cpu": ["search.cpu.evolve"], "gpu": ["search.gpu.evolve"]}


def code_version(stage: str, backend: str = "dense", named: Mapping[str, str] | None = None) -> str:
    """Twelve hex digits for the module `stage`, all that it imports, and a backend of the search.

    Comments, docstrings, formatting, log lines, error messages and progress titles do not count, nor do the modules of
    `PLUMBING`. backend: a key of `BACKENDS`. named: of the code that the configuration names (`named_code`).
    """
    return digest({**_meanings(PACKAGE, stage, backend), **(named or {})})


@cache  # planning asks for it once per job
def _meanings(package: Path, stage: str, backend: str) -> dict[str, str]:
    return {name: _meaning(text, name in PLUMBING) for name, text in closure(stage, backend).items()}


def closure(stage: str, backend: str = "dense") -> dict[str, str]:
    """The modules of this package that decide what `stage` computes with a backend of the search, with their texts."""
    start = BACKENDS[backend]
    compiled = tuple(name.rpartition(".")[0] for name in start)
    prefix = "repsearch."

    def find(name: str) -> Path | None:
        module = name.removeprefix(prefix)
        counts = module.startswith(compiled) or not module.startswith(("search.cpu", "search.gpu"))
        return _file(PACKAGE.parent, name) if name.startswith(prefix) and counts else None

    texts = _sources([prefix + name for name in (stage, *start)], find, {prefix + name for name in PLUMBING})
    if prefix + stage not in texts:
        raise ValueError(f"there is no module {stage}")
    return {name.removeprefix(prefix): text for name, text in texts.items()}


def named_code(settings: Iterable[Any]) -> dict[str, str]:
    """For each setting `module:function`, a digest of the module's file and of what it imports from the same tree.

    The tree is the folder where the command runs, or an installed package. Nothing is imported or run.
    Raises UserError where there is no such module.
    """
    return {value: _named(value) for value in settings if isinstance(value, str) and is_reference(value)}


def _named(reference: str) -> str:
    module, file = reference.partition(":")[0], source(reference)
    root = file.parents[module.count(".") + (file.name == "__init__.py")]

    def find(name: str) -> Path | None:
        top = name.partition(".")[0]
        local = root == Path.cwd() and top != "repsearch"  # whose code versions count
        return _file(root, name) if local or top == module.partition(".")[0] else None

    return digest({name: _meaning(text, False) for name, text in _sources([module], find).items()})


def _sources(
    waiting: list[str], find: Callable[[str], Path | None], ends: Collection[str] = frozenset()
) -> dict[str, str]:
    """The texts of modules and of what they import, as far as `find` has a file. ends: modules not to follow."""
    texts: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        path = None if name in texts else find(name)
        if path is not None:
            texts[name] = path.read_text(encoding="utf-8")
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            try:
                waiting += [] if name in ends else _imports(texts[name], package)
            except SyntaxError as error:
                raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None
    return texts


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
