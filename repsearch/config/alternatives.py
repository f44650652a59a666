"""Alternatives to a recipe or a variant: the same but for some fields, under a name that says which."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MARK = "--"  # a user's own names don't have it
NO_RECIPE = "none"  # of a run that has no targets
Changes = dict[str, Any]


def every_combination(fields: Mapping[str, Sequence[Any]]) -> Iterator[Changes]:
    """All combinations of the fields' values, the first field slowest."""
    for values in itertools.product(*fields.values()):
        yield dict(zip(fields, values, strict=True))


def differing(settings: Mapping[str, Any], changes: Changes) -> Changes:
    """The changes that do change `settings`."""
    return {field: value for field, value in changes.items() if settings.get(field) != value}


def name(base: str, changes: Changes) -> str:
    """`base` alone for no changes; else such as `paper--noise-element--smooth-noise`."""
    return MARK.join([base, *(f"{field}-{_short(value)}" for field, value in changes.items())])


def family(name: str) -> str:
    """The base of a name."""
    return name.partition(MARK)[0]


def has_targets(recipe: str) -> bool:
    """Whether runs of a recipe of this name have targets."""
    return family(recipe) != NO_RECIPE


def changes(name: str) -> dict[str, str]:
    """What a name changes, as text: `again--chain-on--cycle-1` is {"chain": "on", "cycle": "1"}."""
    parts = (part.partition("-") for part in name.split(MARK)[1:])
    return {field: value for field, _, value in parts}


def setting(name: str) -> str:
    """For people: what a name changes, such as `noise element, smooth noise`; empty for a base."""
    return ", ".join(part.replace("-", " ", 1) for part in name.split(MARK)[1:])


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value).replace("+", "-and-")
