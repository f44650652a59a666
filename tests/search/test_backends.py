"""Which path a search takes, and that no path computes another operator than the recipe names."""

import inspect
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from repsearch.errors import UserError
from repsearch.search import backends
from repsearch.search import operators as op
from repsearch.search.evolution import search
from repsearch.search.recipe import SEARCH_LAYERS, Recipe
from repsearch.search.reference import Reference
from tests import small

IMAGES, LABELS, INDICES = small.images(2), torch.tensor([1, 3]), torch.tensor([7, 40_000])


@pytest.fixture(autouse=True)
def say_each_line_again() -> None:
    backends._say.cache_clear()


def frozen(**changes: Any) -> Recipe:
    return small.recipe(**{"batch_norm": "frozen", **changes})


def targets(
    recipe: Recipe, path: backends.SearchPath = "auto", calibrated_by: Recipe | None = None
) -> dict[str, torch.Tensor]:
    net = small.search_network()
    statistics = small.statistics(net, calibrated_by or recipe)
    return search(net, IMAGES, LABELS, recipe, INDICES, statistics, path).targets


def test_the_path_is_chosen_by_what_it_can_do() -> None:
    plain, shaken, recipe = small.search_network(), small.shaken(small.search_network()), frozen()
    assert backends.choose(plain, recipe, "auto") is not None
    assert backends.choose(plain, recipe, "dense") is None
    assert backends.choose(shaken, recipe, "auto") is None
    assert backends.choose(plain, small.recipe(batch_norm="batch"), "auto") is None
    with pytest.raises(UserError, match="later blocks are not identities"):
        backends.choose(shaken, recipe, "fused")
    with pytest.raises(UserError, match="its BatchNorm statistics"):
        backends.choose(plain, small.recipe(batch_norm="batch"), "fused")
    with pytest.raises(ValueError, match="path must be 'auto', 'dense', 'fused', not 'turbo'"):
        backends.choose(plain, recipe, "turbo")  # type: ignore[arg-type]


def test_the_log_names_the_path_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    readings: list[dict[str, Any]] = [{}, {"mutation": "element"}, {"crossover": "uniform"}]
    for reading in readings * 2:
        targets(frozen(**reading))
    said = [record.message for record in caplog.records if record.name == backends.__name__]
    assert said == [
        "search path: fused (repsearch.search.cpu.channel)",
        "search path: fused (repsearch.search.cpu.evolve)",
        "search path: dense, since the compiled path does not know crossover 'uniform'",
    ]


def test_which_statistics_are_recorded_by_the_fused_path(caplog: pytest.LogCaptureFixture) -> None:
    """That of `channel`, whose candidates of all images can be scored together; the log says which, once."""
    caplog.set_level(logging.INFO)
    net = small.search_network()
    assert backends.choose(net, small.recipe(), "auto", together=True) is not None
    readings: list[dict[str, Any]] = [{}, {"mutation": "element"}, {"smooth": "noise"}, {"crossover": "uniform"}]
    for reading in readings * 2:
        small.statistics(net, small.recipe(**reading))
    said = [record.message for record in caplog.records if record.name == backends.__name__]
    name = "search path of the calibration images"
    assert said == [
        f"{name}: fused (repsearch.search.cpu.channel)",
        f"{name}: dense, since candidates of mutation 'element' are not scored together",
        f"{name}: dense, since candidates of smooth 'noise' are not scored together on a CPU",
        f"{name}: dense, since the compiled path does not know crossover 'uniform'",
    ]
    with pytest.raises(UserError, match="candidates of mutation 'element' are not scored together"):
        backends.choose(net, small.recipe(mutation="element"), "fused", together=True)


def test_uniform_crossover_gives_other_targets_in_every_block_and_no_fused_path() -> None:
    mean, uniform = targets(frozen()), targets(frozen(crossover="uniform"))
    for name in SEARCH_LAYERS:
        assert not torch.allclose(mean[name], uniform[name], atol=1e-3), name
    with pytest.raises(UserError, match="does not know crossover 'uniform'"):
        targets(frozen(crossover="uniform"), "fused")


OWN = '''
"""One's own operators: two-point crossover of the channels, spiky noise, a median filter, the largest value as unit."""
import torch

def two_points(first, second, random):
    ends = random.uniforms(2).flatten(2).sort(-1).values * first.shape[2]
    place = torch.arange(first.shape[2], device=first.device)
    inside = (place >= ends[..., :1]) & (place < ends[..., 1:])
    return torch.where(inside.view(*inside.shape, *[1] * (first.dim() - 3)), second, first)

def spiky(random, sigma, alpha, shape):
    return alpha * sigma * random.normals(*shape) * (random.uniforms(*shape) < 0.2)

def median(maps, passes, count_padding):
    return torch.stack([maps.roll(i, -1) for i in range(-passes, passes + 1)]).median(0).values

def largest(maps):
    return maps / maps.abs().amax((-3, -2, -1), keepdim=True)
'''
FUNCTIONS = {"crossover": "two_points", "mutation": "spiky", "smoothing": "median", "normalisation": "largest"}


