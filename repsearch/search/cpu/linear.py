"""Children of the last block: the head is linear in the normalised map, so their logits follow from the parents'.

A normalised child is factor · [P_a + P_b + ratio (P_c + P_d) + u S 1 + v S S 1 - μ] (`tiles`, `covariances`; P with its
mean). Its logits are the product of a row of features and the columns of `head`,

    features   factor · ( u [C], v [C], weights of the slots [2 · parents], -μ )
    head [K]   ( Σ_s W S 1, Σ_s W S S 1, logits of each slot's map, Σ W ),   W [K, positions, C] the network's head

filled up to whole lanes with zeros, so that neither a map nor a feature per position is computed. The columns of the
slots change with the parents. `logits` is that product, here and after the other blocks.
"""

import numpy as np

from repsearch.search.cpu.compiling import F, exact, internal, reordering
from repsearch.search.cpu.lanes import fill, load, total

ROWS = 8  # children that share a read of the head


@internal
def features_of(children, parents, features):  # type: ignore[no-untyped-def]
    """features: [≥ n, ≥ 2 · C + 2 · parents + 1], C the number of channels in whole lanes; zeros beyond."""
    count, blocks = children.terms.shape[1], children.terms.shape[0]
    channels = 16 * blocks
    for n in range(count):
        row, factor = features[n], children.factor[n]
        slots = row[2 * channels : 2 * channels + 2 * parents + 1]
        for block in range(blocks):
            u, v = children.terms[block, n, 0], children.terms[block, n, 1]
            once, twice = row[16 * block :], row[channels + 16 * block :]
            for c in range(16):
                once[c] = factor * u[c]
                twice[c] = factor * v[c]
        for s in range(len(slots)):
            slots[s] = F(0)
        for k in range(4):
            slots[children.slots[n, k]] += factor * (children.ratio[n] if k > 1 else F(1))
        slots[len(slots) - 1] = -factor * children.mean[n]


@reordering
def enter(x, weights, slot, head):  # type: ignore[no-untyped-def]
    """The logits of a slot's map x [positions · C] into its column of head. weights: [K, positions · C]."""
    for k in range(len(head)):
        logit = F(0)
        for i in range(len(x)):
            logit += weights[k, i] * x[i]
        head[k, slot] = logit


@exact
def leave_out(slot, head):  # type: ignore[no-untyped-def]
    """Zeros for logits that are not finite: times a weight of 0, they would reach every child."""
    for k in range(len(head)):
        if not np.isfinite(head[k, slot]):
            head[k, slot] = F(0)


@internal
def logits(features, head, out):  # type: ignore[no-untyped-def]
    """features [n, D / 16, 16] · head [K, D / 16, 16] → out [n, K]; n is a multiple of ROWS."""
    for n in range(0, features.shape[0], ROWS):
        for k in range(head.shape[0]):
            a = b = c = d = e = f = g = h = fill(F(0))
            for i in range(head.shape[1]):
                w = load(head, (k, i))
                a, b = a + w * load(features, (n, i)), b + w * load(features, (n + 1, i))
                c, d = c + w * load(features, (n + 2, i)), d + w * load(features, (n + 3, i))
                e, f = e + w * load(features, (n + 4, i)), f + w * load(features, (n + 5, i))
                g, h = g + w * load(features, (n + 6, i)), h + w * load(features, (n + 7, i))
            out[n, k], out[n + 1, k], out[n + 2, k], out[n + 3, k] = total(a), total(b), total(c), total(d)
            out[n + 4, k], out[n + 5, k], out[n + 6, k], out[n + 7, k] = total(e), total(f), total(g), total(h)
