import math

import pytest
import torch

from repsearch import metrics


def test_gram_is_cosine_similarity_of_flattened_maps() -> None:
    maps = torch.randn(5, 2, 3, 3)
    gram = metrics.cosine_gram(maps)
    flat = maps.flatten(1)
    for i in range(5):
        for j in range(5):
            expected = flat[i] @ flat[j] / (flat[i].norm() * flat[j].norm())
            torch.testing.assert_close(gram[i, j], expected)
    torch.testing.assert_close(metrics.cosine_gram(3 * maps), gram)


@pytest.mark.parametrize(
    ("representations", "number"),
    [
        (torch.ones(6, 3), 1.0),  # all alike
        (torch.ones(6, 1) * torch.tensor([[1.0], [-1.0]]).repeat(3, 1), 1.0),  # opposite counts as alike (K²)
        (torch.eye(6), 6.0),  # orthogonal
        (torch.eye(2).repeat_interleave(3, 0), 2.0),  # two equal groups
        (torch.eye(2)[[0, 0, 0, 1]], 16 / 10),  # groups of three and one: 4² / (3² + 1²)
        (torch.ones(1, 4), 1.0),
    ],
)
def test_effective_number(representations: torch.Tensor, number: float) -> None:
    gram = metrics.cosine_gram(representations)
    assert metrics.effective_number(gram) == pytest.approx(number, rel=1e-6)
    assert metrics.collision_entropy(gram) == pytest.approx(math.log(number), abs=1e-6)


def test_class_entropies_by_hand() -> None:
    """K: ½ within class 0, 0.8 within class 1; 0.1, 0.2, 0.3, 0.4 between."""
    gram = torch.tensor([[1, 0.5, 0.1, 0.2], [0.5, 1, 0.3, -0.4], [0.1, 0.3, 1, 0.8], [0.2, -0.4, 0.8, 1]])
    within, between = metrics.class_collision_entropies(gram, torch.tensor([0, 0, 1, 1]))
    assert within == pytest.approx(-math.log((0.25 + 0.64) / 2), rel=1e-6)
    assert between == pytest.approx(-math.log((0.01 + 0.04 + 0.09 + 0.16) / 4), rel=1e-6)


def test_class_entropies_without_pairs_are_nan() -> None:
    within, between = metrics.class_collision_entropies(torch.eye(2), torch.tensor([0, 1]))
    assert math.isnan(within) and between == math.inf
    assert math.isnan(metrics.class_collision_entropies(torch.ones(2, 2), torch.tensor([1, 1]))[1])


def test_cosine_distance() -> None:
    first = torch.tensor([1.0, 2.0, 0.0, 0.0]).reshape(1, 1, 2, 2).repeat(3, 1, 1, 1)
    second = torch.stack([4 * first[0], torch.tensor([[[0.0, 0.0], [5.0, 1.0]]]), -first[2]])
    torch.testing.assert_close(metrics.cosine_distance(first, second), torch.tensor([0.0, 1.0, 2.0]), rtol=0, atol=1e-6)


def test_class_cosines_are_means_over_pairs_of_distinct_examples() -> None:
    gram = torch.tensor([[1.0, 0.5, -0.2], [0.5, 1.0, 0.4], [-0.2, 0.4, 1.0]])
    within, between = metrics.class_cosines(gram, torch.tensor([0, 0, 1]))
    assert within == pytest.approx(0.5) and between == pytest.approx(0.1)
    assert math.isnan(metrics.class_cosines(gram, torch.tensor([0, 1, 2]))[0])
