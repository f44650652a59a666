"""workflow/config.schema.json, for editors: what it was made from, what it accepts and refuses."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.config.test_load import PAPER, ROOT, changed
from tests.golden import config_schema

SCHEMA = json.loads(config_schema.FILE.read_text(encoding="utf-8"))
FILES = [ROOT / "config.yaml", *sorted((ROOT / "workflow/presets").rglob("*.yaml"))]


def mistakes(raw: Any) -> list[str]:
    found = jsonschema.Draft7Validator(SCHEMA).iter_errors(raw)
    return [".".join(map(str, each.absolute_path)) for each in found]


def test_the_schema_is_that_of_the_package() -> None:
    made = config_schema.text()
    assert made == config_schema.FILE.read_text(encoding="utf-8"), "run python -m tests.golden"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_file_is_valid_alone_and_names_the_schema(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert mistakes(yaml.safe_load(text)) == []
    place = Path(os.path.relpath(config_schema.FILE, file.parent)).as_posix()
    assert text.startswith(f"# yaml-language-server: $schema={place}\n")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 3),
        ("seeds", 0),
        ("datasets.mnist.flips", True),
        ("datasets.mnist.network", {"head_init": "xavier"}),
        ("recipes.paper.populations", 240),
        ("recipes.paper.parents", 0),
        ("recipes.paper.mutation", "pixel"),
        ("recipes.paper.layers", [{"generations": 3}] * 4),
        ("training.momentum", 1),
        ("training.targets", {"schedule": "cosine"}),
        ("variants.sgd.training", {"epochs": 1.5}),
        ("figures.figure2", "fitnes"),
    ],
)
def test_a_mistake_is_marked_where_it_is(path: str, value: Any) -> None:
    found = mistakes(changed(path, value))
    assert found and all(path.startswith(each) or each.startswith(f"{path}.") for each in found)  # or what it is in


def test_operators_of_ones_own_are_valid() -> None:
    assert mistakes(changed("recipes.paper.crossover", "my.operators:mix")) == []
    assert mistakes(PAPER) == []
