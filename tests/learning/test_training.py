import logging
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.learning import precision
from repsearch.learning.settings import Training, Variant, defaults
from repsearch.learning.training import Split, TrainingResult, fixed_batches, train
from repsearch.network import Network, Shape, whitening_filters
from repsearch.search.calibration import calibrate
from repsearch.search.evolution import search
from repsearch.search.network import initialise
from repsearch.search.recipe import BLOCKS
from tests import small

SIZE, WIDTH = 10, 8
LABELS, TARGETS, SKIP = Variant("labels"), Variant("targets", (0, 1, 2)), Variant("targets", (1, 2))


def _images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two easy classes: brighter on the left or on the right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    ramp = torch.linspace(-1, 1, SIZE).expand(1, SIZE, SIZE)
    sign = (2.0 * labels - 1)[:, None, None, None]
    return sign * ramp + 0.5 * torch.randn(count, 1, SIZE, SIZE, generator=generator), labels


@pytest.fixture(scope="module")
def splits() -> list[Split]:
    """Training, validation and test; the first two with targets made by a short search."""
    made = [_images(count, seed) for seed, count in enumerate((48, 24, 24))]
    net, recipe = initialise(Shape(1, SIZE, 2, WIDTH), made[0][0], 0), small.recipe()
    statistics = calibrate(net, *made[0], recipe, torch.arange(48))
    searched = [search(net, x, y, recipe, torch.arange(len(x)), statistics).targets for x, y in made[:2]]
    return [Split(x, y, targets) for (x, y), targets in zip(made, [*searched, {}], strict=True)]


def _network(splits: list[Split], seed: int = 0) -> Network:
    return Network(Shape(1, SIZE, 2, WIDTH), whitening_filters(splits[0].images, 500), seed)


def _settings(**changes: Any) -> Training:
    common = {"epochs": 4, "batch": 16, "learning_rate": 0.02, "learning_rate_scaling": "raw", "bias_scale": 4.0}
    return Training(**{**common, "weight_decay": 0.0, "evaluation_batch": 12, **changes})


def _train(splits: list[Split], variant: Variant, seed: int = 0, **changes: Any) -> TrainingResult:
    more = {name: changes.pop(name) for name in ("flip", "pad") if name in changes}
    return train(_network(splits), *splits, _settings(**changes), variant, seed, **more)


@pytest.mark.parametrize(("count", "size"), [(10, 3), (12, 4), (5, 10), (4001, 2000), (7, 1)])
@pytest.mark.parametrize("seed", [None, 3])
def test_batches_are_a_near_equal_partition(count: int, size: int, seed: int | None) -> None:
    batches = fixed_batches(count, size, seed)
    together = torch.cat(batches)
    assert sorted(together.tolist()) == list(range(count))
    assert len(batches) == math.ceil(count / size)
    lengths = [len(batch) for batch in batches]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1
    assert (together.tolist() == list(range(count))) == (seed is None)
    assert all(map(torch.equal, batches, fixed_batches(count, size, seed)))


def test_the_seed_draws_the_batches() -> None:
    assert not torch.equal(fixed_batches(100, 100, 0)[0], fixed_batches(100, 100, 1)[0])


def test_decoupled_and_raw_are_the_same_run_at_matching_rates(splits: list[Split]) -> None:
    """A sum-reduced loss at lr is a mean-reduced one at lr · batch (48 images make three batches of 16)."""
    per_step = 1024 * (1 + 1 / (1 - 0.85))
    decoupled = _train(splits, LABELS, learning_rate=1.0, learning_rate_scaling="decoupled")
    raw = _train(splits, LABELS, learning_rate=16 / per_step)
    for name, weight in decoupled.weights.items():
        torch.testing.assert_close(raw.weights[name], weight, rtol=1e-3, atol=1e-4)
    assert decoupled.epochs[-1]["train_loss"] == pytest.approx(raw.epochs[-1]["train_loss"], rel=1e-3)


@pytest.mark.parametrize("variant", [LABELS, TARGETS], ids=lambda v: v.learns)
def test_the_same_seed_gives_the_same_run(splits: list[Split], variant: Variant) -> None:
    first, again, other = (_train(splits, variant, seed, flip=True, pad=1) for seed in (1, 1, 2))
    assert first.epochs == again.epochs
    assert (first.epoch_chosen, first.test_accuracy) == (again.epoch_chosen, again.test_accuracy)
    assert all(torch.equal(weight, again.weights[name]) for name, weight in first.weights.items())
    assert first.epochs != other.epochs


