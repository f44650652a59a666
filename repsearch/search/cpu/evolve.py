"""The evolution of one block on a CPU, compiled by Numba: one thread per image; any reading that the fused path serves.

The mates are the candidates that children descend from: the parents and, with R11, the explorers. A mate is stored as
`base` with a scale and a shift: with R2 `child`, smoothing commutes with crossover, so mates are smoothed once and a
child is

    S(½ (H_p1 + H_p2) + ε) = ½ (S H_p1 + S H_p2) + S ε,    S H = scale · base - shift · S 1

(`noise`: the same without the S of the parents). The child's fitness needs only its mean, its variance and its
max-pooled positions: normalisation is affine and increasing, so it commutes with max-pooling and is merged into the
next BatchNorm. Refiners are not kept: one that is selected is made again, from the same random numbers.

Channels are taken sixteen at a time (`kernels`). Of one block of channels after the other, all explorers are made, then
all refiners: so a block of all mates stays in a core's second cache, and a child's block in its first.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repsearch.search import operators as op
from repsearch.search.cpu import kernels
from repsearch.search.cpu.compiling import F, U, compiled, exact
from repsearch.search.cpu.lanes import LANES, fill, load, root, store, total
from repsearch.search.cpu.normals import normals, philox
from repsearch.search.network import Tail
from repsearch.search.randomness import Purpose
from repsearch.search.recipe import Recipe

_PURPOSES, _NOISE, _PAIR = len(Purpose), int(Purpose.NOISE), int(Purpose.PAIR)


class Plan(NamedTuple):
    """What is the same for all images of one search layer. blocks: of 16 channels, the last one filled up with zeros."""

    side: int
    channels: int
    blocks: int
    generations: int
    explorers: int
    refiners: int
    explore: np.float32  # α · boost
    refine: np.float32  # α
    mate_explorers: bool  # R11
    element: bool  # R1
    smooth_child: bool  # R2
    passes: int
    edge: np.float32  # of `kernels.smooth`
    smoothed_one: NDArray[np.float32]  # [positions], S 1
    shift_mask: NDArray[np.float32]  # [positions], what a mate's shift is multiplied by: S 1 with R2 `child`, else 1
    inside: NDArray[np.float32]  # [blocks, 16], 1 for a channel, 0 for what fills up the last block
    sides: NDArray[np.int64]  # of the maps in the blocks of the network after this one; if there are none, this one's
    later_blocks: int  # of the network
    norms: NDArray[np.float32]  # [blocks · later_blocks · 4, 16]: scale, shift, scale, shift of the BatchNorms
    head: NDArray[np.float32]  # [K, features], features in the order (block of channels, position, channel)
    bias: NDArray[np.float32]  # [K]
    key: tuple[int, int]  # of the random numbers: the seed's halves
    layer: int


class Mates(NamedTuple):
    """Candidates that children descend from, by slot. Rows of `base` run over (block of channels, slot, position)."""

    base: NDArray[np.float32]  # [rows, 16]; after the last slot, room for one block
    scale: NDArray[np.float32]  # [slots]
    shift: NDArray[np.float32]  # [slots]
    sigma: NDArray[np.float32]  # [blocks · slots, 16], standard deviation per channel before scaling and smoothing


class Workspace(NamedTuple):
    """Arrays that the work on one block of one child overwrites."""

    noise: NDArray[np.float32]  # [positions + 3, 16]
    strength: NDArray[np.float32]  # [1, 16]
    move: NDArray[np.float32]  # [1, 16]
    moments: NDArray[np.float32]  # [2, 16], the child's mean and variance per channel


def evolve(
    tail: Tail, labels: Tensor, recipe: Recipe, indices: Tensor, layer: int, parents: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """The generations of one block, as `search.evolution.Evolution.generations` computes them.

    parents: [B, k, C, H, W] float32, best first; loss: [B, k]. Returns the best candidate [B, C, H, W] and its
    cross-entropy after each generation [B, generations]. Images share `torch.get_num_threads()` threads.
    """
    batch, count, channels, side = parents.shape[:4]
    plan = plan_for(tail, recipe, layer, channels, side)
    best = torch.empty_like(parents[:, 0])
    history = torch.empty(batch, plan.generations)

    def evolve_image(b: int) -> None:
        maps = _to_blocks(parents[b].flatten(2).transpose(1, 2)).numpy()
        found = np.empty((plan.blocks * side**2, LANES), np.float32)
        _evolve(maps, loss[b].numpy(), int(labels[b]), int(indices[b]), plan, found, history[b].numpy())
        positions = torch.from_numpy(found).view(plan.blocks, side * side, LANES)
        best[b] = positions.transpose(1, 2).flatten(0, 1)[:channels].view(channels, side, side)

    with ThreadPoolExecutor(min(batch, torch.get_num_threads())) as threads:
        list(threads.map(evolve_image, range(batch)))
    return best, history


def _to_blocks(x: Tensor) -> Tensor:
    """[n, positions, C] → [blocks of 16 channels, n, positions, 16], filled up with zeros."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[2] % LANES))
    return padded.unflatten(2, (-1, LANES)).permute(2, 0, 1, 3).contiguous()


