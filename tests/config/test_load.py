"""The configuration: what loads, and what is refused by name."""

import copy
import math
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from repsearch.cli import people
from repsearch.config.load import load, merge, named_code, read
from repsearch.config.resolve import Resolved
from repsearch.config.schema import Config
from repsearch.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PAPER: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
MNIST_ALPHAS = [0.1] * 4


def changed(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(PAPER)
    *folders, last = path.split(".")
    place = raw
    for folder in folders:
        place = place[int(folder)] if isinstance(place, list) else place[folder]
    place[last] = value
    return raw


def test_config_yaml_has_the_papers_settings() -> None:
    resolved = Resolved(load(PAPER))
    recipe = resolved.recipes["paper"]
    assert (recipe.population, recipe.parents, recipe.explorers, recipe.refiners) == (240, 20, 100, 120)
    assert [(x.generations, x.alpha, x.boost, x.blur) for x in recipe.layers] == [
        (300, 0.3, 5.0, 5), (100, 0.2, 3.0, 1), (100, 0.1, 3.0, 1), (10, 0.1, 1.0, 0),
    ]  # fmt: skip
    assert [layer.alpha for layer in resolved.recipes["mnist"].layers] == MNIST_ALPHAS
    assert resolved.training("mnist", "sgd").epochs == 1000
    assert resolved.training("cifar10", "search-all").epochs == 90
    assert resolved.depths("mnist", "search-all") == [2] and resolved.depths("cifar10", "search-all") == [3]


@pytest.mark.parametrize("preset", sorted((ROOT / "workflow/presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_load_into_folders_of_their_own(preset: Path) -> None:
    assert read(ROOT / "config.yaml", preset).results == f"results/{preset.stem}"


def test_a_data_sets_training_can_differ_by_what_is_learned() -> None:
    own = {"epochs": 7, "labels": {"learning_rate": 24.0}, "targets": {"batch": 10}}
    changes = {"datasets": {"mnist": {"training": own}}, "variants": {"sgd": {"training": {"learning_rate": 3.0}}}}
    resolved = Resolved(load(merge(PAPER, changes)))
    of_labels, of_targets = (resolved.training("mnist", variant) for variant in ("sgd", "search-all"))
    assert (of_labels.epochs, of_labels.learning_rate, of_labels.batch) == (7, 24.0, 2000)
    assert (of_targets.epochs, of_targets.learning_rate, of_targets.batch) == (7, 4.0, 10)
    assert resolved.training("cifar10", "sgd").learning_rate == 3.0


def test_sweeps_hold_the_base_recipe_once() -> None:
    resolved = Resolved(load(PAPER))
    sweep = resolved.sweep()
    assert sweep["population"] == [*(f"paper--population-{n}" for n in (30, 60, 120)), "paper"]
    recipe = resolved.recipes["paper--population-60"]
    assert (recipe.parents, recipe.explorers, recipe.refiners) == (5, 25, 30)
    recipe = resolved.recipes["paper--generations-150"]
    assert [layer.generations for layer in recipe.layers] == [150, 50, 50, 5]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("trainings", {}, "trainings: unknown key"),
        ("training.epocs", 3, r"training\.epocs: unknown key \(did you mean epochs\?\)$"),
        ("table1.dataset", ["mnist"], r"table1\.dataset: unknown key \(did you mean datasets\?\)$"),
        ("datasets.mnist.sorce", "x", r"datasets\.mnist\.sorce: unknown key \(did you mean source\?\)$"),
        ("recipes.paper.layers.0.alpa", 1, r"layers\.0\.alpa: unknown key \(did you mean alpha\?\)$"),
        ("datasets.mnist.network", {"widht": 4}, r"network\.widht: unknown key \(did you mean width\?\)$"),
        ("quite_unlike", 3, r"quite_unlike: unknown key$"),
        ("training.epochs:3", None, r"training\.epochs:3: unknown key \(is a space missing after its colon\?\)$"),
        ("training.epochs", "ninety", "epochs: .*integer"),
        ("training.epochs", 0, r"training\.epochs: must be at least 1"),
        ("training.momentum", 1.5, r"training\.momentum: must lie between"),
        ("seeds", 0, "seeds: .*greater than or equal to 1"),
        ("seeds", True, "seeds: .*integer"),
        ("formats", ["jpg"], "formats.0: .*'png', 'pdf', 'svg' or 'latex'"),
        ("device", "tpu", "device: .*'auto', 'cpu' or 'cuda'"),
        ("table1.datasets", ["imagenet"], "table1.datasets: 'imagenet' is not defined"),
        ("table2.variants", ["adam"], "table2.variants: 'adam' is not defined"),
        ("datasets.mnist.recipe", "none-such", "datasets.mnist.recipe: 'none-such' is not defined"),
        ("recipes.paper.population", 100, "recipes.paper: 20 parents and 100 explorers exceed the population"),
        ("recipes.paper.mutation", "pixel", r"recipes\.paper\.mutation: .*channel.*element"),
        ("recipes.paper.crossover", "two-point", r"recipes\.paper\.crossover: .*mean.*uniform"),
        ("recipes.paper.crossover", "unifrom", r"\.crossover: .*, not 'unifrom' \(did you mean 'uniform'\?\)$"),
        ("recipes.paper.crossover", "nowhere:mix", r"recipes\.paper\.crossover: nowhere:mix: there is no nowhere\.py"),
        (
            "datasets.mnist.source",
            "nowhere:images",
            r"datasets\.mnist\.source: nowhere:images: there is no nowhere\.py",
        ),
        ("training.labels", 3, r"training\.labels: must be a mapping"),
        ("training.targets", {"epoch": 3}, r"training\.targets\.epoch: unknown key"),
        ("figures.figure9", "table1", r"figures\.figure9: there is no .*figure9\.py"),
        ("figures.figure8", "compute", "compute: must say what is compared"),
        ("recipes.paper-", {"base": "paper"}, r"recipes\.paper-\.\[key\]: a name must be .* no '-' at the end"),
        ("figures.figure2", "probes", r"figures\.figure2: .*'fitness'"),
        ("recipes.paper.layers", 3, "recipes.paper.layers: must be a list"),
        ("recipes.mnist.base", "mnist", "recipes.mnist.base: 'mnist' is not another recipe"),
        ("variants.search-all.training", {"epoch": 3}, r"variants\.search-all\.training\.epoch: unknown key"),
        ("datasets.mnist.training", {"epochs": 0}, r"datasets\.mnist\.training\.epochs: must be at least 1"),
        (
            "datasets.mnist.training",
            {"labels": {"epochs": 0}},
            r"datasets\.mnist\.training\.labels\.epochs: must be at",
        ),
        ("recipes.paper.layers.0.alpha", math.inf, r"recipes\.paper\.layers\.0\.alpha: must be a finite number"),
        ("recipes.paper.layers.0.boost", math.nan, r"recipes\.paper\.layers\.0\.boost: must be a finite number"),
        ("recipes.paper.initial_noise", math.inf, r"recipes\.paper\.initial_noise: must be a finite number"),
        ("recipes.paper.layers.0.alpha", -1, r"layers\.0\.alpha: must be finite and at least 0, not -1\.0$"),
        ("recipes.none", {"base": "paper"}, "recipes.none: 'none' stands for no recipe"),
        ("recipes.paper", 3, r"recipes\.paper: must be a mapping"),
        ("table1.datasets", ["mnist", "mnist"], r"table1\.datasets: must not name mnist twice"),
        ("table2.variants", ["sgd", "sgd"], r"table2\.variants: must not name sgd twice"),
        ("variants.sgd.depths", [1, 1], r"variants\.sgd\.depths: must not name 1 twice"),
        ("figure4.populations", [30, 30], r"figure4\.populations: must not name 30 twice"),
        ("figure2.generations", [30, 30], r"figure2\.generations: must not name 30 twice"),
        ("datasets.mnist.source", "mnist", r"datasets\.mnist\.source: unknown source 'mnist'"),
        ("datasets.mnist.images", 60_001, r"datasets\.mnist\.images: 60001 asked for, but torchvision:MNIST has 60000"),
        ("datasets.mnist.validation_images", 60_000, r"datasets\.mnist\.validation_images: 60000 leaves none"),
        ("figure2.images", 46_001, r"figure2\.images: 46001 asked for, but cifar100 has 46000"),
        ("figure3.images", 46_001, r"figure3\.images: 46001 asked for"),
        ("gallery.dataset", "imagenet", r"gallery\.dataset: 'imagenet' is not defined"),
        ("gallery.images", 0, r"gallery\.images: .*greater than or equal to 1"),
        ("figures.curves", "table1", r"figures\.curves: is drawn from tables, not from table1"),
        ("seeds", 1001, "seeds: must be less than or equal to 1000"),
        ("seeds", date(2020, 1, 1), "seeds: must be a number, text, list or mapping, not the date 2020-01-01"),
        ("results", "/somewhere", "results: must be 'results' or a folder below"),
        ("results", "results/my run", "results: must be letters, digits"),
        ("results", "results/{x}", "results: must be letters, digits"),
        ("results", "results/../..", "results: must be 'results' or a folder below"),
        ("figure4.populations", [], "figure4.populations"),
        ("figure4.variant", "sgd", "figure4.variant: must be a variant that learns targets"),
        ("variants.sgd.blocks", [0], "variants.sgd.blocks: must be empty"),
        ("variants.search-all.blocks", [3], "blocks: must be distinct and among 0, 1, 2"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(path: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(changed(path, value))
    assert "\n" not in str(caught.value)
    assert not any(word in str(caught.value) for word in ("Recipe)", "Layer)", "object", "array"))


def test_without_config_yaml_it_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"figures: is missing\nGive config\.yaml first: presets"):
        read(ROOT / "workflow/presets/demo.yaml")


def test_a_missing_file_is_named_with_the_one_like_it(tmp_path: Path) -> None:
    presets = ROOT / "workflow/presets"
    with pytest.raises(UserError) as caught:
        read(ROOT / "config.yaml", presets / "smal.yaml")
    assert str(caught.value) == f"{presets}/smal.yaml does not exist: did you mean {presets}/small.yaml?"
    with pytest.raises(UserError, match=r"mine\.yaml does not exist$"):
        read(tmp_path / "mine.yaml")


def test_a_misspelt_key_is_not_missing_too() -> None:
    raw = changed("datasets.mnist.validation_image", 4000)
    del raw["datasets"]["mnist"]["validation_images"]
    with pytest.raises(UserError) as caught:
        load(raw)
    unknown = "datasets.mnist.validation_image: unknown key (did you mean validation_images?)"
    assert str(caught.value) == f"configuration: {unknown}"
    del raw["datasets"]["mnist"]["label"]
    with pytest.raises(UserError) as caught:
        load(raw)
    assert str(caught.value).splitlines() == ["configuration: datasets.mnist.label: is missing", unknown]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"seeds": 0, "training": {"epocs": 3}},
            ["seeds: must be greater than or equal to 1 (got 0)", "training.epocs: unknown key (did you mean epochs?)"],
        ),
        (
            {"recipes": {"paper": {"mutation": "pixel"}}, "network": {"width": 8}, "training": {"epochs": 0}},
            [
                "recipes.paper.mutation: must be 'channel', 'element' or your own 'module:function', not 'pixel'",
                "training.epochs: must be at least 1, not 0",
            ],
        ),
        (
            {"variants": {"sgd": {"blocks": [0]}, "search-all": {"training": {"epochs": 0}}}},
            [
                "variants.sgd.blocks: must be empty",
                "variants.search-all.training.epochs: must be at least 1, not 0",
            ],
        ),
    ],
)
def test_several_mistakes_are_one_line_each(changes: dict[str, Any], said: list[str]) -> None:
    """Each once, though several recipes and all training runs have it."""
    with pytest.raises(UserError) as caught:
        load(merge(PAPER, changes))
    lines = str(caught.value).removeprefix("configuration: ").splitlines()
    assert len(lines) == len(said) and all(map(str.startswith, lines, said)), lines


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("training.epochs", 3, "training: {epochs: 3}"),
        ("recipes.paper.population", 60, "recipes: {paper: {population: 60}}"),
        ("datasets.mnist", {"images": 3}, "datasets: {mnist: …}"),
    ],
)
def test_a_key_with_dots_is_told_how_to_be_written(key: str, value: Any, instead: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{key}: unknown key (a key has no dots; write {instead})") + "$"):
        load(PAPER | {key: value})


def test_a_users_npz_source_is_not_opened_by_the_configuration() -> None:
    assert load(changed("datasets.mnist.source", "npz:no/such/file.npz"))


def _leaves(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path] + [leaf for key, child in children for leaf in _leaves(child, (*path, key))]


_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(_leaves(PAPER)[1:]), _ODD)
def test_any_change_loads_or_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    raw = copy.deepcopy(PAPER)
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        assert isinstance(load(raw), Config)
    except UserError as error:
        assert str(error)


