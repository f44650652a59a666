"""Mutated configurations: one loads, and all that the workflow asks of it works; or it is refused by its key."""

import contextlib
import copy
import json
import os
import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from repsearch import cli
from repsearch.config.load import load, read
from repsearch.config.schema import Config
from repsearch.errors import UserError
from repsearch.jobs import TrainJob, from_json, to_json
from repsearch.plan import Plan
from repsearch.scale import is_full
from tests.faults import pipeline
from tests.faults.judge import CANARY, judge, mutated

pytestmark = pytest.mark.fault
QUICK, MANY = 150, pytest.param(5000, marks=pytest.mark.slow)
NAMES_A_KEY = r"^(configuration: )?\S.*: \S|can't be read as YAML|must hold a mapping"
PAPER: dict[str, Any] = yaml.safe_load((pipeline.ROOT / "config.yaml").read_text())
RUN = f"touch {CANARY}"
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 300, 10**4, 2**31, 2**63, 2**64, 10**30, 10**400, 10**5000, -(10**400)),
    *(0.0, -0.0, 0.5, 1.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "none", "paper", "mnist", "sgd", "a" * 300, "a" * 100_000, "../../x", "results/../x", "/etc", "~"),
    *("results/" + "a" * 300, "results/" + "a/" * 3000, "results//x", "results/.", "results/x/", ".snakemake"),
    *(f"$({RUN})", f"`{RUN}`", f"; {RUN}", f"' ; {RUN} '", f'"; {RUN}"', "{x}", "{", "{{}}", "%s", "a|b", "a.*", "-n"),
    *("é", "名前", "\u202eabc", "a\u0000b", "\ud800", "line\nbreak", "tab\t", "\x1b[31m", "npz:", "npz:x\0y"),
    *("npz:" + "x" * 5000, "sklearn:digits", "torchvision:MNIST", "3", "1e3", "yes", b"bytes", date(2020, 1, 1)),
    *([], {}, [[]], [{}], [1, 1], ["mnist", "mnist"], {"a": 1}, {1: 2}, {None: 1}, {True: 1}, {(1, 2): 3}, {"": {}}),
    *({"epochs": 10**9}, {"base": "paper"}, {"a\nb": 1}, {"\ud800": 1}, {"a" * 300: 1}, set(), {1, 2}, (1, 2), 1j),
    list(range(1000)), [0.1] * 4, object, ["mnist"] * 10_000,
]  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] + [place for key, child in children for place in places(child, (*path, key))]


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def odd(chance: random.Random) -> Any:
    value = copy.deepcopy(chance.choice(ODD))
    match chance.randrange(20):
        case 0:
            for _ in range(chance.choice([3, 30, 2000])):
                value = [value] if chance.random() < 0.5 else {"x": value}
        case 1:  # aliases: 10^9 things in a few lines
            for _ in range(9):
                value = [value] * 10
        case 2:  # an alias of itself
            value = [value]
            value.append(value)
        case 3:
            value = {"x": value}
            value["y"] = value
    return value


