"""User code that a configuration names as `module:function`: an operator of the search, or a data source.

`module` is a Python file in the folder where the command runs (`my.operators` is `my/operators.py`), or an installed
module. Only `load` runs the file.
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repsearch.errors import UserError, reason

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_reference(name: str) -> bool:
    """Whether `name` has the form `module:function`."""
    return bool(_REFERENCE.fullmatch(name))


def source(reference: str) -> Path:
    """The file of the module that a reference names, without running it. Raises UserError if there is none."""
    module = reference.partition(":")[0]
    top, *rest = module.split(".")
    folders = [Path.cwd()]
    installed = importlib.util.find_spec(top)  # imports nothing, since the module is a top-level one
    if installed is not None and installed.origin is not None:
        folders.append(Path(installed.origin).parents[1 if installed.submodule_search_locations else 0])
    for folder in folders:
        path = folder.joinpath(top, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    raise UserError(f"{reference}: there is no {Path(top, *rest)}.py in {Path.cwd()}, and no installed module {module}")


def check(reference: str) -> None:
    """Raise UserError, naming the file, unless it is valid Python that defines the function. Runs nothing."""
    file, name = source(reference), reference.partition(":")[2]
    try:
        statements = ast.parse(file.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read as Python ({reason(error)})") from None
    defined: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            defined.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in statement.names}
        else:
            defined |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    if not defined & {name, "*"}:
        raise UserError(f"{reference}: {file} has no function {name}")


def load(reference: str) -> Callable[..., Any]:
    """The function that a reference names, from its module, which is run. Raises UserError if that fails."""
    module, _, name = reference.partition(":")
    source(reference)
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function: Callable[..., Any] | None = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # the module's own code may raise anything
        raise UserError(f"{reference}: {module} can't be imported ({type(error).__name__}: {reason(error)})") from error
    if not callable(function):
        raise UserError(f"{reference}: {module} has no function {name}")
    return function