def plan_for(tail: Tail, recipe: Recipe, layer: int, channels: int, side: int) -> Plan:
    """The plan for block `layer`, whose maps have `channels` channels and `side` × `side` positions."""
    settings, later_blocks = recipe.layers[layer], len(tail.norms)
    ones = op.smoothing_matrix(side, settings.blur, recipe.count_padding).sum(1)
    smoothed_one = torch.outer(ones, ones).flatten().float()
    sides = [side]
    for _ in range(later_blocks):
        sides.append(sides[-1] // 2)
    # The next max-pooling drops the last row and column of an odd side.
    used = [s // 2 * 2 for s in sides[1:-1]] + sides[-1:]
    return Plan(
        side,
        channels,
        -(-channels // LANES),
        settings.generations,
        recipe.explorers,
        recipe.refiners,
        F(settings.alpha * settings.boost),
        F(settings.alpha),
        recipe.refine_from == "parents+explorers",
        recipe.mutation == "element",
        recipe.smooth == "child",
        settings.blur,
        F(kernels.edge_weight(side, recipe.count_padding)),
        smoothed_one.numpy(),
        (smoothed_one if recipe.smooth == "child" else torch.ones(side * side)).numpy(),
        _to_blocks(torch.ones(1, 1, channels)).view(-1, LANES).numpy(),
        np.array(used, np.int64),
        later_blocks,
        _to_blocks(tail.norms.view(1, -1, channels)).view(-1, LANES).numpy(),
        _to_blocks(tail.head).transpose(0, 1).flatten(1).contiguous().numpy(),
        tail.bias.numpy(),
        (recipe.seed & 0xFFFFFFFF, recipe.seed >> 32),
        layer,
    )


@compiled
def _evolve(maps, loss, label, image, plan, best, history):  # type: ignore[no-untyped-def]
    """One image. maps: [blocks, k, positions, 16]; loss: [k]. Fills best [blocks · positions, 16] and history."""
    blocks, parents, positions, _ = maps.shape
    children = plan.explorers + plan.refiners
    kept = plan.explorers if plan.mate_explorers else 0  # the first children, which are mates
    slots = 2 * parents + kept
    mates = Mates(
        np.empty((blocks * slots * positions + positions, LANES), np.float32),
        np.ones(slots, np.float32),
        np.zeros(slots, np.float32),
        np.empty((blocks * slots, LANES), np.float32),
    )
    work = Workspace(
        np.zeros((positions + 3, LANES), np.float32),
        np.empty((1, LANES), np.float32),
        np.empty((1, LANES), np.float32),
        np.empty((2, LANES), np.float32),
    )
    pooled = np.empty((max(plan.explorers, plan.refiners) * blocks * plan.sides[0] ** 2, LANES), np.float32)
    features = np.zeros(((children + 3) // 4 * 4 * blocks * plan.sides[-1] ** 2, LANES), np.float32)
    rows = features.reshape(-1, plan.head.shape[1])
    logits = np.empty((len(rows), len(plan.head)), np.float32)
    losses = np.empty(parents + children, np.float32)
    losses[:parents] = loss
    mean, rate = np.empty(children, np.float32), np.empty(children, np.float32)
    pairs = np.empty((children, 2), np.int64)  # of slots
    where = np.empty(parents + kept, np.int64)  # mate → slot
    order, chosen = np.empty(parents, np.int64), np.empty(parents, np.int64)
    for p in range(parents):
        where[p] = p
        for block in range(blocks):
            if p == 0:
                kernels.copy(maps[block, 0], 0, best, block * positions, positions)
            _enter_parent(maps[block, p], block, p, mates, work, plan)

    for generation in range(1, plan.generations + 1):
        time = U((plan.layer << 24) | generation)
        taken = np.zeros(slots, np.bool_)
        for p in range(parents):
            taken[where[p]] = True
        free = 0
        for n in range(kept):
            free = _next_free(taken, free)
            where[parents + n] = free
        for n in range(children):
            count = parents if n < plan.explorers else parents + kept
            w0, w1, _, _ = philox(U(0), U(n * _PURPOSES + _PAIR), U(image), time, U(plan.key[0]), U(plan.key[1]))
            pairs[n, 0] = where[np.int64((w0 * U(count)) >> U(32))]
            pairs[n, 1] = where[np.int64((w1 * U(count)) >> U(32))]
        _score(0, plan.explorers, pairs, where[parents:], image, time, mean, rate, pooled, features, mates, work, plan)
        nowhere = where[:0]
        _score(plan.explorers, children, pairs, nowhere, image, time, mean, rate, pooled, features, mates, work, plan)
        kernels.head_logits(rows, plan.head, logits)
        for n in range(children):
            losses[parents + n] = _cross_entropy(logits[n], plan.bias, label, mean[n], rate[n])

        last = generation == plan.generations
        wanted = 1 if last else parents
        _lowest(losses, order[:wanted])
        history[generation - 1] = losses[order[0]]
        if order[0] >= parents:
            _normal_child(order[0] - parents, pairs, image, time, mean, rate, best, mates, work, plan)
        if last:
            break
        for rank in range(parents):
            n = order[rank] - parents
            if n < kept:
                chosen[rank] = where[order[rank]]
                continue
            free = _next_free(taken, free)  # all of this generation's mates are needed until children are made again
            chosen[rank] = free
            for block in range(blocks):
                row = (block * slots + free) * positions
                _make(n, pairs[n], block, row, image, time, mates, work, plan)
                _keep(block, free, mates, work, plan)
            mates.scale[free], mates.shift[free] = rate[n], rate[n] * mean[n]
        losses[:parents] = losses[order]
        where[:parents] = chosen


@compiled
def _next_free(taken, start):  # type: ignore[no-untyped-def]
    """The first slot from `start` on that is not taken, which it then is."""
    while taken[start]:
        start += 1
    taken[start] = True
    return start


@exact
def _lowest(losses, order):  # type: ignore[no-untyped-def]
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


@compiled
def _enter_parent(parent, block, slot, mates, work, plan):  # type: ignore[no-untyped-def]
    """Makes a mate of one block [positions, 16] of a first parent."""
    positions = len(parent)
    row = (block * len(mates.scale) + slot) * positions
    kernels.copy(parent, 0, mates.base, row, positions)
    for n in range(LANES):
        work.strength[0, n] = work.move[0, n] = F(0)
    kernels.mix(
        mates.base, row, row, F(1), F(0), work.noise, work.strength, work.move, plan.shift_mask, row, work.moments
    )
    _keep(block, slot, mates, work, plan)


@compiled
def _keep(block, slot, mates, work, plan):  # type: ignore[no-untyped-def]
    """Makes a mate of the block of a child that was just made in its slot."""
    slots, positions = len(mates.scale), plan.side**2
    if plan.smooth_child:
        kernels.smooth(mates.base, (block * slots + slot) * positions, plan.side, plan.passes, plan.edge)
    store(mates.sigma, block * slots + slot, root(load(work.moments, 1)))


@compiled
def _make(n, pair, block, row, image, time, mates, work, plan):  # type: ignore[no-untyped-def]
    """A.4: crossover, mutation and smoothing of one block of child number n, before normalisation.

    It is written to `row` of mates.base, its moments to work.moments.
    """
    slots, positions, first, second = len(mates.scale), plan.side**2, pair[0], pair[1]
    slot, key0, key1 = U(n * _PURPOSES + _NOISE), U(plan.key[0]), U(plan.key[1])
    half = F(0.5) * (plan.explore if n < plan.explorers else plan.refine)
    strength = load(mates.sigma, block * slots + first) * (half * mates.scale[first])
    strength = strength + load(mates.sigma, block * slots + second) * (half * mates.scale[second])
    if plan.element:
        normals(work.noise, plan.side, plan.side, block * LANES, slot, image, time, key0, key1)
        kernels.smooth(work.noise, 0, plan.side, plan.passes, plan.edge)
    else:
        normals(work.noise, 1, 1, block * LANES, slot, image, time, key0, key1)
        strength = strength * load(work.noise, 0)
        for s in range(positions):
            store(work.noise, s, fill(plan.smoothed_one[s]))
    store(work.strength, 0, strength)
    store(work.move, 0, load(plan.inside, block) * (F(-0.5) * (mates.shift[first] + mates.shift[second])))
    kernels.mix(
        mates.base,
        (block * slots + first) * positions,
        (block * slots + second) * positions,
        F(0.5) * mates.scale[first],
        F(0.5) * mates.scale[second],
        work.noise,
        work.strength,
        work.move,
        plan.shift_mask,
        row,
        work.moments,
    )


@compiled
def _score(start, stop, pairs, where, image, time, mean, rate, pooled, features, mates, work, plan):  # type: ignore[no-untyped-def]
    """Makes children `start` to `stop` - 1, and from each its features, its mean and 1 / √(variance + 1e-5).

    where: [stop - start], the slots of those that are mates, or [0] if none are.
    """
    blocks, slots, positions = plan.blocks, len(mates.scale), plan.side**2
    size, last = plan.sides[0] ** 2, plan.sides[-1] ** 2  # positions of the max-pooled maps and of the features
    means, squares = np.zeros(stop - start), np.zeros(stop - start)
    for block in range(blocks):
        for i in range(stop - start):
            row = (block * slots + where[i] if len(where) else blocks * slots) * positions
            _make(start + i, pairs[start + i], block, row, image, time, mates, work, plan)
            to = (i * blocks + block) * size
            if plan.later_blocks:
                kernels.max_pool(mates.base, row, plan.side, pooled, to, plan.sides[0])
            else:
                kernels.copy(mates.base, row, pooled, to, positions)
            average = load(work.moments, 0)
            means[i] += total(average)
            squares[i] += total(average * average + load(work.moments, 1))
            if len(where):
                _keep(block, where[i], mates, work, plan)
    for i in range(stop - start):
        n, average = start + i, means[i] / plan.channels
        mean[n] = average
        rate[n] = 1.0 / np.sqrt(max(squares[i] / plan.channels - average * average, 0.0) + op.EPSILON)
        if len(where):
            mates.scale[where[i]], mates.shift[where[i]] = rate[n], rate[n] * mean[n]
        for block in range(blocks):
            at, norm = (i * blocks + block) * size, block * plan.later_blocks * 4
            to = (n * blocks + block) * last
            kernels.tail(pooled, at, plan.sides, plan.later_blocks, plan.norms, norm, mean[n], rate[n], features, to)


@compiled
def _normal_child(n, pairs, image, time, mean, rate, out, mates, work, plan):  # type: ignore[no-untyped-def]
    """Child number n, made again and normalised, into out [blocks · positions, 16]."""
    positions = plan.side**2
    scratch = plan.blocks * len(mates.scale) * positions
    for block in range(plan.blocks):
        _make(n, pairs[n], block, scratch, image, time, mates, work, plan)
        for s in range(positions):
            store(out, block * positions + s, (load(mates.base, scratch + s) - fill(mean[n])) * rate[n])


@exact
def _cross_entropy(logits, bias, label, mean, rate):  # type: ignore[no-untyped-def]
    """-log softmax(logits + bias)[label], in double precision; NaN for a child whose mean or variance isn't finite."""
    if not (np.isfinite(mean) and np.isfinite(rate)):
        return F(np.nan)
    high = np.float64(logits[0] + bias[0])
    for k in range(1, len(logits)):
        high = max(high, np.float64(logits[k] + bias[k]))
    partition = 0.0
    for k in range(len(logits)):
        partition += np.exp(np.float64(logits[k] + bias[k]) - high)
    return F(high + np.log(partition) - np.float64(logits[label] + bias[label]))
