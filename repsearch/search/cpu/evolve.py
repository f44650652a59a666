"""The evolution of one block on a CPU, compiled by Numba: one thread per image; any reading that the fused path serves.

The mates are the candidates that children descend from: the parents and, with R11, the explorers. A mate is stored as
`base` with a scale and a shift: with R2 `child`, smoothing commutes with crossover, so mates are smoothed once and a
child is

    S(½ (H_p1 + H_p2) + ε) = ½ (S H_p1 + S H_p2) + S ε,    S H = scale · base - shift · S 1

(`noise`: the same without the S of the parents). The child's fitness needs only its mean, its variance and its
max-pooled positions: normalisation is affine and increasing, so it commutes with max-pooling and is merged into the
next BatchNorm. Refiners are not kept: one that is selected is made again, from the same random numbers. Where parents
are scored again in every generation (R3 `trajectory`), their maps are kept, and that of every selected child is made.

Channels are taken sixteen at a time (`kernels`). Of one block of channels after the other, all explorers are made, then
all refiners: so a block of all mates stays in a core's second cache, and a child's block in its first.
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
from repsearch.search.cpu.compiling import F, U, announce, compiled, exact, internal
from repsearch.search.cpu.lanes import LANES, fill, load, root, store, total
from repsearch.search.cpu.normals import normals, philox
from repsearch.search.cpu.selection import assign_slots, cross_entropy, lowest, score_again
from repsearch.search.network import Tail
from repsearch.search.randomness import Purpose
from repsearch.search.recipe import Recipe

_PURPOSES, _NOISE, _PAIR = len(Purpose), int(Purpose.NOISE), int(Purpose.PAIR)


class Plan(NamedTuple):
    """What is the same for all images of one search layer."""

    side: int
    channels: int
    blocks: int  # of 16 channels, the last one filled up with zeros
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
    norms: NDArray[np.float32]  # [rows, blocks · later_blocks · 4, 16]: scale, shift, scale, shift of the BatchNorms
    reevaluate: bool  # R3: as the rows, see `network.Tail`
    head: NDArray[np.float32]  # [K, features], features in the order (block of channels, position, channel)
    bias: NDArray[np.float32]  # [K]
    key: tuple[int, int]  # of the random numbers: the seed's halves
    layer: int


class Mates(NamedTuple):
    """Candidates that children descend from, by slot. Rows of `base` run over (block of channels, slot, position)."""

    base: NDArray[np.float32]  # [blocks · slots · positions, 16]
    scale: NDArray[np.float32]  # [slots]
    shift: NDArray[np.float32]  # [slots]
    sigma: NDArray[np.float32]  # [blocks · slots, 16], standard deviation per channel before scaling and smoothing


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
    batch, _, channels, side = parents.shape[:4]
    plan = plan_for(tail, recipe, layer, channels, side)
    best = torch.empty_like(parents[:, 0])
    history = torch.empty(batch, plan.generations)

    def evolve_image(b: int) -> None:
        maps = _to_blocks(parents[b].flatten(2).transpose(1, 2))
        found = _evolve(maps.numpy(), loss[b].numpy(), int(labels[b]), int(indices[b]), plan, history[b].numpy())
        best[b] = maps[found].transpose(1, 2).flatten(0, 1)[:channels].view(channels, side, side)

    announce(_evolve)
    with ThreadPoolExecutor(min(batch, torch.get_num_threads())) as threads:
        list(threads.map(evolve_image, range(batch)))
    return best, history


def _to_blocks(x: Tensor) -> Tensor:
    """[n, positions, C] → a copy [n, blocks of 16 channels, positions, 16], filled up with zeros."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[2] % LANES))
    return padded.unflatten(2, (-1, LANES)).transpose(1, 2).clone(memory_format=torch.contiguous_format)


