import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repsearch.learning.ensembles import accuracy, disagreement, mixture_weights, picked


def _of(*classes: list[int], sure: float = 0.9) -> torch.Tensor:
    """Probabilities of members that are `sure` of these classes, of three."""
    rest = (1 - sure) / 2
    return torch.stack([torch.nn.functional.one_hot(torch.tensor(c), 3) * (sure - rest) + rest for c in classes])


LABELS = torch.tensor([0, 1, 2, 0])


def test_disagreement_is_over_pairs() -> None:
    assert disagreement(_of([0, 1, 2, 0], [0, 1, 2, 0])) == 0
    assert disagreement(_of([0, 1, 2, 0], [0, 1, 2, 1], [1, 2, 0, 1])) == pytest.approx((1 / 4 + 4 / 4 + 3 / 4) / 3)


def test_weights_go_to_the_member_that_is_right_and_are_shared_by_equals() -> None:
    right, wrong = [0, 1, 2, 0], [1, 2, 0, 1]
    assert mixture_weights(_of(right, wrong), LABELS).tolist() == pytest.approx([1, 0], abs=1e-3)
    assert mixture_weights(_of(right, right, right), LABELS).tolist() == pytest.approx([1 / 3] * 3)
    # Each is right on its own half: p(w) = log(.05 + .85 w) + log(.9 - .85 w) is highest where both halves gain alike.
    halves = _of([0, 1, 0, 1], [1, 2, 2, 0])
    assert mixture_weights(halves, LABELS).tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**31))
def test_weights_are_at_least_as_likely_as_equal_ones_and_as_any_member(members: int, images: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(members, images, 4, generator=generator).mul(2).softmax(-1)
    labels = torch.randint(4, (images,), generator=generator)
    weights = mixture_weights(probabilities, labels)
    assert float(weights.sum()) == pytest.approx(1) and (weights >= 0).all()

    def likelihood(w: torch.Tensor) -> float:
        mixed = (w[:, None, None] * probabilities.double()).sum(0)
        return float(mixed[torch.arange(images), labels].log().mean())

    best = likelihood(weights)
    assert best >= likelihood(torch.full((members,), 1 / members, dtype=torch.float64)) - 1e-9
    assert all(best >= likelihood(row) - 5e-3 for row in torch.eye(members, dtype=torch.float64))


def test_members_are_picked_for_what_they_add() -> None:
    """The second member repeats the first; the third knows the image that both get wrong, and is surer of it."""
    first = _of([0, 1, 2, 1], sure=0.6)
    third = torch.cat([_of([1, 1, 2], sure=0.5), _of([0], sure=0.99)], 1)
    members = torch.cat([first, first, third])
    assert picked(members, LABELS) == [0, 2]
    assert accuracy(members[[0, 2]].mean(0), LABELS) == 1.0 and accuracy(first[0], LABELS) == 0.75
    assert picked(torch.cat([first, first]), LABELS) == [0]


def test_one_member_is_an_ensemble_of_its_own() -> None:
    member = _of([0, 1, 2, 1])
    assert picked(member, LABELS) == [0] and mixture_weights(member, LABELS).tolist() == [1.0]
