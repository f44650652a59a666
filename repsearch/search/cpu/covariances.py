"""Mean and variance of children that are not made, from the parents' means and covariances.

Notation: N_p, a parent (a normalised map); S, the smoothing; z, a standard normal per channel; σ, standard deviations
per channel; ⟨·⟩, the mean over positions, per channel; C channels. R1 `channel` and R2 `child` make every child linear
in maps that are known before it:

    explorer   E_e = S(½ (N_i + N_j) + ε) = ½ [S N_i + S N_j + u₁ S 1],       ε = α' ½ (σ_i + σ_j) z, u₁ = 2 ε
    normalised N_e = (E_e - μ_e) / √(v_e + 1e-5)
    refiner    S(½ (N_a + N_b) + ε), where a or b may be an explorer; S of one needs its parents' S S N and S S 1

So with P_p = S N_p (slot p) and P_{parents + p} = S S N_p (slot parents + p), a smoothed mate is

    S N_m = f [P_x + P_y + u_m S S 1 - μ_m S 1]
        parent:    f = ½,                  x = y = p,                                   u = 0,    μ = 0
        explorer:  f = ½ / √(v_e + 1e-5),  x, y the slots of S S N of its two parents,  u = 2 ε,  μ = 2 μ_e

and a child is lead · [P_a + P_b + r (P_c + P_d) + u S 1 + v S S 1] with

    of two parents (all explorers):  lead = ½,        r = 0,          u = 2 ε,                          v = 0
    of other mates a, b:             lead = ½ f_a,    r = f_b / f_a,  u = ε / lead - μ_a - r μ_b,       v = u_a + r u_b

All below is in units of lead. Let P = Q + ⟨P⟩, S 1 = M₁ + m₁ and S S 1 = M₂ + m₂ (m a number, M of mean zero). Then

    mean per channel       κ = ⟨P_a⟩ + ⟨P_b⟩ + r (⟨P_c⟩ + ⟨P_d⟩) + u m₁ + v m₂
    mean                   μ = Σ_c κ / C
    variance per channel   ⟨Q_a Q_a⟩ + ⟨Q_b Q_b⟩ + 2 ⟨Q_a Q_b⟩ + 2 u (⟨Q_a M₁⟩ + ⟨Q_b M₁⟩) + u² ⟨M₁ M₁⟩   (two parents)
    its sum over channels  Σ_{s,t} w_s w_t Σ_c ⟨Q_s Q_t⟩
                           + Σ_c (2 u Σ_s w_s ⟨Q_s M₁⟩ + 2 v Σ_s w_s ⟨Q_s M₂⟩ + u² ⟨M₁ M₁⟩ + 2 u v ⟨M₁ M₂⟩ + v² ⟨M₂ M₂⟩)
                           (other mates), s, t among a, b, c, d and weights w = 1, 1, r, r
    variance               v = Σ_c (variance per channel + κ²) / C - μ²

Explorers need it per channel, for the σ of their children. S need not be symmetric (R10 without the padding), so
⟨Q_s Q_t⟩ is kept for all pairs of slots. Only a new parent's covariances are computed: about one per generation.

Channels are lanes, a multiple of 16: those beyond C are zero in every map, and `real` keeps constants out of them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repsearch.search import operators as op
from repsearch.search.cpu.compiling import F, internal, part
from repsearch.search.cpu.lanes import broadcast, fill, larger, load, root, store, total
from repsearch.search.cpu.tiles import TILE


class Masks(NamedTuple):
    """S 1 and S S 1, and what is known of them."""

    centred: NDArray[np.float32]  # [2, tiles · 16]: M₁ and M₂ in the order of the tiles
    means: NDArray[np.float32]  # [2]: m₁, m₂
    products: NDArray[np.float32]  # [3]: ⟨M₁ M₁⟩, ⟨M₁ M₂⟩, ⟨M₂ M₂⟩
    real: NDArray[np.float32]  # [blocks, 16]: 1, and 0 in channels that fill the last lanes


class Covariances(NamedTuple):
    """Of the parents' smoothed maps; the axis `slots` is that of `tiles`."""

    mean: NDArray[np.float32]  # [slots, blocks, 16]: ⟨P⟩
    masks: NDArray[np.float32]  # [2, slots, blocks, 16]: ⟨Q M₁⟩, ⟨Q M₂⟩
    once: NDArray[np.float32]  # [parents, parents, blocks, 16]: ⟨Q_s Q_t⟩ of the maps smoothed once
    total: NDArray[np.float64]  # [slots, slots]: Σ_c ⟨Q_s Q_t⟩
    sums: NDArray[np.float32]  # [parents, parents, 4, 16], overwritten


