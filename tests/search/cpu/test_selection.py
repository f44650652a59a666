"""Selection in the compiled path."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from repsearch.search.cpu.selection import assign_slots, lowest, score_again


def test_the_lowest_losses_come_first_and_nan_last() -> None:
    losses = np.float32([3.0, math.inf, 0.5, math.nan, 0.5, 2.0, math.nan])
    order = np.empty(7, np.int64)
    lowest(losses, order)
    assert order.tolist() == [2, 4, 5, 0, 1, 3, 6]


def test_parents_are_scored_again_by_slot_but_those_that_are_not_finite() -> None:
    logits, bias = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), np.float32([0, 1, 0, -1])
    slot_of, losses = np.array([2, 0, 1]), np.float32([9, math.nan, 9, 5, 6])
    score_again(logits, bias, 3, slot_of, losses)
    expected = F.cross_entropy(torch.from_numpy(logits + bias)[[2, 1]], torch.tensor([3, 3]), reduction="none")
    np.testing.assert_allclose(losses[[0, 2]], expected, rtol=1e-6)
    assert math.isnan(losses[1]) and losses[3:].tolist() == [5, 6]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(parents=st.integers(1, 6), children=st.integers(0, 6), wanted=st.integers(1, 6), seed=st.integers(0, 99))
def test_selected_parents_keep_their_slots_and_children_get_the_others(
    parents: int, children: int, wanted: int, seed: int
) -> None:
    random, wanted = np.random.default_rng(seed), min(wanted, parents)
    order = random.permutation(parents + children)[:wanted]
    slot_of, losses = random.permutation(parents), random.random(parents + children).astype(np.float32)
    before, losses_before = slot_of.copy(), losses.copy()
    slots, chosen = np.full(parents, -1), np.full(parents, -1)
    count = assign_slots(order, slot_of, slots, chosen, losses)
    assert chosen[:count].tolist() == [i - parents for i in order if i >= parents]
    assert slots[:count].tolist() == [slot for i, slot in zip(order, slot_of, strict=False) if i >= parents]
    assert all(slot == before[i] for i, slot in zip(order, slot_of, strict=False) if i < parents)
    assert len(set(slot_of[:wanted])) == wanted and set(slot_of[:wanted]) <= set(range(parents))
    assert np.array_equal(losses[:wanted], losses_before[order])