def structured(count: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    originals = [(raw, places(raw)[1:]) for raw in (PAPER, pipeline.MERGED)]
    for _ in range(count):
        original, where = chance.choice(originals)
        raw = copy.deepcopy(original)
        for _ in range(chance.randint(0, 2)):
            with contextlib.suppress(LookupError, TypeError):  # the place went with the mutation before
                shift(raw, chance.choice(where), at(original, chance.choice(where)), chance)
        if chance.random() < 0.7:
            *folder, key = chance.choice(where)
            with contextlib.suppress(LookupError, TypeError):
                at(raw, tuple(folder))[key] = odd(chance)
        yield raw


def shift(raw: dict[str, Any], place: tuple[Any, ...], other: Any, chance: random.Random) -> None:
    """A thing deleted, renamed, doubled, given another's value, or made larger, smaller or of another type."""
    *folder, key = place
    parent = at(raw, tuple(folder))
    match chance.randrange(5):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            new = chance.choice(["x", "a-b", "A", "a" * 64, "é", "a.b", "a/b", "..", "", "a\nb", 1, None, 2.5])
            parent[new] = parent.pop(key) if chance.random() < 0.5 else copy.deepcopy(parent[key])
        case 2:
            parent[key] = copy.deepcopy(other)
        case _:
            value = parent[key]
            if isinstance(value, int | float) and not isinstance(value, bool):
                others = [value * 2, -value, value + 1, value / 3, value * 10**12, str(value), [value]]
                parent[key] = chance.choice(others)


BILLION = "a: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
SNIPPETS = [
    *("a: &a [1]\n", "b: *a\n", "<<: *a\n", "<<: {seeds: 2}\n", "training: {<<: *a}\n", "seeds: 2\nseeds: 4\n"),
    *(f'x: !!python/object/apply:os.system ["{RUN}"]\n', f'data: !!python/object/new:os.system ["{RUN}"]\n'),
    *("x: !!python/name:os.system\n", "data: !!binary aGk=\n", "x: !!set {a, b}\n", "x: !!omap [a: 1]\n"),
    f"__use_yte__: true\n__definitions__:\n  - import os; os.system('{RUN}')\n",
    *("seeds: 1e999\n", "seeds: .nan\n", "seeds: 0o7\n", "seeds: 1:30\n", "seeds: 2020-01-01\n", "seeds: 2020-99-99\n"),
    *("\t", "\0", "\ufeff", "%YAML 9.9\n---\n", "---\n", "...\n", "- x\n", "'", '"', "|", "> ", "? \n", "1: 2\n"),
    *("[" * 3000, "{a: " * 500, "a: &a [*a]\n", "a: &a {b: *a}\n", "? [a, b]\n: c\n", "? {a: b}\n: c\n", BILLION),
    *("0x" + "f" * 10_000, "results: results/\u202ex\n", "!!float x", "!!int x", "!!timestamp x", "!!bool x"),
]


def texts(count: int, chance: random.Random) -> Iterator[bytes]:
    small = {**pipeline.MERGED, **{name: {"digits": pipeline.MERGED[name]["digits"]} for name in ("datasets",)}}
    originals = [yaml.safe_dump(small).encode(), yaml.safe_dump(small, default_flow_style=True, width=100).encode()]
    for _ in range(count):
        content = chance.choice(originals)
        if chance.random() < 0.6:
            lines = content.splitlines(keepends=True)
            snippet = chance.choice(SNIPPETS).encode()
            place = chance.randrange(len(lines) + 1)
            if chance.random() < 0.5:
                indent = b" " * chance.choice([0, 2, 4])
                lines.insert(place, indent + snippet)
            elif place < len(lines):
                lines[place] = lines[place].rstrip(b"\n") + snippet
            content = b"".join(lines)
        if chance.random() < 0.5:
            content = mutated(content, chance)
        yield content


def works(config: Config) -> None:
    """What workflow/rules/common.smk asks of a configuration."""
    longest = 255  # bytes of a file's name
    assert config.results.split("/")[0] == "results" and ".." not in Path(config.results).parts
    assert max(map(len, config.results.split("/"))) <= longest and len(config.results) < 300
    plan = Plan(config)
    recipes, resolved = plan.recipes, plan.resolved
    assert all(name in recipes for names in resolved.sweep().values() for name in names)
    for name in [*config.datasets, *recipes, *config.variants]:
        assert name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) < longest - 40
    for dataset, entry in config.datasets.items():
        assert entry.recipe in config.recipes
        assert all(text.isprintable() for text in (entry.source, entry.label, config.data))
        for variant in config.variants:
            depths = resolved.depths(dataset, variant)
            assert all(depth >= 1 for depth in depths)
            job = plan.train(dataset, "augmented", variant, entry.recipe, depths[0], 0)
            assert json.dumps(json.loads(to_json(job)), allow_nan=False)
            assert from_json(TrainJob, to_json(job)) == job
    for recipe in recipes.values():
        assert json.dumps(recipe.to_dict(), allow_nan=False)
        assert recipe.refiners >= 0 and recipe.parents >= 1
    assert isinstance(is_full(plan), bool)
    for table in (config.table1, config.table2):
        assert set(table.datasets) <= config.datasets.keys() and set(table.variants) <= config.variants.keys()
    arguments = [json.dumps(config.model_dump(mode="json"), allow_nan=False), config.data, config.results]
    assert not any("\0" in argument for argument in arguments)
    os.fsencode("".join(arguments))


