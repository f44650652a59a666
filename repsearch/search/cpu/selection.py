"""Losses and selection (§3.1) in the compiled path. Without fastmath, so that NaN is seen."""

import numpy as np

from repsearch.search.cpu.compiling import F, exact


@exact
def cross_entropy(logits, bias, label):  # type: ignore[no-untyped-def]
    """-log softmax(logits + bias)[label], in double precision."""
    high = np.float64(logits[0] + bias[0])
    for k in range(1, len(logits)):
        high = max(high, np.float64(logits[k] + bias[k]))
    total = 0.0
    for k in range(len(logits)):
        total += np.exp(np.float64(logits[k] + bias[k]) - high)
    return F(high + np.log(total) - np.float64(logits[label] + bias[label]))


@exact
def score_again(logits, bias, label, slot_of, losses):  # type: ignore[no-untyped-def]
    """The parents' losses, by rank, from their logits, by slot. One that is not finite stays: nor is its map."""
    for rank in range(len(slot_of)):
        if np.isfinite(losses[rank]):
            losses[rank] = cross_entropy(logits[slot_of[rank]], bias, label)


@exact
def lowest(losses, order):  # type: ignore[no-untyped-def]
    """order ← the candidates of the lowest losses, best first; ties go to the earlier candidate, NaN comes last."""
    unranked = np.ones(len(losses), np.bool_)
    for rank in range(len(order)):
        best = -1
        for i in range(len(losses)):
            if unranked[i] and (
                best < 0 or losses[i] < losses[best] or (np.isnan(losses[best]) and not np.isnan(losses[i]))
            ):
                best = i
        order[rank] = best
        unranked[best] = False


@exact
def assign_slots(order, slot_of, slots, children, losses):  # type: ignore[no-untyped-def]
    """The slots of the next parents: a parent keeps its own, a child gets that of a parent that was not selected.

    order: the selected candidates, best first; those below len(slot_of) are parents. slot_of: rank of a parent → its
    slot; losses: of all candidates; both are overwritten from the front. Returns how many children were selected, and
    fills `slots` and `children` with where they go and their numbers.
    """
    parents = len(slot_of)
    before, losses_before = slot_of.copy(), losses.copy()
    taken = np.zeros(parents, np.bool_)
    for i in order:
        if i < parents:
            taken[before[i]] = True
    count = free = 0
    for rank in range(len(order)):
        i = order[rank]
        losses[rank] = losses_before[i]
        if i < parents:
            slot_of[rank] = before[i]
            continue
        while taken[free]:
            free += 1
        taken[free] = True
        slot_of[rank] = slots[count] = free
        children[count] = i - parents
        count += 1
    return count