def test_the_seed_composes_the_batches(splits: list[Split]) -> None:
    """Without augmentation it has nothing else to draw."""
    assert _train(splits, LABELS, 1).epochs != _train(splits, LABELS, 2).epochs


def test_sgd_learns_an_easy_problem(splits: list[Split]) -> None:
    run = _train(splits, LABELS, epochs=8, learning_rate=0.1)
    assert run.validation_accuracy >= 0.95 and run.test_accuracy >= 0.9
    assert run.epochs[-1]["train_loss"] < 0.3 * run.epochs[0]["train_loss"]
    assert set(run.epochs[0]) > {"epoch", "train_loss", "validation_accuracy", "validation_cross_entropy"}
    assert "train_kl" not in run.epochs[0]


@pytest.mark.parametrize("variant", [TARGETS, SKIP], ids=["all", "skip0"])
def test_search_based_learning_fits_its_targets(splits: list[Split], variant: Variant) -> None:
    run = _train(splits, variant, epochs=12, kl_weight=1.0, learning_rate=0.1)
    first, last = run.epochs[0], run.epochs[-1]
    names = [BLOCKS[block] for block in variant.blocks]
    for name in ("train_loss", "train_kl", *(f"train_{name}" for name in names)):
        assert last[name] < first[name], name
    assert {name for name in first if name.startswith("train_block")} == {f"train_{name}" for name in names}
    assert run.validation_accuracy > 0.8
    for row in run.epochs:
        total = sum(row[f"train_{name}"] for name in names) / len(names) + 1.0 * row["train_kl"]
        assert row["train_loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"flip": True, "pad": 1}, {"compare": "before_gelu"}], ids=str)
def test_the_order_in_memory_changes_nothing_but_rounding(splits: list[Split], changes: dict) -> None:
    def ordered(split: Split) -> Split:
        targets = {name: _last(values) if values.dim() == 4 else values for name, values in split.targets.items()}
        return replace(split, images=_last(split.images), targets=targets)

    plain, last = _train(splits, TARGETS, **changes), _train(list(map(ordered, splits)), TARGETS, **changes)
    for first, second in zip(plain.epochs, last.epochs, strict=True):
        assert second == pytest.approx(first, rel=1e-3)


def _last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)


def test_cudnn_may_measure_its_algorithms_while_training_alone(splits: list[Split]) -> None:
    seen = []

    def watch(numbers: Any) -> Any:
        for number in numbers:
            seen.append(torch.backends.cudnn.benchmark)
            yield number

    before = torch.backends.cudnn.benchmark
    train(_network(splits), *splits, _settings(epochs=1), LABELS, 0, progress=watch)
    assert seen == [True] and torch.backends.cudnn.benchmark == before


def test_every_epoch_says_how_it_went(splits: list[Split], caplog: pytest.LogCaptureFixture) -> None:
    """To whoever listens to the log; a run that resumes begins its lines after the epochs that are done."""
    caplog.set_level(logging.INFO, "repsearch.learning.training")
    saved: list[dict[str, Any]] = []
    result = train(_network(splits), *splits, _settings(epochs=3), LABELS, 0, save=saved.append)
    first, *epochs = caplog.records
    assert (first.done, first.total) == (0, 3)  # type: ignore[attr-defined]
    for row, record in zip(result.epochs, epochs, strict=True):
        assert (record.done, record.total) == (row["epoch"], 3)  # type: ignore[attr-defined]
        loss, accuracy = f"{row['train_loss']:.4g}", f"{100 * row['validation_accuracy']:.1f}"
        assert record.getMessage() == f"epoch {row['epoch']} of 3: loss {loss}, validation {accuracy} %"
    caplog.clear()
    train(_network(splits), *splits, _settings(epochs=3), LABELS, 0, state={**saved[1], "rows": saved[1]["rows"][:2]})
    assert [record.done for record in caplog.records] == [2, 3]  # type: ignore[attr-defined]