@pytest.mark.parametrize("fields", [*([field] for field in FUNCTIONS), list(FUNCTIONS)], ids=str)
def test_operators_of_one_s_own(fields: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In at most 20 lines of one file, in the folder where the command runs; on the dense path as in the reference."""
    (tmp_path / "own_operators.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    named = {field: f"own_operators:{FUNCTIONS[field]}" for field in fields}
    recipe = small.recipe(**named)
    net = small.search_network().to("cpu", torch.float64)
    statistics = small.statistics(net, recipe)  # a trajectory, which the operators make, too
    result = search(net, IMAGES.double(), LABELS, recipe, INDICES, statistics)
    expected, *_ = Reference(net.network, statistics, LABELS, recipe, INDICES).search(IMAGES.double())
    default = search(net, IMAGES.double(), LABELS, small.recipe(), INDICES, statistics)
    for name in SEARCH_LAYERS:
        torch.testing.assert_close(result.targets[name], expected[name], rtol=0, atol=1e-9)
        assert not torch.allclose(result.targets[name], default.targets[name], atol=1e-3), name
    with pytest.raises(UserError, match=f"does not know {fields[0]} 'own_operators:{FUNCTIONS[fields[0]]}'"):
        targets(frozen(**named), "fused")


WRONG = {
    "normalisation": {
        "lambda maps: maps[..., :1, :, :]": r"returned \[1, 1, 8, 8\] .*, not \[1, 6, 8, 8\]",
        "lambda maps: maps.double()": "returned .*float64, not .*float32, as a normalisation must",
        "lambda maps: None": "returned NoneType",
        "lambda maps, more: maps": "failed with TypeError: .*more",
    },
    "crossover": {
        "lambda a, b, random: a[:, :, :1]": r"returned \[2, 3, 1, 8, 8\]",  # would broadcast
        "lambda a, b, random: a[:, :-1]": r"returned \[2, 2, 6, 8, 8\]",
        "lambda a, b, random: a.mean(-1, keepdim=True) if a.dim() == 3 else a": r"returned \[2, 3, 1\]",  # logits alone
        "lambda a, b, random: a * float('nan')": "returned numbers that are not finite",
        "lambda a, b, random: [random.normals(6) for _ in range(33)][0]": "failed with ValueError: .*32 times",
    },
    "mutation": {
        "lambda random, sigma, alpha, shape: random.normals(1)": r"returned \[2, 3, 1, 1, 1\] .* \[2, 3, 6, 1, 1\] or",
        "lambda random, sigma, alpha, shape: 1 / 0": "failed with ZeroDivisionError",
    },
    "smoothing": {"lambda maps, passes, count_padding: maps.numpy()": "returned ndarray"},
}


@pytest.mark.parametrize(("field", "code"), [(field, code) for field, codes in WRONG.items() for code in codes])
def test_user_code_that_returns_the_wrong_thing_is_named(
    field: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, rather than broadcast, or ended in a traceback."""
    name = f"wrong_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(f"f = {code}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^{name}:f {WRONG[field][code]}") as caught:
        targets(frozen(**{field: f"{name}:f"}), calibrated_by=frozen())
    assert "\n" not in str(caught.value)


def test_code_of_one_s_own_runs_when_a_search_starts_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_operators.py").write_text("raise RuntimeError('it ran')\n")
    monkeypatch.chdir(tmp_path)
    for name, message in (
        ("broken_operators:f", r"broken_operators can't be imported \(RuntimeError: it ran\)"),
        ("missing_operators:f", "there is no missing_operators.py in"),
        ("math:no_such_function", "math has no function no_such_function|there is no math.py"),
    ):
        recipe = small.recipe(mutation=name)
        with pytest.raises(UserError, match=message):
            targets(recipe, calibrated_by=small.recipe())


EDITS = {  # of each operator: a piece of its source, and what replaces it
    "mean": ("0.5", "0.4"),
    "uniform": ("< 0.5", "< 0.4"),
    "channel": ("alpha * sigma", "2 * alpha * sigma"),
    "element": ("alpha * sigma", "2 * alpha * sigma"),
    "smooth": ("maps.flatten(-2)", "maps.abs().flatten(-2)"),
    "smoothing_matrix": ("(-1, 0, 1)", "(-2, 0, 2)"),
    "normalise": ("return centred", "return 2 * centred"),
    "channel_std": ("correction=0", "correction=1"),
    "class_std": ("correction=0", "correction=1"),
    "mutate_logits": ("crossed + alpha", "crossed + 2 * alpha"),
    "select": ("argsort(loss", "argsort(-loss"),
}
RECIPES = {"uniform": {"crossover": "uniform"}, "element": {"mutation": "element"}}


def test_every_operator_has_an_edit() -> None:
    defined = {name for name, function in vars(op).items() if getattr(function, "__module__", "") == op.__name__}
    assert set(EDITS) == defined - {"find", "take", "_guarded"}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_operator_is_refused_by_the_fused_path_or_changes_the_targets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = frozen(**RECIPES.get(name, {}))
    before = targets(recipe)
    source, (old, new) = inspect.getsource(inspect.unwrap(getattr(op, name))), EDITS[name]
    assert source.count(old) == 1
    file = tmp_path / "edited.py"
    file.write_text(source.replace(old, new))
    exec(compile(file.read_text(), file, "exec"), edited := {**vars(op)})
    monkeypatch.setattr(op, name, edited[name])
    for functions in op.BUILT_IN.values():
        for key, function in functions.items():
            if function.__name__ == name:
                monkeypatch.setitem(functions, key, edited[name])
    if name in backends.IMPLEMENTED:
        with pytest.raises(UserError, match=rf"operators\.{name} was edited: bring search/cpu and search/gpu in step"):
            targets(recipe, "fused")
    after = targets(recipe)
    assert any(not torch.allclose(before[layer], after[layer], atol=1e-4) for layer in SEARCH_LAYERS)


def test_the_digest_of_a_source_leaves_out_its_docstring_comments_and_layout(tmp_path: Path) -> None:
    def digest(source: str) -> str:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        file.write_text(source)
        exec(compile(source, file, "exec"), made := {})
        return backends.source_digest(made["f"])

    plain = digest("def f(x):\n    return 2 * x\n")
    assert digest('def f(x):\n    """Doubles."""\n    return (2\n        * x)  # twice\n') == plain
    assert digest("def f(x):\n    return 3 * x\n") != plain
    assert backends.source_digest(len) == "none"
