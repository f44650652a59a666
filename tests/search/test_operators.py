from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.search import operators as op
from repsearch.search.randomness import Draws, Stream
from repsearch.search.recipe import OPERATORS


def draws(images: int = 40, children: int = 50, crossover: bool = False) -> Draws:
    return Draws(Stream(0, torch.arange(images), 0, 1), range(children), torch.float32, crossover)


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("passes", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", [(2, 3, 15, 15), (4, 7, 5), (3, 1, 1)])
def test_smoothing_is_repeated_average_pooling(shape: tuple[int, ...], passes: int, count_padding: bool) -> None:
    maps = torch.randn(shape, dtype=torch.float64)
    pooled = maps
    for _ in range(passes):
        pooled = F.avg_pool2d(pooled, 3, 1, 1, count_include_pad=count_padding)
    torch.testing.assert_close(op.smooth(maps, passes, count_padding), pooled)


def test_smoothing_keeps_a_constant_unless_padding_counts() -> None:
    constant = torch.full((1, 2, 6, 6), 3.0)
    torch.testing.assert_close(op.smooth(constant, 3, count_padding=False), constant)
    darkened = op.smooth(constant, 1, count_padding=True)
    torch.testing.assert_close(darkened[0, 0, 0, 0], torch.tensor(3.0 * 4 / 9))
    torch.testing.assert_close(darkened[0, 0, 0, 3], torch.tensor(3.0 * 6 / 9))
    torch.testing.assert_close(darkened[0, 0, 3, 3], torch.tensor(3.0))


def test_smoothing_is_linear_and_commutes_with_crossover() -> None:
    first, second = torch.randn(2, 3, 4, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(op.smooth(2 * first - second, 2), 2 * op.smooth(first, 2) - op.smooth(second, 2))
    smoothed = op.mean(op.smooth(first, 2), op.smooth(second, 2), draws())
    torch.testing.assert_close(op.smooth(op.mean(first, second, draws()), 2), smoothed)


def test_normalise_by_candidate_over_channels_and_space() -> None:
    maps = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.5])[:, None, None] + 2
    done = op.normalise(maps)
    mean, variance = maps.mean((2, 3, 4), keepdim=True), maps.var((2, 3, 4), correction=0, keepdim=True)
    torch.testing.assert_close(done, (maps - mean) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(done.mean((2, 3, 4)), torch.zeros(2, 5, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        done.var((2, 3, 4), correction=0), torch.ones(2, 5, dtype=torch.float64), rtol=0, atol=1e-4
    )
    assert not torch.allclose(done.var((3, 4)), torch.ones(1, dtype=torch.float64))  # the channels keep their contrast


def test_normalise_a_constant_is_zero() -> None:
    assert op.normalise(torch.full((2, 3, 4, 4), 7.0)).abs().max() < 1e-3


def test_the_recipe_s_names_are_those_of_the_tables() -> None:
    assert {field: tuple(functions) for field, functions in op.BUILT_IN.items()} == OPERATORS


def test_mean_crossover() -> None:
    assert op.mean(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]), draws()).tolist() == [2.0, 1.0]


@pytest.mark.parametrize("shape", [(6, 3, 3), (6,)], ids=["maps", "logits"])
def test_uniform_crossover_takes_each_channel_or_class_from_one_parent(shape: tuple[int, ...]) -> None:
    first, second = torch.randn(2, 40, 50, *shape)
    child = op.uniform(first, second, draws(crossover=True))
    from_first = (child == first).flatten(3).all(3) if len(shape) > 1 else child == first
    from_second = (child == second).flatten(3).all(3) if len(shape) > 1 else child == second
    assert (from_first ^ from_second).all()
    assert float(from_first.float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / (40 * 50 * 6) ** 0.5)
    assert float(torch.corrcoef(from_first.flatten(0, 1).float().T).triu(1).abs().max()) < 0.1


def test_deviations_by_hand() -> None:
    maps = torch.tensor([[[1.0, 3.0], [1.0, 3.0]], [[5.0, 5.0], [5.0, 5.0]]])
    assert op.channel_std(maps).tolist() == [[[1.0]], [[0.0]]]
    assert op.class_std(torch.tensor([2.0, 4.0, 2.0, 4.0])).tolist() == [1.0]


@pytest.mark.parametrize("mutation", [op.channel, op.element])
def test_mutation_has_alpha_sigma_as_its_deviation(mutation: Callable[..., Tensor]) -> None:
    sigma = torch.tensor([0.5, 2.0])[:, None, None]
    noise = mutation(draws(), sigma, 0.3, torch.Size([2, 3, 3]))
    assert noise.shape[2:] == ((2, 1, 1) if mutation is op.channel else (2, 3, 3))
    torch.testing.assert_close(noise.std((0, 1, 3, 4)), 0.3 * sigma.flatten(), rtol=0.05, atol=0)
    torch.testing.assert_close(noise.mean((0, 1, 3, 4)), torch.zeros(2), rtol=0, atol=0.04)


def test_logits_get_their_noise_and_are_recentred() -> None:
    crossed, normals = torch.randn(3, 4, 10) + 5, Stream(0, torch.arange(3), 3, 1).normals(range(4), 10)[..., 0, 0]
    sigma = op.class_std(crossed)
    child = op.mutate_logits(crossed, normals, sigma, alpha=0.1)
    torch.testing.assert_close(child.mean(-1), torch.zeros(3, 4), rtol=0, atol=1e-6)
    expected = crossed + 0.1 * sigma * normals
    torch.testing.assert_close(child.softmax(-1), expected.softmax(-1))  # recentring leaves the distribution alone