def test_logits_are_distilled_through_the_whole_network(splits: list[Split]) -> None:
    """The loss is the divergence from the targets' logits; it moves the body, where `targets` without blocks' weight
    would not."""
    moved = _train(splits, Variant("logits"), epochs=3)
    assert moved.epochs[-1]["train_loss"] < moved.epochs[0]["train_loss"]
    before = _network(splits).state_dict()
    body = [name for name in before if name.startswith("blocks") and "conv" in name]
    assert all(not torch.equal(moved.weights[name], before[name]) for name in body)
    only = [replace(split, targets={"logits": split.targets["logits"]}) for split in splits[:1]]
    assert train(
        _network(splits),
        only[0],
        *(replace(split, targets={}) for split in splits[1:]),
        _settings(),
        Variant("logits"),
        0,
    ).epochs
    with pytest.raises(ValueError, match=r"train_split\.targets\['logits'\] must be"):
        train(_network(splits), replace(only[0], targets={}), *splits[1:], _settings(), Variant("logits"), 0)


def test_denominator_all_divides_by_three(splits: list[Split]) -> None:
    [row] = _train(splits, SKIP, epochs=1, denominator="all", kl_weight=0.0, learning_rate=0.0).epochs
    assert row["train_loss"] == pytest.approx((row["train_block1"] + row["train_block2"]) / 3, rel=1e-5)


@pytest.mark.parametrize("evaluation", ["batch", "recalibrated"])
def test_the_best_epoch_is_chosen_and_its_weights_returned(splits: list[Split], evaluation: str) -> None:
    # A rate too high for a steady course, and a test set of noise: the last epoch's weights would show.
    noise = torch.randn(96, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    splits = [*splits[:2], Split(noise, torch.arange(96) % 2, {})]
    run = _train(splits, LABELS, epochs=6, learning_rate=1.0, evaluation=evaluation, schedule="constant")
    accuracies = [row["validation_accuracy"] for row in run.epochs]
    assert [row["epoch"] for row in run.epochs] == list(range(1, 7))
    assert accuracies.index(max(accuracies)) < 5  # not the last
    assert run.validation_accuracy == max(accuracies)
    assert run.epoch_chosen == 1 + accuracies.index(max(accuracies))

    net = _network(splits, seed=9)
    missing, extra = net.load_state_dict(run.weights, strict=False)
    assert not missing
    if evaluation == "recalibrated":
        for name in extra:
            owner, _, buffer = name.rpartition(".")
            setattr(net.get_submodule(owner), buffer, run.weights[name])
    net.train(evaluation == "batch")
    for split, accuracy in ((splits[1], run.validation_accuracy), (splits[2], run.test_accuracy)):
        parts = fixed_batches(len(split.images), 12, None)
        with torch.no_grad():
            logits = torch.cat([net(split.images[part]).logits for part in parts])
        assert float((logits.argmax(1) == split.labels).float().mean()) == pytest.approx(accuracy)
        if split is splits[1]:
            row = run.epochs[run.epoch_chosen - 1]
            assert float(F.cross_entropy(logits, split.labels)) == pytest.approx(
                row["validation_cross_entropy"], rel=1e-4
            )


def test_recalibrated_statistics_are_the_training_sets_averages(splits: list[Split]) -> None:
    run = _train(splits, LABELS, epochs=2, evaluation="recalibrated", learning_rate=0.0)
    net, inputs = _network(splits), []
    net.blocks[0][0].norm1.register_forward_hook(lambda module, args, out: inputs.append(args[0]))
    with torch.no_grad():
        for members in fixed_batches(48, 16, 0):
            net(splits[0].images[members])
    mean = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0)
    torch.testing.assert_close(run.weights["blocks.0.0.norm1.running_mean"], mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.weights["blocks.0.0.norm1.running_var"], variance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"evaluation": "recalibrated"}, {"compare": "before_gelu"}, {"squared_norm": "sum", "learning_rate": 1e-4}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_readings_differ_from_the_defaults(splits: list[Split], changes: dict) -> None:
    [default] = _train(splits, TARGETS, epochs=1).epochs
    [other] = _train(splits, TARGETS, epochs=1, **changes).epochs
    assert all(math.isfinite(value) for value in other.values())
    assert default["validation_cross_entropy"] != other["validation_cross_entropy"]
    # How a trained network is evaluated does not touch its training.
    assert (default["train_loss"] == other["train_loss"]) == ("evaluation" in changes)


def test_evaluation_does_not_touch_training(splits: list[Split]) -> None:
    default, other = (_train(splits, LABELS, evaluation=name) for name in ("batch", "recalibrated"))
    assert [row["train_loss"] for row in default.epochs] == [row["train_loss"] for row in other.epochs]


