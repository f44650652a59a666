"""Why Snakemake runs a job again, where it prints a job's whole settings twice: only the settings that differ."""

import ast
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_CHANGE = re.compile(r"Union of exclusive params before and now across all output: before: (.*?) now: (.*?) ?(?=; |$)")
_NOTHING = "<nothing exclusive>"
_SETTINGS = re.compile(r"'\{.*\}'")  # a job as JSON
_CODE = re.compile(r"'[0-9a-f]{12,}'")  # a code version
MOST = 6  # settings that are named


class Readable(logging.Filter):
    """Of a log record of Snakemake's logger, makes the reason for a job `readable`."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(reason := getattr(record, "reason", None), str):
            record.reason = readable(reason)
        return True


def readable(reason: str) -> str:
    """Snakemake's reason for a job, in which parameters that changed are named: `recipe.smooth: "child" → "noise"`.

    What is not as expected stays as it is.
    """
    return _CHANGE.sub(lambda change: _named(change[1], change[2]) or change[0], reason)


def _named(before: str, now: str) -> str:
    """The changes between two lists of parameters; empty where they are no settings and no code."""
    said: list[str] = []
    old, new = _SETTINGS.search(before), _SETTINGS.search(now)
    if old and new:
        try:
            said = [*changes(*(json.loads(ast.literal_eval(each[0])) for each in (old, new)))]
        except (ValueError, SyntaxError):
            return ""
        said = [*said[:MOST], *([f"and {len(said) - MOST} more settings"] if len(said) > MOST else [])]
        before, now = (text.replace(each[0], "").strip(",") for text, each in ((before, old), (now, new)))
    if _CODE.fullmatch(before) and _CODE.fullmatch(now):
        said.append(f"the code that makes it: {before[1:-1]} → {now[1:-1]}")
    elif before.replace(_NOTHING, "") or now.replace(_NOTHING, ""):
        return ""
    return ", ".join(said)


def changes(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """`key: before → now` of each value that differs between two JSON values; `nothing` where one of them has none."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        pairs = [(name, before.get(name), now.get(name)) for name in dict.fromkeys([*before, *now])]
    elif isinstance(before, Sequence) and isinstance(now, Sequence) and len(before) == len(now) and _nested(now):
        pairs = [(str(at), *values) for at, values in enumerate(zip(before, now, strict=True))]
    else:
        if before != now:
            yield f"{key}: " + " → ".join("nothing" if value is None else json.dumps(value) for value in (before, now))
        return
    for name, old, new in pairs:
        yield from changes(old, new, f"{key}.{name}".strip("."))


def _nested(values: Sequence[Any]) -> bool:
    return not isinstance(values, str) and any(isinstance(value, Mapping) for value in values)
