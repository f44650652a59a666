"""The evolution of one block on a CPU, compiled by Numba: a thread an image, no child written unless it is selected.

Maps are [positions, channels], so that every loop runs over channels. A pool member is kept as `base` with a scale and
a shift: with R2 `child`, smoothing commutes with crossover, so parents are smoothed once and a child is

    S(½ (H_p1 + H_p2) + ε) = ½ (S H_p1 + S H_p2) + S ε,    S H = scale · base - shift · S 1

(`noise`: the same without the S of the parents). The child's fitness needs its mean, its variance and its max-pooled
positions alone: normalisation is affine and rising, so that it commutes with pooling, and joins the next BatchNorm.
The children that are selected are made again, from the same random numbers.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch import operators as op
from repsearch.cpu_math import (
    F,
    U,
    compiled,
    copy,
    head_logits,
    max_pool,
    moments,
    norm_gelu_twice,
    normals,
    philox,
    smooth,
)
from repsearch.fused import Rest
from repsearch.randomness import Purpose
from repsearch.recipe import Recipe

_PURPOSES, _NOISE, _PAIR = len(Purpose), int(Purpose.NOISE), int(Purpose.PAIR)


class Plan(NamedTuple):
    """What all images of one search layer share."""

    generations: int
    explorers: int
    refiners: int
    explore: np.float32  # α · boost
    refine: np.float32  # α
    pool_explorers: bool  # R11
    element: bool  # R1
    smooth_child: bool  # R2
    matrix: NDArray[np.float32]  # [side, side], one axis of the smoothing
    reach: int
    mask: NDArray[np.float32]  # [positions], the smoothed map of ones (R10)
    norms: NDArray[np.float32]  # [blocks after this one, 2, 2, C]: of each BatchNorm, scale and shift
    head: NDArray[np.float32]  # [K, features], features in the order (position, channel)
    bias: NDArray[np.float32]  # [K]
    key: tuple[int, int]  # of the random numbers: the seed's halves
    layer: int


def evolve(
    rest: Rest, labels: Tensor, recipe: Recipe, indices: Tensor, layer: int, parents: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """The generations of one block: as `search.Evolution.generations`, which see.

    parents: [B, k, C, H, W] float32, best first; loss: [B, k]. Returns the best candidate [B, C, H, W] and its
    cross-entropy after each generation [B, generations]. Images share `torch.get_num_threads()` threads.
    """
    settings = recipe.layers[layer]
    batch, _, channels, side = parents.shape[:4]
    matrix = op.pool_matrix(side, settings.blur, recipe.count_padding)
    row = matrix.sum(1)
    plan = Plan(
        settings.generations,
        recipe.explorers,
        recipe.refiners,
        F(settings.alpha * settings.boost),
        F(settings.alpha),
        recipe.refine_from == "parents+explorers",
        recipe.noise == "element",
        recipe.smooth == "child",
        matrix.float().numpy(),
        min(settings.blur, side - 1),
        torch.outer(row, row).flatten().float().numpy(),
        rest.norms.numpy(),
        rest.head.flatten(1).numpy(),
        rest.bias.numpy(),
        (recipe.seed & 0xFFFFFFFF, recipe.seed >> 32),
        layer,
    )
    maps = parents.flatten(3).transpose(2, 3).contiguous().numpy()  # [B, k, positions, C]
    best = np.empty((batch, side * side, channels), np.float32)
    history = np.empty((batch, settings.generations), np.float32)

    def one(b: int) -> None:
        _evolve(maps[b], loss[b].numpy(), int(labels[b]), int(indices[b]), side, plan, best[b], history[b])

    with ThreadPoolExecutor(min(batch, torch.get_num_threads())) as threads:
        list(threads.map(one, range(batch)))
    found = torch.from_numpy(best).transpose(1, 2).contiguous().unflatten(2, (side, side))
    return found, torch.from_numpy(history)


@compiled
def _evolve(maps, loss, label, image, side, plan, best, history):  # type: ignore[no-untyped-def]
    """One image. maps: [k, positions, C]; loss: [k]. Fills best [positions, C] and history [generations]."""
    kept, positions, channels = maps.shape
    children = plan.explorers + plan.refiners
    slots = 2 * kept  # parents live in `kept` of these: the next generation's are written beside this one's
    base = np.empty((slots + plan.explorers, positions, channels), np.float32)
    scale = np.ones(slots + plan.explorers, np.float32)
    shift = np.zeros(slots + plan.explorers, np.float32)
    sigma = np.empty((slots + plan.explorers, channels), np.float32)
    normal = np.empty((slots, positions, channels), np.float32)  # the parents as they are
    where = np.arange(kept + plan.explorers)  # pool member → slot
    where[kept:] += kept
    work = np.empty((positions + 4, channels), np.float32)
    between = np.empty((positions, channels), np.float32)
    stats = np.empty((5, channels), np.float32)
    child = np.empty((positions, channels), np.float32)
    features = np.zeros(((children + 3) // 4 * 4, plan.head.shape[1]), np.float32)
    logits = np.empty((len(features), len(plan.head)), np.float32)
    losses = np.empty(kept + children, np.float32)
    for p in range(kept):
        losses[p] = loss[p]
    pairs = np.empty((children, 2), np.int64)
    order, chosen, ranked = np.empty(kept, np.int64), np.empty(kept, np.int64), np.empty(kept, np.float32)
    for p in range(kept):
        copy(maps[p], normal[p])
        _enter(normal[p], base[p], sigma[p], between, stats, side, plan)

    for generation in range(1, plan.generations + 1):
        time = U((plan.layer << 24) | generation)
        for n in range(children):
            explorer = n < plan.explorers
            pool = kept if explorer or not plan.pool_explorers else kept + plan.explorers
            alpha = plan.explore if explorer else plan.refine
            w0, w1, _, _ = philox(U(0), U(n * _PURPOSES + _PAIR), U(image), time, U(plan.key[0]), U(plan.key[1]))
            pairs[n, 0] = where[np.int64((w0 * U(pool)) >> U(32))]
            pairs[n, 1] = where[np.int64((w1 * U(pool)) >> U(32))]
            mean, rate = _child(child, base, scale, shift, sigma, pairs[n], n, alpha, work, between, stats, side, image,
                                time, plan)  # fmt: skip
            if explorer:
                member = slots + n
                if plan.smooth_child and plan.reach:
                    smooth(child, base[member], between, plan.matrix, plan.reach, side)
                else:
                    copy(child, base[member])
                scale[member], shift[member] = rate, rate * mean
                for c in range(channels):
                    sigma[member, c] = rate * np.sqrt(stats[1, c])
            _forward(child, side, mean, rate, features[n], work, stats, plan)
        head_logits(features, plan.head, logits)
        for n in range(children):
            losses[kept + n] = _cross_entropy(logits[n], plan.bias, label)

        last = generation == plan.generations
        wanted = 1 if last else kept
        _lowest(losses, order[:wanted])
        history[generation - 1] = losses[order[0]]
        taken = np.zeros(slots, np.bool_)
        for p in range(kept):
            taken[where[p]] = True  # this generation's parents are needed until all children are made again
        free = 0
        for rank in range(wanted):
            i = order[rank]
            if i < kept:
                chosen[rank] = where[i]
                continue
            while taken[free]:
                free += 1
            taken[free] = True
            chosen[rank] = free
            n = i - kept
            alpha = plan.explore if n < plan.explorers else plan.refine
            mean, rate = _child(child, base, scale, shift, sigma, pairs[n], n, alpha, work, between, stats, side, image,
                                time, plan)  # fmt: skip
            for s in range(positions):
                for c in range(channels):
                    normal[free, s, c] = rate * (child[s, c] - mean)
            if not last:
                _enter(normal[free], base[free], sigma[free], between, stats, side, plan)
        if last:
            copy(normal[chosen[0]], best)
        for rank in range(wanted):
            ranked[rank] = losses[order[rank]]
        for rank in range(wanted):
            where[rank], losses[rank] = chosen[rank], ranked[rank]


@compiled
def _lowest(losses, order):  # type: ignore[no-untyped-def]
    """order ← the candidates of the len(order) lowest losses, best first; ties go to the earlier candidate."""
    left = np.ones(len(losses), np.bool_)
    for rank in range(len(order)):
        best = -1
        for i in range(len(losses)):
            if left[i] and (best < 0 or losses[i] < losses[best]):
                best = i
        order[rank] = best
        left[best] = False


@compiled
def _enter(normal, base, sigma, between, stats, side, plan):  # type: ignore[no-untyped-def]
    """A parent enters the pool: its smoothed map (R2 `child`) and its standard deviation by channel (A.4)."""
    if plan.smooth_child and plan.reach:
        smooth(normal, base, between, plan.matrix, plan.reach, side)
    else:
        copy(normal, base)
    moments(normal, normal.shape[0], stats[0], stats[1], stats[2], stats[3])
    for c in range(normal.shape[1]):
        sigma[c] = np.sqrt(stats[1, c])


@compiled
def _child(child, base, scale, shift, sigma, pair, n, alpha, work, between, stats, side, image, time, plan):  # type: ignore[no-untyped-def]
    """A.4: crossover, mutation and smoothing of child number n, before normalisation, into child [positions, C].

    Returns its mean and 1 / √(variance + 1e-5); stats[1] is its variance by channel.
    """
    positions, channels = child.shape
    first, second = base[pair[0]], base[pair[1]]
    a, b = F(0.5) * scale[pair[0]], F(0.5) * scale[pair[1]]
    move = F(-0.5) * (shift[pair[0]] + shift[pair[1]])
    slot, key0, key1 = U(n * _PURPOSES + _NOISE), U(plan.key[0]), U(plan.key[1])
    strength = stats[4]
    for c in range(channels):
        strength[c] = alpha * (F(0.5) * (sigma[pair[0], c] + sigma[pair[1], c]))
    if plan.element:
        normals(work, side, side, slot, U(image), time, key0, key1)
        for s in range(positions):
            for c in range(channels):
                work[s, c] *= strength[c]
        if plan.reach:
            smooth(work, work, between, plan.matrix, plan.reach, side)
        for s in range(positions):
            t = move * plan.mask[s] if plan.smooth_child else move
            for c in range(channels):
                child[s, c] = a * first[s, c] + b * second[s, c] + (work[s, c] + t)
    else:
        normals(work, 1, 1, slot, U(image), time, key0, key1)
        for c in range(channels):
            strength[c] *= work[0, c]
        for s in range(positions):
            m = plan.mask[s]
            t = move * m if plan.smooth_child else move
            for c in range(channels):
                child[s, c] = a * first[s, c] + b * second[s, c] + (m * strength[c] + t)
    moments(child, positions, stats[0], stats[1], stats[2], stats[3])
    mean = square = 0.0
    for c in range(channels):
        average = np.float64(stats[0, c])
        mean += average
        square += np.float64(stats[1, c]) + average * average
    mean /= channels
    variance = max(square / channels - mean * mean, 0.0)
    return F(mean), F(1.0 / np.sqrt(variance + op.EPSILON))


@compiled
def _forward(child, side, mean, rate, features, work, stats, plan):  # type: ignore[no-untyped-def]
    """The rest of the network up to the head, of a child that is normalised on the way; convolutions are identities."""
    channels = child.shape[1]
    blocks = len(plan.norms)
    out = features.reshape(-1, channels)
    if not blocks:
        for s in range(child.shape[0]):
            for c in range(channels):
                out[s, c] = rate * (child[s, c] - mean)
        return
    scale, shift = stats[2], stats[3]
    for block in range(blocks):
        norms = plan.norms[block]
        half = side // 2
        last = block == blocks - 1
        used = half if last else half // 2 * 2  # the next pooling leaves out an odd side's last row and column
        target = out if last else work
        if block == 0:
            max_pool(child, side, target, used)
            for c in range(channels):
                scale[c] = rate * norms[0, 0, c]
                shift[c] = norms[0, 1, c] - mean * scale[c]
        else:
            max_pool(work, side, target, used)
            for c in range(channels):
                scale[c] = norms[0, 0, c]
                shift[c] = norms[0, 1, c]
        norm_gelu_twice(target, used * used, scale, shift, norms[1, 0], norms[1, 1])
        side = used


@compiled
def _cross_entropy(logits, bias, label):  # type: ignore[no-untyped-def]
    """-log softmax(logits + bias)[label], in double precision."""
    high = -np.inf
    for k in range(len(logits)):
        high = max(high, np.float64(logits[k] + bias[k]))
    total = 0.0
    for k in range(len(logits)):
        total += np.exp(np.float64(logits[k] + bias[k]) - high)
    return F(high + np.log(total) - np.float64(logits[label] + bias[label]))