def test_compare_before_gelu_reaches_negative_targets(splits: list[Split]) -> None:
    """With a rate of 0, the rows hold the untrained network's losses, before the GELU or after."""
    [after] = _train(splits, TARGETS, epochs=1, learning_rate=0.0, batch=48).epochs
    [before] = _train(splits, TARGETS, epochs=1, learning_rate=0.0, batch=48, compare="before_gelu").epochs
    net = _network(splits)
    maps, raw_maps = net(splits[0].images).maps, net(splits[0].images, before_gelu=True).maps
    for name, gelu, raw in zip(BLOCKS, maps, raw_maps, strict=True):
        target = splits[0].targets[name]
        assert after[f"train_{name}"] == pytest.approx((gelu - target).square().mean().item(), rel=1e-4)
        assert before[f"train_{name}"] == pytest.approx((raw - target).square().mean().item(), rel=1e-4)


def test_traces_compare_validation_maps_with_their_targets(splits: list[Split]) -> None:
    [row] = _train(splits, LABELS, epochs=1, learning_rate=0.0, evaluation_batch=24).epochs
    validation = splits[1]
    maps = _network(splits)(validation.images).maps[1].flatten(1).detach()
    target = validation.targets["block1"].flatten(1)
    cosine = F.cosine_similarity(maps, target).mean()
    assert row["cosine_distance_block1"] == pytest.approx(1 - float(cosine), rel=1e-4)
    assert row["validation_block1"] == pytest.approx(float((maps - target).square().mean()), rel=1e-4)
    squares = F.cosine_similarity(maps[:, None], maps[None], dim=2).square()
    pairs = [(i, j) for i in range(24) for j in range(24) if i != j]
    within = torch.stack([squares[i, j] for i, j in pairs if validation.labels[i] == validation.labels[j]]).mean()
    between = torch.stack([squares[i, j] for i, j in pairs if validation.labels[i] != validation.labels[j]]).mean()
    assert row["within_class_block1"] == pytest.approx(-math.log(within), rel=1e-3)
    assert row["between_class_block1"] == pytest.approx(-math.log(between), rel=1e-3)


def test_without_targets_nothing_is_traced(splits: list[Split]) -> None:
    bare = [Split(split.images, split.labels, {}) for split in splits]
    [row] = _train(bare, LABELS, epochs=1).epochs
    assert set(row) == {"epoch", "train_loss", "validation_accuracy", "validation_cross_entropy"}
    traced = _train(splits, LABELS, epochs=1).epochs[0]
    assert traced["train_loss"] == row["train_loss"]


def test_the_test_set_decides_nothing(splits: list[Split]) -> None:
    other = [*splits[:2], Split(-splits[2].images, 1 - splits[2].labels, {})]
    first, second = _train(splits, LABELS), _train(other, LABELS)
    assert first.epochs == second.epochs and first.epoch_chosen == second.epoch_chosen


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_the_whitening_bias_is_trained_for_its_epochs_alone(splits: list[Split], epochs: int) -> None:
    biases, whitening = [], _network(splits).whiten.weight
    net = _network(splits)

    def watch(numbers: Any) -> Any:
        for number in numbers:
            yield number
            biases.append(net.whiten.bias.detach().clone())

    settings = _settings(epochs=4, whitening_bias_epochs=epochs, weight_decay=0.1)
    train(net, *splits, settings, LABELS, 0, progress=watch)
    assert torch.equal(net.whiten.weight, whitening)
    moved = [not torch.equal(*pair) for pair in zip([torch.zeros_like(biases[0]), *biases], biases, strict=False)]
    assert moved == [epoch < epochs for epoch in range(4)]


@pytest.mark.parametrize("variant", [LABELS, TARGETS], ids=lambda v: v.learns)
def test_a_diverging_run_stops_and_says_why(splits: list[Split], variant: Variant) -> None:
    with pytest.raises(FloatingPointError, match=r"epoch \d+: lower learning_rate"):
        _train(splits, variant, learning_rate=1e30)


def test_bfloat16_runs_near_float32(splits: list[Split]) -> None:
    full, half = (_train(splits, TARGETS, epochs=1, precision=name).epochs[0] for name in ("float32", "bfloat16"))
    assert full["train_loss"] != half["train_loss"]
    assert full["train_loss"] == pytest.approx(half["train_loss"], rel=0.05)