def test_mappings_are_merged_and_everything_else_is_replaced() -> None:
    assert merge({"a": {"b": 1, "c": [1, 2]}, "d": 3}, {"a": {"c": [4]}}) == {"a": {"b": 1, "c": [4]}, "d": 3}


def test_check_says_which_code_a_configuration_names_and_runs_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "photos"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this was run')\n\ndef mix(): ...\nload = mix\n")
    raw = merge(PAPER, {"recipes": {"paper": {"crossover": "mine:mix"}}})
    with pytest.raises(UserError, match=r"datasets\.photos\.images: must be given for a source that is code"):
        load(merge(raw, {"datasets": {"photos": {**raw["datasets"]["cifar10"], "source": "photos:load"}}}))
    photos = {**raw["datasets"]["cifar10"], "source": "photos:load", "images": 5000}
    named = named_code(load(merge(raw, {"datasets": {"photos": photos}})))
    assert named["datasets.photos.source"] == "photos:load" and named["recipes.paper.crossover"] == "mine:mix"
    assert set(named) == {"datasets.photos.source", "recipes.paper.crossover"}  # where the user wrote them
    for content, message in (
        ("def mix(:", r"mine\.py, line 1: "),
        ("x = 1", r"mine:mix: .*mine\.py has no function mix"),
    ):
        (tmp_path / "mine.py").write_text(content)
        with pytest.raises(UserError, match=message):
            load(raw)


