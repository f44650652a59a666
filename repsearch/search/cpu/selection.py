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
