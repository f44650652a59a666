"""workflow/config.schema.json: what editors know of the configuration, from the package's own types."""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from repsearch import extensions
from repsearch.config import schema
from repsearch.learning.settings import Training
from repsearch.search.recipe import OPERATORS, Layer, Recipe

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "workflow/config.schema.json"
LAYER = Layer(0, 0.0, 0.0, 0)
LEAST = {  # settings in which each number may be as small as it ever may
    Layer: {"generations": 0, "alpha": 0.0, "boost": 0.0, "blur": 0},
    Recipe: {"layers": (LAYER,) * 4, "population": 1, "parents": 1, "explorers": 0},
    Training: {},
}
KINDS = {
    "NetworkChanges": schema.NetworkSettings, "TrainingChanges": Training, "TrainingSection": Training,
    "RecipeSection": Recipe, "LayerSettings": Layer,
}  # fmt: skip


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # it would be the key again


def text() -> str:
    """The schema of config.yaml and of any file that overrides parts of it, so that nothing must be there."""
    made = TypeAdapter(schema.Config).json_schema(schema_generator=_Untitled)
    sections = {**made["$defs"], "Config": made}
    for name, section in sections.items():
        kind = KINDS.get(name) or getattr(schema, name)
        if name != "LayerSettings":  # lists are replaced as a whole
            section.pop("required", None)
        for key, said in comments(inspect.getsource(kind), "    "):
            section["properties"].get(key, {})["description"] = said
        for key, limits in bounds(kind):
            section["properties"][key] |= limits
    for key, said in comments((ROOT / "config.yaml").read_text(encoding="utf-8"), ""):
        made["properties"][key]["description"] = said
    for name, builtin in OPERATORS.items():
        own = {"type": "string", "pattern": f"^{extensions._REFERENCE.pattern}$"}
        made["$defs"]["RecipeSection"]["properties"][name] |= {"anyOf": [{"enum": [*builtin]}, own]}
    return (
        json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **made}, indent=2, ensure_ascii=False) + "\n"
    )


def comments(source: str, indent: str) -> Iterator[tuple[str, str]]:
    """(key, its comment), which may go on in the lines below."""
    for key, said in re.findall(rf"^{indent}(\w+):[^#\n]*# (.+(?:\n +# .+)*)$", source, re.MULTILINE):
        yield key, re.sub(r"\n +# ", " ", said)


def bounds(kind: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """(number, the least that it may be), found by asking the class's own check."""
    for field in fields(kind) if kind in LEAST else ():
        if field.type in (int, float):
            refused, *allowed = (_allows(kind, field.name, field.type(value)) for value in (-1, 0, 1))
            assert not refused
            least = [{"minimum": value} for value, may_be in enumerate(allowed) if may_be]
            yield field.name, least[0] if least else {"exclusiveMinimum": 0, "exclusiveMaximum": 1}


def _allows(kind: Any, name: str, value: float) -> bool:
    try:
        kind(**{**LEAST[kind], name: value})
    except ValueError:
        return False
    return True


def write() -> None:
    FILE.write_text(text(), encoding="utf-8")