class Mates(NamedTuple):
    """What children need of the parents, then (R11) of the explorers. Rows of parents: f = ½, μ = u = 0."""

    sigma: NDArray[np.float32]  # [mates, blocks, 16]
    factor: NDArray[np.float32]  # [mates]: f
    mean: NDArray[np.float32]  # [mates]: μ
    noise: NDArray[np.float32]  # [mates, blocks, 16]: u
    slots: NDArray[np.int64]  # [mates, 2]: x, y


@internal
def enter(x, slot, maps, covariances, masks, order):  # type: ignore[no-untyped-def]
    """A smoothed map x [positions, blocks, 16] into its slot: centred, with its mean and covariances with the masks."""
    share = F(1) / F(len(order))
    for block in range(x.shape[1]):
        mean = fill(F(0))
        for s in range(len(order)):
            mean = mean + load(x, (s, block))
        mean = mean * share
        store(covariances.mean, (slot, block), mean)
        first, second = fill(F(0)), fill(F(0))
        for n in range(len(order)):
            q = load(x, (order[n], block)) - mean
            first = first + q * broadcast(masks.centred, (0, n))
            second = second + q * broadcast(masks.centred, (1, n))
            store(maps, (block, n // TILE, slot, n % TILE), q)
        store(covariances.masks, (0, slot, block), first * share)
        store(covariances.masks, (1, slot, block), second * share)


@part
def _four(x, i, j):  # type: ignore[no-untyped-def]
    return load(x, (i, j, 0)), load(x, (i, j, 1)), load(x, (i, j, 2)), load(x, (i, j, 3))


@part
def _put_four(x, i, j, a, b, c, d):  # type: ignore[no-untyped-def]
    store(x, (i, j, 0), a)
    store(x, (i, j, 1), b)
    store(x, (i, j, 2), c)
    store(x, (i, j, 3), d)


@internal
def update(fresh, maps, positions, covariances):  # type: ignore[no-untyped-def]
    """The covariances of the parents in the slots `fresh`, whose maps have been entered, with all parents."""
    sums, share = covariances.sums, F(1) / F(positions)
    parents = sums.shape[0]
    for a in fresh:
        for s in range(2 * parents):
            for row in (a, parents + a):
                covariances.total[row, s] = covariances.total[s, row] = 0.0
    for block in range(maps.shape[0]):
        for r in range(len(fresh)):
            for b in range(parents):
                for product in range(4):
                    store(sums, (r, b, product), fill(F(0)))
        for tile in range(maps.shape[1]):
            q, count = maps[block, tile], min(TILE, positions - tile * TILE)
            for r in range(len(fresh)):
                a = fresh[r]
                for b in range(0, parents, 2):  # two at a time, for as many sums as hide the latency of an addition
                    c = min(b + 1, parents - 1)
                    s0, s1, s2, s3 = _four(sums, r, b)
                    t0, t1, t2, t3 = _four(sums, r, c)
                    for p in range(count):
                        once, twice = load(q, (a, p)), load(q, (parents + a, p))
                        b_once, b_twice = load(q, (b, p)), load(q, (parents + b, p))
                        c_once, c_twice = load(q, (c, p)), load(q, (parents + c, p))
                        s0, t0 = s0 + once * b_once, t0 + once * c_once
                        s1, t1 = s1 + once * b_twice, t1 + once * c_twice
                        s2, t2 = s2 + twice * b_once, t2 + twice * c_once
                        s3, t3 = s3 + twice * b_twice, t3 + twice * c_twice
                    _put_four(sums, r, b, s0, s1, s2, s3)
                    _put_four(sums, r, c, t0, t1, t2, t3)
        for r in range(len(fresh)):
            a = fresh[r]
            for b in range(parents):
                of_once = load(sums, (r, b, 0)) * share
                store(covariances.once, (a, b, block), of_once)
                store(covariances.once, (b, a, block), of_once)
                known = False  # from the row of another new parent
                for earlier in range(r):
                    known = known or fresh[earlier] == b
                if known:
                    continue
                for product in range(4):
                    if a == b and product == 2:  # is product 1
                        continue
                    s, t = a + parents * (product // 2), b + parents * (product % 2)
                    covariances.total[s, t] += np.float64(total(load(sums, (r, b, product)) * share))
                    covariances.total[t, s] = covariances.total[s, t]


@internal
def of_parents(z, alpha, i, j, mates, covariances, masks, children, n, variance):  # type: ignore[no-untyped-def]
    """A child of two parents, in units of ½: fills its slots, ratio and terms (u, v, κ), and its variance per channel.

    z, variance: [blocks, 16]. Returns the sums over channels of κ, κ² and the variance.
    """
    m1, v11, terms = masks.means[0], masks.products[0], children.terms
    children.ratio[n] = F(0)
    for k in range(4):
        children.slots[n, k] = j if k % 2 else i
    sum_mean, sum_square, sum_variance = fill(F(0)), fill(F(0)), fill(F(0))
    for c in range(len(z)):
        u = alpha * (load(mates.sigma, (i, c)) + load(mates.sigma, (j, c))) * load(z, c)
        mean = load(covariances.mean, (i, c)) + load(covariances.mean, (j, c)) + u * m1
        with_mask = load(covariances.masks, (0, i, c)) + load(covariances.masks, (0, j, c))
        mixed = load(covariances.once, (i, j, c))
        spread = load(covariances.once, (i, i, c)) + load(covariances.once, (j, j, c)) + (mixed + mixed)
        spread = larger(spread + u * ((with_mask + with_mask) + u * v11), fill(F(0)))
        store(terms, (c, n, 0), u)
        store(terms, (c, n, 1), fill(F(0)))
        store(terms, (c, n, 2), mean)
        store(variance, c, spread)
        sum_mean, sum_square, sum_variance = sum_mean + mean, sum_square + mean * mean, sum_variance + spread
    return np.float64(total(sum_mean)), np.float64(total(sum_square)), np.float64(total(sum_variance))


@internal
def of_mates(z, alpha, i, j, mates, covariances, masks, children, n):  # type: ignore[no-untyped-def]
    """The same for a child of any two mates, in units of ½ f_i, without the variance per channel."""
    a, b, c, d = mates.slots[i, 0], mates.slots[i, 1], mates.slots[j, 0], mates.slots[j, 1]
    ratio, lead = mates.factor[j] / mates.factor[i], F(0.5) * mates.factor[i]
    terms, children.ratio[n] = children.terms, ratio
    for k in range(4):
        children.slots[n, k] = mates.slots[j, k % 2] if k > 1 else mates.slots[i, k]
    m1, m2, v11, v12, v22 = masks.means[0], masks.means[1], masks.products[0], masks.products[1], masks.products[2]
    constant, strength = mates.mean[i] + ratio * mates.mean[j], F(0.5) * alpha / lead
    mean_of, once_of, twice_of = covariances.mean, covariances.masks[0], covariances.masks[1]
    sum_mean, sum_square, sum_variance = fill(F(0)), fill(F(0)), fill(F(0))
    for k in range(len(z)):
        u = strength * (load(mates.sigma, (i, k)) + load(mates.sigma, (j, k))) * load(z, k)
        u = u - load(masks.real, k) * constant
        v = load(mates.noise, (i, k)) + ratio * load(mates.noise, (j, k))
        mean = load(mean_of, (a, k)) + load(mean_of, (b, k)) + ratio * (load(mean_of, (c, k)) + load(mean_of, (d, k)))
        mean = mean + (u * m1 + v * m2)
        once = load(once_of, (a, k)) + load(once_of, (b, k)) + ratio * (load(once_of, (c, k)) + load(once_of, (d, k)))
        twice = load(twice_of, (a, k)) + load(twice_of, (b, k))
        twice = twice + ratio * (load(twice_of, (c, k)) + load(twice_of, (d, k)))
        spread = u * ((once + once) + u * v11) + v * ((twice + twice) + (v * v22 + u * (F(2) * v12)))
        store(terms, (k, n, 0), u)
        store(terms, (k, n, 1), v)
        store(terms, (k, n, 2), mean)
        sum_mean, sum_square, sum_variance = sum_mean + mean, sum_square + mean * mean, sum_variance + spread
    gram, r = covariances.total, np.float64(ratio)
    within = gram[a, a] + gram[b, b] + 2 * gram[a, b]
    across = gram[a, c] + gram[a, d] + gram[b, c] + gram[b, d]
    beyond = gram[c, c] + gram[d, d] + 2 * gram[c, d]
    variance = np.float64(total(sum_variance)) + within + r * (2 * across + r * beyond)
    return np.float64(total(sum_mean)), np.float64(total(sum_square)), variance


@internal
def normalise(sums, lead, channels, masks, children, n):  # type: ignore[no-untyped-def]
    """A.4 for child number n: its mean and factor, and its means per channel κ less its mean. sums: of `of_parents`."""
    mean = sums[0] / channels
    children.mean[n] = F(mean)
    variance = max(sums[2] / channels + sums[1] / channels - mean * mean, 0.0) * np.float64(lead) ** 2
    children.factor[n] = F(np.float64(lead) / np.sqrt(variance + op.EPSILON))
    for block in range(len(masks.real)):
        centred = load(children.terms, (block, n, 2)) - load(masks.real, block) * F(mean)
        store(children.terms, (block, n, 2), centred)


@internal
def add_mate(mate, n, variance, parents, mates, children):  # type: ignore[no-untyped-def]
    """Explorer number n as a mate. variance: per channel, in units of its lead."""
    mates.factor[mate], mates.mean[mate] = children.factor[n], children.mean[n]
    mates.slots[mate, 0], mates.slots[mate, 1] = parents + children.slots[n, 0], parents + children.slots[n, 1]
    for block in range(len(variance)):
        store(mates.sigma, (mate, block), root(load(variance, block)) * children.factor[n])
        store(mates.noise, (mate, block), load(children.terms, (block, n, 0)))
