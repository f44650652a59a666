"""The evolution of one block on a CPU, compiled by Numba: one thread per image; only selected children are written.

The mates are the candidates that children descend from: the parents and, with R11, the explorers. A mate is stored as
`base` with a scale and a shift: with R2 `child`, smoothing commutes with crossover, so mates are smoothed once and a
child is

    S(½ (H_p1 + H_p2) + ε) = ½ (S H_p1 + S H_p2) + S ε,    S H = scale · base - shift · S 1

(`noise`: the same without the S of the parents). The child's fitness needs only its mean, its variance and its
max-pooled positions: normalisation is affine and increasing, so it commutes with max-pooling and is merged into the
next BatchNorm. The children that are selected are made again, from the same random numbers.

Maps are [positions, channels], so that the inner loops run over channels. A narrow map is viewed as [side, side · C]:
then they run over a row of the map. `rows` and `lanes` stand for either. S 1 is row_mask [rows] × lane_mask [lanes].
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.search import operators as op
from repsearch.search.cpu import channel, kernels
from repsearch.search.cpu.kernels import F, U, compiled, philox
from repsearch.search.cpu.selection import cross_entropy, lowest
from repsearch.search.network import Tail
from repsearch.search.randomness import Purpose
from repsearch.search.recipe import Recipe

_PURPOSES, _NOISE, _PAIR = len(Purpose), int(Purpose.NOISE), int(Purpose.PAIR)
NARROW = 64  # channels below which a row of the map is a vector
FEW = 16  # channels below which the random numbers of a row are drawn together


class Plan(NamedTuple):
    """What is the same for all images of one search layer."""

    side: int
    narrow: bool
    generations: int
    explorers: int
    refiners: int
    explore: np.float32  # α · boost
    refine: np.float32  # α
    mate_explorers: bool  # R11
    element: bool  # R1
    smooth_child: bool  # R2
    matrix: NDArray[np.float32]  # [side, side], one axis of the smoothing
    reach: int
    taps: NDArray[np.float32]  # of `kernels.smooth`, for narrow maps
    row_mask: NDArray[np.float32]
    lane_mask: NDArray[np.float32]
    counters: NDArray[np.uint64]  # of `kernels.normals_by_row`
    norms: NDArray[np.float32]  # [blocks after this one, 2, 2, lanes]: scale and shift of each BatchNorm
    head: NDArray[np.float32]  # [K, features], features in the order (position, channel)
    bias: NDArray[np.float32]  # [K]
    key: tuple[int, int]  # of the random numbers: the seed's halves
    layer: int


class Workspace(NamedTuple):
    """Arrays that the work on one image overwrites for every child."""

    child: NDArray[np.float32]  # [rows, lanes]
    noise: NDArray[np.float32]  # [positions + 3, C]
    between: NDArray[np.float32]  # [rows, lanes]
    drawn: NDArray[np.float32]
    edge: NDArray[np.float32]
    lanes: NDArray[np.float32]  # [3, lanes]
    mean: NDArray[np.float32]  # [C], of the last child or parent
    variance: NDArray[np.float32]  # [C], of the same
    strength: NDArray[np.float32]  # [C]


def evolve_for(recipe: Recipe) -> Callable[..., tuple[Tensor, Tensor]]:
    """The `evolve` that serves a recipe fastest: that of `channel` where it can, else the one below, which any can."""
    return channel.evolve if recipe.mutation == "channel" and recipe.smooth == "child" else evolve


def evolve(
    tail: Tail, labels: Tensor, recipe: Recipe, indices: Tensor, layer: int, parents: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """The generations of one block, as `search.evolution.Evolution.generations` computes them.

    parents: [B, k, C, H, W] float32, best first; loss: [B, k]. Returns the best candidate [B, C, H, W] and its
    cross-entropy after each generation [B, generations]. Images share `torch.get_num_threads()` threads.
    """
    batch, count, channels, side = parents.shape[:4]
    plan = plan_for(tail, recipe, layer, channels, side)
    shape = (side, side * channels) if plan.narrow else (side * side, channels)
    maps = parents.flatten(3).transpose(2, 3).contiguous().view(batch, count, *shape).numpy()
    best = np.empty((batch, *shape), np.float32)
    history = np.empty((batch, plan.generations), np.float32)

    def evolve_image(b: int) -> None:
        _evolve(maps[b], loss[b].numpy(), int(labels[b]), int(indices[b]), plan, best[b], history[b])

    kernels.announce(_evolve)
    with ThreadPoolExecutor(min(batch, torch.get_num_threads())) as threads:
        list(threads.map(evolve_image, range(batch)))
    best_maps = torch.from_numpy(best).view(batch, side, side, channels).permute(0, 3, 1, 2).contiguous()
    return best_maps, torch.from_numpy(history)


def plan_for(tail: Tail, recipe: Recipe, layer: int, channels: int, side: int) -> Plan:
    """The plan for block `layer`, whose maps have `channels` channels and `side` × `side` positions."""
    settings, narrow = recipe.layers[layer], channels < NARROW
    matrix = op.smoothing_matrix(side, settings.blur, recipe.count_padding)
    ones, reach, blocks = matrix.sum(1), min(settings.blur, max(1, side - 1)), -(-side // 4)
    taps = torch.zeros(2 * reach + 2, side, dtype=matrix.dtype)
    for d in range(-reach, reach + 1):
        inside = torch.arange(max(0, -d), min(side, side - d))
        taps[d + reach, inside] = matrix[inside, inside + d]
    row_mask, lane_mask = (ones, ones) if narrow else (torch.outer(ones, ones).flatten(), torch.ones(1))
    channel, block = torch.arange(channels), torch.arange(blocks)
    return Plan(
        side,
        narrow,
        settings.generations,
        recipe.explorers,
        recipe.refiners,
        F(settings.alpha * settings.boost),
        F(settings.alpha),
        recipe.refine_from == "parents+explorers",
        recipe.mutation == "element",
        recipe.smooth == "child",
        matrix.float().numpy(),
        reach,
        taps.repeat_interleave(channels, 1).float().numpy(),
        row_mask.float().numpy(),
        lane_mask.repeat_interleave(channels).float().numpy(),
        (channel * side * blocks + block[:, None]).flatten().numpy().astype(np.uint64),
        tail.norms.repeat(1, 1, 1, side if narrow else 1).contiguous().numpy(),
        tail.head.flatten(1).numpy(),
        tail.bias.numpy(),
        (recipe.seed & 0xFFFFFFFF, recipe.seed >> 32),
        layer,
    )


@compiled
def _evolve(maps, loss, label, image, plan, best, history):  # type: ignore[no-untyped-def]
    """One image. maps: [k, rows, lanes]; loss: [k]. Fills best [rows, lanes] and history [generations]."""
    parents, rows, lanes = maps.shape
    channels = rows * lanes // plan.side**2
    children = plan.explorers + plan.refiners
    slots = 2 * parents  # of parents: those of the next generation are written while this one's are still needed
    base = np.empty((slots + plan.explorers, rows, lanes), np.float32)
    scale = np.ones(slots + plan.explorers, np.float32)
    shift = np.zeros(slots + plan.explorers, np.float32)
    sigma = np.empty((slots + plan.explorers, channels), np.float32)
    normal = np.empty((slots, rows, lanes), np.float32)  # the parents, not smoothed
    where = np.arange(parents + plan.explorers)  # mate → slot
    where[parents:] += parents
    work = Workspace(
        np.empty((rows, lanes), np.float32),
        np.empty((plan.side**2 + 3, channels), np.float32),
        np.empty((rows, lanes), np.float32),
        np.empty((4, len(plan.counters)), np.float32),
        np.empty(plan.side * channels + len(plan.taps) * channels, np.float32),
        np.empty((3, lanes), np.float32),
        np.empty(channels, np.float32),
        np.empty(channels, np.float32),
        np.empty(channels, np.float32),
    )
    features = np.zeros(((children + 3) // 4 * 4, plan.head.shape[1]), np.float32)
    logits = np.empty((len(features), len(plan.head)), np.float32)
    losses = np.empty(parents + children, np.float32)
    losses[:parents] = loss
    pairs = np.empty((children, 2), np.int64)
    order, chosen = np.empty(parents, np.int64), np.empty(parents, np.int64)
    for p in range(parents):
        kernels.copy(maps[p], normal[p])
        _enter(normal[p], base[p], sigma[p], work, plan)

    for generation in range(1, plan.generations + 1):
        time = U((plan.layer << 24) | generation)
        for n in range(children):
            explorer = n < plan.explorers
            mates = parents if explorer or not plan.mate_explorers else parents + plan.explorers
            w0, w1, _, _ = philox(U(0), U(n * _PURPOSES + _PAIR), U(image), time, U(plan.key[0]), U(plan.key[1]))
            pairs[n, 0] = where[np.int64((w0 * U(mates)) >> U(32))]
            pairs[n, 1] = where[np.int64((w1 * U(mates)) >> U(32))]
            mean, rate = _child(base, scale, shift, sigma, pairs[n], n, image, time, work, plan)
            if explorer and plan.mate_explorers:
                slot = slots + n
                _smooth_child(work.child, base[slot], work, plan)
                scale[slot], shift[slot] = rate, rate * mean
                for c in range(channels):
                    sigma[slot, c] = rate * np.sqrt(work.variance[c])
            _forward(mean, rate, features[n], work, plan)
        kernels.head_logits(features, plan.head, logits)
        for n in range(children):
            losses[parents + n] = cross_entropy(logits[n], plan.bias, label)

        last = generation == plan.generations
        wanted = 1 if last else parents
        lowest(losses, order[:wanted])
        history[generation - 1] = losses[order[0]]
        taken = np.zeros(slots, np.bool_)
        for p in range(parents):
            taken[where[p]] = True  # this generation's parents are needed until all children are made again
        free = 0
        for rank in range(wanted):
            i = order[rank]
            if i < parents:
                chosen[rank] = where[i]
                continue
            while taken[free]:
                free += 1
            taken[free] = True
            chosen[rank] = free
            mean, rate = _child(base, scale, shift, sigma, pairs[i - parents], i - parents, image, time, work, plan)
            for s in range(rows):
                for c in range(lanes):
                    normal[free, s, c] = rate * (work.child[s, c] - mean)
            if not last:
                _enter(normal[free], base[free], sigma[free], work, plan)
        if last:
            kernels.copy(normal[chosen[0]], best)
        losses[:wanted] = losses[order[:wanted]]
        where[:wanted] = chosen[:wanted]


@compiled
def _smooth_child(x, out, work, plan):  # type: ignore[no-untyped-def]
    """The smoothing that a mate is stored with: that of whole children (R2 `child`), or none."""
    if plan.smooth_child and plan.reach:
        kernels.smooth(x, out, work.between, plan.matrix, plan.reach, plan.taps, work.edge)
    else:
        kernels.copy(x, out)


@compiled
def _enter(normal, base, sigma, work, plan):  # type: ignore[no-untyped-def]
    """Makes a mate of a parent: its smoothed map and its standard deviation per channel (A.4)."""
    _smooth_child(normal, base, work, plan)
    kernels.moments(normal, work.mean, work.variance, work.lanes[0], work.lanes[1], work.lanes[2])
    for c in range(len(sigma)):
        sigma[c] = np.sqrt(work.variance[c])


@compiled
def _child(base, scale, shift, sigma, pair, n, image, time, work, plan):  # type: ignore[no-untyped-def]
    """A.4: crossover, mutation and smoothing of child number n, before normalisation, into work.child.

    Returns its mean and 1 / √(variance + 1e-5); fills work.variance, its variance per channel.
    """
    child, strength, mix = work.child, work.strength, work.lanes[0]
    rows, lanes = child.shape
    channels = len(strength)
    first, second = base[pair[0]], base[pair[1]]
    a, b = F(0.5) * scale[pair[0]], F(0.5) * scale[pair[1]]
    move = F(-0.5) * (shift[pair[0]] + shift[pair[1]])
    slot, key0, key1 = U(n * _PURPOSES + _NOISE), U(plan.key[0]), U(plan.key[1])
    alpha = plan.explore if n < plan.explorers else plan.refine
    for c in range(channels):
        strength[c] = alpha * (F(0.5) * (sigma[pair[0], c] + sigma[pair[1], c]))
    if plan.element:
        noise = work.noise[: plan.side**2].reshape(rows, lanes)
        if channels < FEW:
            kernels.normals_by_row(noise, work.drawn, plan.counters, plan.side, slot, U(image), time, key0, key1)
        else:
            kernels.normals(work.noise, plan.side, plan.side, slot, U(image), time, key0, key1)
        for start in range(0, lanes, channels):
            for c in range(channels):
                mix[start + c] = strength[c]
        for s in range(rows):
            for c in range(lanes):
                noise[s, c] *= mix[c]
        if plan.reach:
            kernels.smooth(noise, noise, work.between, plan.matrix, plan.reach, plan.taps, work.edge)
        for s in range(rows):
            t = move * plan.row_mask[s] if plan.smooth_child else move
            for c in range(lanes):
                weight = plan.lane_mask[c] if plan.smooth_child else F(1)
                child[s, c] = a * first[s, c] + b * second[s, c] + (noise[s, c] + t * weight)
    else:
        kernels.normals(work.noise, 1, 1, slot, U(image), time, key0, key1)
        for c in range(channels):
            strength[c] *= work.noise[0, c]
        for start in range(0, lanes, channels):
            for c in range(channels):
                mix[start + c] = strength[c] + move if plan.smooth_child else strength[c]
        for c in range(lanes):
            mix[c] *= plan.lane_mask[c]
        t = F(0) if plan.smooth_child else move
        for s in range(rows):
            m = plan.row_mask[s]
            for c in range(lanes):
                child[s, c] = a * first[s, c] + b * second[s, c] + (m * mix[c] + t)
    kernels.moments(child, work.mean, work.variance, work.lanes[0], work.lanes[1], work.lanes[2])
    mean = square = 0.0
    for c in range(channels):
        average = np.float64(work.mean[c])
        mean += average
        square += np.float64(work.variance[c]) + average * average
    mean /= channels
    variance = max(square / channels - mean * mean, 0.0)
    return F(mean), F(1.0 / np.sqrt(variance + op.EPSILON))


@compiled
def _forward(mean, rate, features, work, plan):  # type: ignore[no-untyped-def]
    """The tail of the network up to the head, applied to work.child, which is normalised on the way."""
    child, channels, blocks, side = work.child, len(work.mean), len(plan.norms), plan.side
    if not blocks:
        flat = child.reshape(child.size)
        for n in range(len(flat)):
            features[n] = rate * (flat[n] - mean)
        return
    x = child.reshape(side * side, channels)
    for block in range(blocks):
        norms = plan.norms[block]
        last = block == blocks - 1
        used = side // 2 if last else side // 4 * 2  # the next max-pooling drops the last row and column of an odd side
        target = features if last else work.noise.reshape(work.noise.size)
        out = target[: used * used * channels].reshape(used * used, channels)
        kernels.max_pool(x, side, out, used)
        rows, lanes = (used, used * channels) if plan.narrow else (used * used, channels)
        scale, shift = work.lanes[1, :lanes], work.lanes[2, :lanes]
        for n in range(lanes):
            scale[n] = norms[0, 0, n] * (rate if block == 0 else F(1))
            shift[n] = norms[0, 1, n] - (mean * scale[n] if block == 0 else F(0))
        kernels.norm_gelu_twice(out.reshape(rows, lanes), rows, scale, shift, norms[1, 0, :lanes], norms[1, 1, :lanes])
        x, side = out, used
