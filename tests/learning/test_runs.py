"""Several targets per image: which of them a network learns, epoch by epoch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from repsearch.learning import runs
from repsearch.learning.settings import Variant, defaults
from repsearch.learning.training import Split, train
from repsearch.network import Network, Shape

SHAPE = Shape(1, 10, 2, 8)
TARGETS = Variant("targets", (0, 1, 2))


def _split(count: int, repeats: int | None, seed: int = 0) -> Split:
    """Made-up targets of `repeats` runs per image; None: without an axis of runs."""
    generator = torch.Generator().manual_seed(seed)
    axis = [] if repeats is None else [repeats]
    targets = {
        layer: torch.randn(count, *axis, *shape, generator=generator).half()
        for layer, shape in SHAPE.layer_shapes.items()
    }
    return Split(torch.randn(count, 1, 10, 10, generator=generator), torch.arange(count) % 2, targets)


def _picked(split: Split, which: Tensor) -> Split:
    """The split with one run per image."""
    images = torch.arange(len(split.images))
    return replace(split, targets={layer: values[images, which] for layer, values in split.targets.items()})


def _rows(split: Split, validation: Split, how: str = "draw", epochs: int = 2, seed: int = 0) -> list[dict[str, float]]:
    network = Network(SHAPE, torch.ones(2, 1, 2, 2), 0)
    settings = replace(defaults("targets"), epochs=epochs, batch=8, learning_rate=0.5, runs=how)
    return train(network, split, validation, replace(validation, targets={}), settings, TARGETS, seed).epochs


@pytest.mark.parametrize("how", ["draw", "mean", "first"])
def test_one_run_is_learned_as_a_target_without_an_axis(how: str) -> None:
    split, validation = _split(16, 1), _split(8, 1, 1)
    plain = [_picked(part, torch.zeros(len(part.images), dtype=torch.long)) for part in (split, validation)]
    assert _rows(split, validation, how) == _rows(*plain)


def test_first_and_mean_are_targets_made_beforehand() -> None:
    split, validation = _split(16, 3), _split(8, None, 1)
    first = _picked(split, torch.zeros(16, dtype=torch.long))
    mean = {layer: values.float().mean(1).half() for layer, values in split.targets.items()}
    assert _rows(split, validation, "first") == _rows(first, validation)
    assert _rows(split, validation, "mean") == _rows(replace(split, targets=mean), validation)
    assert _rows(split, validation, "mean") != _rows(split, validation, "first")


@pytest.mark.parametrize("seed", [0, 3])
def test_one_run_of_each_image_is_drawn_per_epoch(seed: int) -> None:
    """An epoch with a draw is one with the targets that it drew."""
    split, validation = _split(16, 4), _split(8, None, 1)
    which = runs.drawn(16, 4, seed, 1) - 4 * torch.arange(16)
    assert _rows(split, validation, epochs=1, seed=seed) == _rows(
        _picked(split, which), validation, epochs=1, seed=seed
    )
    assert len({_rows(split, validation, epochs=1, seed=seed)[0]["train_block0"] for seed in range(4)}) == 4


def test_draws_are_uniform_and_differ_between_epochs_and_seeds() -> None:
    count, repeats = 200, 5
    draws = torch.stack([runs.drawn(count, repeats, seed, epoch) for seed in range(10) for epoch in range(1, 21)])
    which = draws - repeats * torch.arange(count)
    assert which.min() == 0 and which.max() == repeats - 1
    assert len(draws.unique(dim=0)) == len(draws)
    frequency = torch.bincount(which.flatten(), minlength=repeats) / which.numel()
    torch.testing.assert_close(frequency, torch.full((repeats,), 1 / repeats), atol=0.01, rtol=0)
    together = (which[:, 0] == which[:, 1]).float().mean()  # one image's draw says nothing of another's
    assert float(together) == pytest.approx(1 / repeats, abs=0.1)
    assert torch.equal(runs.drawn(count, repeats, 3, 7), runs.drawn(count, repeats, 3, 7))


def test_distances_to_the_targets_are_means_over_the_runs() -> None:
    split, validation = _split(16, 2), _split(8, 2, 1)
    together = _rows(split, validation, epochs=1)[0]
    apart = [_rows(split, _picked(validation, torch.full((8,), run)), epochs=1)[0] for run in range(2)]
    for name in ("validation_block1", "cosine_distance_block1"):
        assert together[name] == pytest.approx((apart[0][name] + apart[1][name]) / 2, rel=1e-5)
        assert apart[0][name] != apart[1][name]
    assert together["within_class_block1"] == apart[0]["within_class_block1"]


@pytest.mark.parametrize("how", ["draw", "mean", "first"])
def test_maps_keep_their_channels_last(how: str) -> None:
    values = torch.randn(6, 3, 8, 5, 5)
    last = values.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (6, 3))
    targets, repeats = runs.flat(runs.chosen({"block0": last}, how))
    assert targets["block0"].is_contiguous(memory_format=torch.channels_last)
    expected = {"draw": values.flatten(0, 1), "mean": values.mean(1), "first": values[:, 0]}[how]
    torch.testing.assert_close(targets["block0"], expected)
    assert repeats == (3 if how == "draw" else 1)


def test_layers_of_different_runs_are_refused() -> None:
    split = _split(16, 2)
    odd = replace(split, targets={**split.targets, "logits": split.targets["logits"][:, 0]})
    with pytest.raises(ValueError, match=r"train_split\.targets must have the same number .* layer, not \[1, 2\]"):
        _rows(odd, _split(8, None, 1))