@pytest.mark.parametrize("images", ["", "images: 20, "])
def test_check_refuses_images_of_a_wrong_shape(tmp_path: Path, images: str) -> None:
    x, y = np.zeros((30, 28, 20), np.uint8), np.arange(30) % 3
    np.savez(tmp_path / "photos.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "photos.yaml").write_text(
        f"datasets: {{photos: {{source: 'npz:{tmp_path}/photos.npz', label: Photos, {images}validation_images: 5, "
        "flip: false, pad: 1, recipe: paper}}"
    )
    with pytest.raises(
        UserError, match=r"^datasets\.photos\.source: .*photos\.npz: x_train must be square .* 28 × 20$"
    ):
        people.check([ROOT / "config.yaml", tmp_path / "photos.yaml"])


@pytest.mark.parametrize(
    ("overlay", "unused"),
    [
        ("recipes: {paper: {population: 120}}", []),
        ("recipes: {mine: {base: paper, population: 120}}", ["mine"]),
        ("recipes: {mine: {base: paper, population: 120}}\ndatasets: {cifar10: {recipe: mine}}", []),
        ("datasets: {mnist: {recipe: paper}}", []),  # that nothing is searched with `mnist` now is no one's mistake
    ],
)
def test_check_names_a_recipe_that_is_changed_for_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overlay: str, unused: list[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(overlay)
    people.check([ROOT / "config.yaml", tmp_path / "mine.yaml"])
    assert re.findall(r"recipes\.(\w+) is changed, but nothing", capsys.readouterr().err) == unused
