"""Mappings that hold some of the settings of a dataclass or a model: those that a recipe or a data set changes.

Their keys and types are the dataclass's own. Ranges, and what several settings must be together, are checked where a
mapping is completed and becomes that dataclass (`resolve`).
"""

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict


def partial(name: str, kind: Any, complete: bool = False, **more: Any) -> Any:
    """The type of a mapping with any of the settings of `kind`, and of `more` (name → type), which goes before.

    complete: with all of them.
    """
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind.model_fields)
    hints = get_type_hints(kind, include_extras=True)
    made = TypedDict(name, {**{each: hints[each] for each in names}, **more}, total=complete)  # type: ignore[misc]
    return with_config(ConfigDict(extra="forbid", strict=True))(made)