@pytest.mark.parametrize("found", [False, True])
def test_auto_is_the_precision_that_the_device_has(
    splits: list[Split], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_has_bfloat16", lambda device: found)
    automatic, chosen = (
        _train(splits, LABELS, epochs=1, precision=name) for name in ("auto", ("float32", "bfloat16")[found])
    )
    assert automatic.epochs == chosen.epochs


WRONG: list[tuple[str, dict[str, Any], str]] = [  # argument, its changes, what the error says
    ("train_split", {"images": torch.zeros(48, 1, 12, 12)}, r"train_split.images must be \[N, 1, 10, 10\] floats"),
    (
        "validation",
        {"images": torch.zeros(24, 3, 10, 10)},
        r"validation.images must be .* not \[24, 3, 10",
    ),
    ("test", {"images": torch.zeros(24, 1, 10, 10, dtype=torch.uint8)}, r"test.images must be .* uint8"),
    ("test", {"images": torch.zeros(0, 1, 10, 10)}, "test.images must be"),
    ("train_split", {"labels": torch.zeros(47, dtype=torch.int64)}, r"train_split.labels must be \[48\] int64"),
    ("validation", {"labels": torch.zeros(24)}, r"validation.labels must be \[24\] int64, not \[24\] float32"),
    ("train_split", {"labels": torch.full((48,), 2)}, "train_split.labels must be from 0 to 1"),
    ("test", {"labels": torch.full((24,), -1)}, "test.labels must be from 0 to 1"),
    ("train_split", {"targets": {}}, r"train_split.targets\['block0'\] must be \[48, 8, 4, 4\] floats, not missing"),
    ("validation", {"targets": {"block0": torch.zeros(24, 8, 4, 4)}}, r"validation.targets\['block1'\] must be"),
]


@pytest.mark.parametrize(("argument", "changes", "message"), WRONG)
def test_arguments_that_do_not_fit_are_named(
    splits: list[Split], argument: str, changes: dict[str, Any], message: str
) -> None:
    named = dict(zip(("train_split", "validation", "test"), splits, strict=True))
    named[argument] = replace(named[argument], **changes)
    with pytest.raises(ValueError, match=f"^{message}"):
        train(_network(splits), **named, settings=_settings(), variant=TARGETS, seed=0)


def test_targets_of_another_shape_are_named_where_they_are_learned(splits: list[Split]) -> None:
    targets = {**splits[0].targets, "block0": splits[0].targets["block0"][:, :4]}
    changed = [replace(splits[0], targets=targets), *splits[1:]]
    with pytest.raises(ValueError, match=r"^train_split.targets\['block0'\] must be"):
        _train(changed, TARGETS)
    assert _train(changed, SKIP, epochs=1).epochs


def test_batches_of_one_value_per_channel_are_refused(splits: list[Split]) -> None:
    """The last maps are 1 × 1."""
    with pytest.raises(ValueError, match=r"^settings.batch \(1\) makes batches of a single image"):
        _train(splits, LABELS, batch=1)


@pytest.mark.parametrize("pad", [-1, SIZE])
def test_an_impossible_padding_is_refused(splits: list[Split], pad: int) -> None:
    with pytest.raises(ValueError, match=r"^pad must be from 0 to 9"):
        _train(splits, LABELS, pad=pad)


def test_what_is_learned_decides_the_step_sizes() -> None:
    assert defaults("labels") == Training()
    assert defaults("targets") == Training(learning_rate_scaling="raw", bias_scale=0.0)
    with pytest.raises(ValueError, match=r"^learns must be labels or targets or logits"):
        defaults("both")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "float64"),
        ("schedule", "foo"),
        ("evaluation", None),
        ("epochs", 2.0),
        ("batch", True),
        ("learning_rate", "4.0"),
        ("epochs", 0),
        ("batch", 0),
        ("evaluation_batch", 0),
        ("learning_rate", -1.0),
        ("weight_decay", math.nan),
        ("kl_weight", math.inf),
        ("momentum", 1.0),
        ("momentum", 0.0),
    ],
)
def test_impossible_settings_are_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} must"):
        Training(**{field: value})


@pytest.mark.parametrize(
    ("learns", "blocks"),
    [("labels", (0,)), ("targets", ()), ("targets", (0, 3)), ("targets", (1, 1)), ("targets", [2])],
)
def test_impossible_variants_are_refused(learns: Any, blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^blocks must"):
        Variant(learns, blocks)


def test_a_choice_is_named_with_what_there_is_to_choose_from() -> None:
    with pytest.raises(ValueError, match=r"^precision must be float32 or bfloat16 or auto, not 'float64'$"):
        Training(precision="float64")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^learns must be labels or targets or logits, not 'both'$"):
        Variant("both")  # type: ignore[arg-type]