@pytest.mark.parametrize("count", [QUICK, MANY])
def test_mutated_settings(count: int, tmp_path: Path) -> None:
    inputs = structured(count, random.Random(count))
    accepted, refused = judge(inputs, load, lambda _, config: works(config), NAMES_A_KEY, tmp_path)
    assert accepted > count / 50 and refused > count / 3


@pytest.mark.parametrize("count", [QUICK // 2, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_yaml(count: int, tmp_path: Path) -> None:
    def work(content: bytes) -> Config:
        (tmp_path / "mine.yaml").write_bytes(content)
        return read(tmp_path / "mine.yaml")

    accepted, refused = judge(
        texts(count, random.Random(count)), work, lambda _, config: works(config), NAMES_A_KEY, tmp_path
    )
    assert accepted > count / 50 and refused > count / 3


TEMPLATE = f"__use_yte__: true\n__definitions__:\n  - import os\n  - os.system('{RUN}')\n"


def test_the_check_command_runs_no_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake does, as soon as it reads such a file: docs/reliability.md."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(TEMPLATE)
    with pytest.raises(UserError, match="__use_yte__: unknown key"):
        cli.people.check([pipeline.ROOT / "config.yaml", Path("mine.yaml")])
    Path("mine.yaml").write_text("seeds: 2\n")
    cli.people.check([pipeline.ROOT / "config.yaml", Path("mine.yaml")])
    assert not Path(CANARY).exists()


@pytest.mark.slow
def test_accepted_settings_are_planned(tmp_path: Path) -> None:
    """Snakemake plans what `load` accepts, without an error of its own."""
    planned = 0
    for raw in structured(1000, random.Random(1)):
        try:
            load(raw)
        except UserError:
            continue
        if raw.get("shard_images", 15) < 15 or raw == pipeline.MERGED or raw == PAPER:
            continue
        folder = pipeline.checkout(tmp_path / str(planned))
        (folder / "tiny.yaml").write_text(yaml.safe_dump(raw))
        run = pipeline.run(folder, "all", "-n", "--quiet")
        assert run.returncode == 0, f"{run.stdout[-2000:]}\nof {raw}"
        planned += 1
        if planned == 8:
            return
    raise AssertionError(f"only {planned} were accepted")


@pytest.mark.slow
def test_words_of_a_configuration_are_no_commands(tmp_path: Path) -> None:
    """Free text reaches the stages through a shell: a label, the data's folder and a file's name, as they are."""
    hostile = f"a'b\"c $({RUN}) `{RUN}` ; {RUN} #{{x}} {{{{y}}}} %s \\n"
    name = hostile.replace("/", "")
    folder = pipeline.checkout(tmp_path / "run")
    random = np.random.default_rng(0)
    arrays = {f"x_{part}": random.integers(0, 256, (n, 9, 9), np.uint8) for part, n in (("train", 60), ("test", 50))}
    arrays |= {f"y_{part}": np.arange(n) % 3 for part, n in (("train", 60), ("test", 50))}
    np.savez(folder / f"{name}.npz", **arrays)
    entry = {**pipeline.SCALE["datasets"]["digits"], "source": f"npz:{name}.npz", "label": hostile}
    pipeline.checkout(folder, datasets={"digits": entry}, data=hostile)
    run = pipeline.run(folder, f"{pipeline.RESULTS}/tables/table1.csv")
    assert run.returncode == 0, run.stdout[-4000:]
    assert pd.read_csv(folder / pipeline.RESULTS / "tables/table1.csv")["label"].unique().tolist() == [hostile]
    assert not list(tmp_path.rglob(CANARY))
