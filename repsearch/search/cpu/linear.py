"""Children of the last block: the head is linear in the normalised map, so their logits follow from the parents'.

A normalised child is factor · [P_a + P_b + ratio (P_c + P_d) + u S 1 + v S S 1 - μ] (`tiles`, `covariances`; P with its
mean). Its logits are the product of a row of features and the columns of `head`,

    features   factor · ( u [C], v [C], weights of the slots [2 · parents], -μ )
    head [K]   ( Σ_s W S 1, Σ_s W S S 1, logits of each slot's map, Σ W ),   W [K, positions, C] the network's head

so that neither a map nor a feature per position is computed. The columns of the slots change with the parents.
"""

from repsearch.search.cpu.kernels import F, internal, reordering


@internal
def features_of(children, features):  # type: ignore[no-untyped-def]
    """features: [≥ n, 2 · C + 2 · parents + 1], C the number of channels in whole lanes."""
    count, blocks = children.terms.shape[1], children.terms.shape[0]
    channels = 16 * blocks
    for n in range(count):
        row, factor = features[n], children.factor[n]
        slots = row[2 * channels :]
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
