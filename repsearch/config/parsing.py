"""Plain data (of YAML or JSON) as a model or dataclass; each mistake in one line that names its key."""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from repsearch.errors import UserError

T = TypeVar("T")
MOST_THINGS = 10_000  # keys and values of a whole configuration: a few lines of YAML can stand for billions
DEEPEST = 20


def check_plain(raw: Any) -> None:
    """Raise UserError, naming the key, for what is no plain value: a date, an infinity, text that can't be printed."""
    waiting: list[tuple[list[str], Any]] = [([], raw)]
    for count in itertools.count():
        if not waiting:
            return
        keys, value = waiting.pop()
        place = "configuration: " + (".".join(keys) or "the whole")
        if count > MOST_THINGS or len(keys) > DEEPEST:
            raise UserError(f"{place}: there is too much in it, or it holds itself (a YAML alias)")
        if isinstance(value, Mapping):
            for name in value:
                if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > 200:
                    shown = repr(name) if len(repr(name)) < 80 else f"{repr(name)[:80]}…"
                    raise UserError(f"{place}: the key {shown} must be plain text, in quotes if need be")
            waiting += [([*keys, name], each) for name, each in value.items()][::-1]
        elif isinstance(value, list | tuple):
            waiting += [([*keys, str(at)], each) for at, each in enumerate(value)][::-1]
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{place}: must be a finite number, not {value}")
        elif isinstance(value, int) and abs(value) > 2**64:
            raise UserError(f"{place}: the number is too large")
        elif isinstance(value, str) and (not value.isprintable() or len(value) > 1000):
            raise UserError(f"{place}: must be text of one line that can be printed, at most 1000 characters")
        elif value is not None and not isinstance(value, bool | int | float | str):
            kind = type(value).__name__
            raise UserError(
                f"{place}: must be a number, text, list or mapping, not the {kind} {ascii(str(value))[1:-1][:80]}"
            )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def parse(kind: type[T], raw: Any, where: str, of: str = "configuration") -> T:
    """`raw` as a `kind` (a model or dataclass), or UserError with one line a mistake, each naming the key.

    where: the key that holds `raw`, empty at the top. of: what `raw` is, as messages call it.
    """
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        return adapter.validate_json(_json(raw), strict=True)
    except ValidationError as error:
        mistakes = [_in_words(mistake, where, kind) for mistake in _without_misspelt(error.errors(), kind)]
        more = [f"… and {len(mistakes) - 20} more mistakes: fix these first"] if len(mistakes) > 20 else []
        raise UserError(f"{of}: " + "\n".join(mistakes[:20] + more)) from None


UNKNOWN, MISSING = "unknown key", "is missing"
_WORDS = {  # pydantic's kinds of mistake, for people who write YAML
    **dict.fromkeys(("extra_forbidden", "unexpected_keyword_argument"), UNKNOWN),
    **dict.fromkeys(("missing", "missing_argument"), MISSING),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "dataclass_type"), "must be a mapping"),
    "bool_type": "must be true or false",
}


def _without_misspelt(mistakes: Sequence[Any], kind: Any) -> list[Any]:
    """All mistakes but the missing keys that an unknown key is like: what to write in its place is said there."""
    unknown = [mistake["loc"] for mistake in mistakes if _WORDS.get(mistake["type"]) == UNKNOWN]
    misspelt = {(*above, close) for *above, last in unknown for close in _like(kind, above, last)}
    return [each for each in mistakes if _WORDS.get(each["type"]) != MISSING or each["loc"] not in misspelt]


def _in_words(mistake: Any, where: str, kind: Any) -> str:
    keys, given = [*filter(None, [where]), *map(str, mistake["loc"])], mistake["input"]
    if _WORDS.get(mistake["type"]) == UNKNOWN:
        return f"{'.'.join(keys)}: {UNKNOWN}{_instead(kind, mistake['loc'], given)}"
    problem = _WORDS.get(mistake["type"]) or str(mistake["msg"]).removeprefix("Value error, ")
    problem = problem.replace("Input should be", "must be")
    name, _, rest = problem.partition(" ")
    if (
        isinstance(given, Mapping) and name in given and rest.startswith("must ")
    ):  # a dataclass's own check of one field
        keys, problem = [*keys, name], rest + _choice_like(given[name], rest)
    stated = problem == MISSING or isinstance(given, Mapping) or len(repr(given)) > 80
    problem = ": ".join(filter(None, [".".join(keys), problem[0].lower() + problem[1:]]))
    return problem + ("" if stated else f" (got {given!r})")


def _choice_like(value: Any, problem: str) -> str:
    """Which of the choices in quotes in `problem` the value is like; nothing where it is like none."""
    choices = [choice for choice in re.findall("'([^']+)'", problem) if choice != value]
    return "".join(f" (did you mean {close!r}?)" for close in get_close_matches(str(value), choices, 1))


def _instead(kind: Any, place: Sequence[str | int], given: Any) -> str:
    """What to write in place of an unknown key, at `place` in a `kind`; nothing where no key is like it."""
    *above, last = map(str, place)
    if ":" in last:
        return " (is a space missing after its colon?)"
    first, dot, rest = last.partition(".")
    known = _keys(kind, above)
    if dot and first in known:
        value = "…" if isinstance(given, Mapping | list) else given
        nested = f"{{{rest.replace('.', ': {')}: {value}" + "}" * (1 + rest.count("."))
        return f" (a key has no dots; write {first}: {nested})"
    return "".join(f" (did you mean {close}?)" for close in _like(kind, above, last))


def _like(kind: Any, above: Sequence[str | int], last: str | int) -> list[str]:
    """The key that a `kind` has below `above` and that is most like `last`; nothing where none is."""
    return get_close_matches(str(last), _keys(kind, [*map(str, above)]), 1)


def _keys(kind: Any, place: Sequence[str]) -> list[str]:
    """The keys that a `kind` has at `place`; none where that is no model or dataclass."""
    whole: dict[str, Any] = _adapter(kind).json_schema()

    def parts(schema: dict[str, Any]) -> list[dict[str, Any]]:
        """A schema's alternatives, none of them a reference."""
        if "$ref" in schema:
            return parts(whole["$defs"][schema["$ref"].rpartition("/")[2]])
        return [part for option in schema["anyOf"] for part in parts(option)] if "anyOf" in schema else [schema]

    here = parts(whole)
    for key in place:
        inner = [part.get("properties", {}).get(key) or part.get("additionalProperties") for part in here]
        inner += [part.get("items") or part.get("prefixItems", [None])[0] for part in here]
        here = [part for schema in inner if isinstance(schema, dict) for part in parts(schema)]
    return [name for part in here for name in part.get("properties", {})]


def _json(raw: Any) -> str:
    """As JSON, whose lists serve as tuples in strict mode, while '3' is no number."""
    try:
        return json.dumps(raw)
    except (TypeError, ValueError) as error:
        raise UserError(f"configuration: only numbers, strings, lists and mappings are allowed ({error})") from None
