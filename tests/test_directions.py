"""Which way imports go in the package, and what the numeric core needs (CONTRIBUTING.md)."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import repsearch

PACKAGE = Path(repsearch.__file__).parent
NAME = "repsearch"


def _modules() -> dict[str, Path]:
    """Module (`search.cpu.evolve`; a package by its own name) → file."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = _modules()


def _imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top, inside functions or for types alone."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports in this package are absolute"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in submodules if name.removeprefix(f"{NAME}.") in MODULES}
            names |= modules or {str(node.module)}
    return {name.removeprefix(f"{NAME}.") for name in names if name.startswith(f"{NAME}.")}


IMPORTS = {name: _imports(path) for name, path in MODULES.items()}


def _below(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


FORBIDDEN = {
    ("search", "learning", "network", "metrics"): (
        "storage",
        "stages",
        "results",
        "config",
        "data",
        "plan",
        "jobs",
        "cli",
        "bench",
    ),
    ("storage",): ("search.evolution", "search.cpu", "search.gpu", "search.reference", "learning", "stages", "results"),
    ("data",): ("search", "learning", "stages", "results", "config", "plan", "jobs"),
    ("stages", "results"): ("plan",),
    tuple(sorted(n for n in MODULES if n not in ("", "__main__") and not f"{n}.".startswith("cli."))): ("cli",),
}


@pytest.mark.parametrize(("importers", "forbidden"), FORBIDDEN.items(), ids=lambda names: "+".join(names[:4]))
def test_imports_go_one_way(importers: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, imports in IMPORTS.items()
        for imported in sorted(imports)
        if _below(name, importers) and _below(imported, forbidden)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count: they hide a circle, they don't remove it."""
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1][::-1]) + " (each imports the next)")


def test_the_rules_are_about_modules_that_exist() -> None:
    """A package that was renamed would be forbidden nothing."""
    named = {name for rule in FORBIDDEN.items() for names in rule for name in names}
    assert named <= MODULES.keys()
    assert sum(map(len, IMPORTS.values())) > 100


BLOCKED = ("zarr", "numcodecs", "snakemake", "pandas", "pydantic", "typer", "matplotlib", "sklearn", "numba", "yaml")
SEARCH = """
import sys
for name in {blocked}:
    sys.modules[name] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {blocked} else real(name, package)
import torch
from repsearch import metrics
from repsearch.bench import report, training
from repsearch.learning import augment, objective, training
from repsearch.network import Shape
from repsearch.search import reference
from repsearch.search.calibration import calibrate
from repsearch.search.evolution import search
from repsearch.search.network import initialise
from repsearch.search.recipe import Layer, Recipe
images, labels = torch.randn(4, 1, 12, 12), torch.arange(4) % 2
recipe = Recipe((Layer(1, 0.3, 1.0, 1),) * 4, population=4, parents=2, explorers=1)
network = initialise(Shape(1, 12, 2, 4), images, 0)
statistics = calibrate(network, images, labels, recipe, torch.arange(4))
print(float(search(network, images, labels, recipe, torch.arange(4), statistics).final.mean()))
"""


def test_the_core_searches_with_torch_and_numpy_alone() -> None:
    """Without a compiler the search takes the dense path."""
    code = SEARCH.format(blocked=BLOCKED)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout) > 0