def plan_for(tail: Tail, recipe: Recipe, layer: int, channels: int, side: int) -> Plan:
    """The plan for block `layer`, whose maps have `channels` channels and `side` × `side` positions."""
    settings, later_blocks = recipe.layers[layer], tail.blocks
    ones = op.smoothing_matrix(side, settings.blur, recipe.count_padding).sum(1)
    smoothed_one = torch.outer(ones, ones).flatten().float()
    sides = [side]
    for _ in range(later_blocks):
        sides.append(sides[-1] // 2)
    # The next max-pooling drops the last row and column of an odd side.
    used = [s // 2 * 2 for s in sides[1:-1]] + sides[-1:]
    finite = bool(tail.norms.isfinite().all())  # GELU hides NaN
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
        _to_blocks(tail.norms.flatten(1, 3)).flatten(1, 2).numpy(),
        tail.reevaluate,
        _to_blocks(tail.head).flatten(1).numpy(),
        (tail.bias if finite else torch.full_like(tail.bias, torch.nan)).numpy(),
        (recipe.seed & 0xFFFFFFFF, recipe.seed >> 32),
        layer,
    )


@compiled
def _evolve(maps, loss, label, image, plan, history):  # type: ignore[no-untyped-def]
    """One image. maps: [k, blocks, positions, 16], overwritten; loss: [k]. Fills history and returns the best's place.

    A place of `maps` has a map before smoothing and after normalisation: one for each parent if parents are scored
    again, else one for the best.
    """
    parents, blocks, positions, _ = maps.shape
    children = plan.explorers + plan.refiners
    rescored = parents if plan.reevaluate else 0  # how many parents every generation scores again
    kept = plan.explorers if plan.mate_explorers else 0  # the first children, which are mates
    slots = 2 * parents + kept
    mates = Mates(
        _rows(blocks * slots * positions),
        np.ones(slots, np.float32),
        np.zeros(slots, np.float32),
        _rows(blocks * slots),
    )
    size = plan.sides[0] ** 2
    pooled = _rows(max(plan.explorers, plan.refiners, parents) * blocks * size)
    features = _rows((children + rescored + 3) // 4 * 4 * blocks * plan.sides[-1] ** 2)
    features[:] = F(0)
    rows = features.reshape(-1, plan.head.shape[1])
    logits = np.empty((len(rows), len(plan.head)), np.float32)
    losses = np.empty(parents + children, np.float32)
    losses[:parents] = loss
    mean, rate = np.zeros(children + rescored, np.float32), np.ones(children + rescored, np.float32)
    pairs = np.empty((children, 2), np.int64)  # of slots
    where = np.empty(parents + kept, np.int64)  # mate → slot
    order, chosen = np.empty(parents, np.int64), np.empty(parents, np.int64)
    remade, slot_of = np.empty(parents, np.int64), np.empty(parents, np.int64)
    place_of, places, selected = np.arange(parents), np.zeros(parents, np.int64), np.empty(parents, np.int64)
    numbers = np.arange(children + rescored)
    explorers, refiners, old = numbers[: plan.explorers], numbers[plan.explorers : children], numbers[children:]
    scratch = _rows(positions)
    where[:parents] = np.arange(parents)
    _enter(maps, mates, plan)

    for generation in range(1, plan.generations + 1):
        time = U((plan.layer << 24) | generation)
        taken = np.zeros(slots, np.bool_)
        for p in range(parents):
            taken[where[p]] = True
        for n in range(kept):
            where[parents + n] = _next_free(taken)
        for n in range(children):
            count = parents if n < plan.explorers else parents + kept
            w0, w1, _, _ = philox(U(0), U(n * _PURPOSES + _PAIR), U(image), time, U(plan.key[0]), U(plan.key[1]))
            pairs[n, 0] = where[np.int64((w0 * U(count)) >> U(32))]
            pairs[n, 1] = where[np.int64((w1 * U(count)) >> U(32))]
        _make(explorers, pairs, where[parents:], scratch, U(image), time, mean, rate, pooled, mates, plan)
        norms = plan.norms[min(generation, len(plan.norms)) - 1]
        _forward(explorers, mean, rate, pooled, features, norms, plan)
        _make(refiners, pairs, where[:0], scratch, U(image), time, mean, rate, pooled, mates, plan)
        _forward(refiners, mean, rate, pooled, features, norms, plan)
        for i in range(rescored * blocks):
            kernels.max_pool(maps.reshape(-1, LANES), i * positions, plan.side, pooled, i * size, plan.sides[0])
        _forward(old, mean, rate, pooled, features, norms, plan)
        kernels.head_logits(rows, plan.head, logits)
        _evaluate(logits, plan.bias, label, mean, rate, losses[parents:])
        if plan.reevaluate:
            score_again(logits[children:], plan.bias, label, place_of, losses)

        last = generation == plan.generations
        wanted = 1 if last else parents
        lowest(losses, order[:wanted])
        history[generation - 1] = losses[order[0]]
        if plan.reevaluate:
            new = assign_slots(order[:wanted], place_of, places, selected, losses)
        else:  # to place 0
            new, selected[0] = int(order[0] >= parents), order[0] - parents
            losses[:wanted] = losses[order[:wanted]]
        for r in range(new):
            n, out = selected[r], maps[places[r]].reshape(-1, LANES)
            _make(numbers[n : n + 1], pairs, where[:0], out, U(image), time, mean, rate, pooled, mates, plan)
            kernels.normalise(out, mean[n], rate[n])
        if last:
            break
        again = 0  # how many children are made again, in slots that this generation's mates don't need
        for rank in range(parents):
            if order[rank] < parents + kept:
                chosen[rank] = where[order[rank]]
            else:
                remade[again], slot_of[again] = order[rank] - parents, _next_free(taken)
                chosen[rank] = slot_of[again]
                again += 1
        if again:
            to = slot_of[:again]
            _make(remade[:again], pairs, to, scratch, U(image), time, mean, rate, pooled, mates, plan)
        where[:parents] = chosen
    return place_of[0]


@internal
def _rows(count):  # type: ignore[no-untyped-def]
    """An array [count, 16] whose rows begin where a line of the cache does, so that a row is read at once."""
    numbers = np.empty((count + 1) * LANES, np.float32)
    start = -(numbers.ctypes.data // 4) % LANES
    return numbers[start : start + count * LANES].reshape(count, LANES)


@internal
def _next_free(taken):  # type: ignore[no-untyped-def]
    """The first slot that is not taken, which it then is."""
    slot = 0
    while taken[slot]:
        slot += 1
    taken[slot] = True
    return slot


@internal
def _enter(maps, mates, plan):  # type: ignore[no-untyped-def]
    """Makes mates of the first parents, in slots 0 to k - 1."""
    parents, blocks, positions, _ = maps.shape
    flat, slots = maps.reshape(-1, LANES), len(mates.scale)
    for block in range(blocks):
        for p in range(parents):
            row = (block * slots + p) * positions
            kernels.copy(flat, (p * blocks + block) * positions, mates.base, row, positions)
            store(mates.sigma, block * slots + p, root(kernels.variance(mates.base, row, 1, positions)))
            if plan.smooth_child:
                kernels.smooth(mates.base, row, 1, plan.side, plan.passes, plan.edge)


@internal
def _make(numbers, pairs, to, out, image, time, mean, rate, pooled, mates, plan):  # type: ignore[no-untyped-def]
    """A.4: crossover, mutation and smoothing of the children of these numbers, before normalisation.

    Of each its mean and 1 / √(variance + 1e-5), and its map, max-pooled as the next block of the network does, to
    `pooled`, in the order (child, block of channels, position). to: the slots in which they become mates; or [0], then
    they are written to out [blocks · positions, 16], or one block over the other to [positions, 16].
    """
    base, sigma, scale, shift, inside = mates.base, mates.sigma, mates.scale, mates.shift, plan.inside
    smoothed_one, mask = plan.smoothed_one, plan.shift_mask
    slots, side, positions, pooled_side = len(scale), plan.side, plan.side**2, plan.sides[0]
    key0, key1 = U(plan.key[0]), U(plan.key[1])
    noise, words, small = _rows(positions + 3), _rows(side * (side + 3)), _rows(4)
    means, squares = np.zeros(len(numbers)), np.zeros(len(numbers))
    become_mates = len(to) > 0
    target = base if become_mates else out
    for block in range(plan.blocks):
        for i in range(len(numbers)):
            n = numbers[i]
            first, second = pairs[n, 0], pairs[n, 1]
            half = F(0.5) * (plan.explore if n < plan.explorers else plan.refine)
            strength = load(sigma, block * slots + first) * (half * scale[first])
            strength = load(sigma, block * slots + second) * (half * scale[second]) + strength
            random = U(n * _PURPOSES + _NOISE)
            if plan.element:
                normals(noise, words, side, side, block * LANES, random, image, time, key0, key1)
                kernels.smooth(noise, 0, 1, side, plan.passes, plan.edge)
            else:
                normals(noise, words, 1, 1, block * LANES, random, image, time, key0, key1)
                strength = strength * load(noise, 0)
                for s in range(positions):
                    store(noise, s, fill(smoothed_one[s]))
            store(small, 0, strength)
            store(small, 1, load(inside, block) * (F(-0.5) * (shift[first] + shift[second])))
            if become_mates:
                row = (block * slots + to[i]) * positions
            else:
                row = block * positions if len(out) > positions else 0
            rows = (block * slots + first) * positions, (block * slots + second) * positions
            kernels.mix(base, *rows, F(0.5) * scale[first], F(0.5) * scale[second], noise, small, mask, target, row)
            average, variance = load(small, 2), load(small, 3)
            means[i] += total(average)
            squares[i] += total(average * average + variance)
            position = (i * plan.blocks + block) * pooled_side**2
            if plan.later_blocks:
                kernels.max_pool(target, row, side, pooled, position, pooled_side)
            else:
                kernels.copy(target, row, pooled, position, positions)
            if become_mates:
                store(sigma, block * slots + to[i], root(variance))
                if plan.smooth_child:
                    kernels.smooth(base, row, 1, side, plan.passes, plan.edge)
    for i in range(len(numbers)):
        n, average = numbers[i], means[i] / plan.channels
        mean[n] = average
        rate[n] = 1.0 / np.sqrt(max(squares[i] / plan.channels - average * average, 0.0) + op.EPSILON)
        if become_mates:
            scale[to[i]], shift[to[i]] = rate[n], rate[n] * mean[n]


@internal
def _forward(numbers, mean, rate, pooled, features, norms, plan):  # type: ignore[no-untyped-def]
    """The tail of the network up to the head, with the BatchNorms `norms`: the features of candidates of these numbers.

    The parents have the numbers after the children's, by place.
    """
    sides, blocks = plan.sides, plan.blocks
    for i in range(len(numbers)):
        n = numbers[i]
        for block in range(blocks):
            row, to = (i * blocks + block) * sides[0] ** 2, (n * blocks + block) * sides[-1] ** 2
            norm = block * plan.later_blocks * 4
            kernels.tail(pooled, row, sides, plan.later_blocks, norms, norm, mean[n], rate[n], features, to)


@exact
def _evaluate(logits, bias, label, mean, rate, losses):  # type: ignore[no-untyped-def]
    """losses ← each child's cross-entropy; NaN for one whose mean or variance is not finite, since GELU hides NaN."""
    for n in range(len(losses)):
        finite = np.isfinite(mean[n]) and np.isfinite(rate[n])
        losses[n] = cross_entropy(logits[n], bias, label) if finite else F(np.nan)
