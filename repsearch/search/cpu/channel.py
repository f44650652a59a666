"""The evolution of one block on a CPU for R1 `channel` and R2 `child`: children are scored without being made.

With one noise value per channel and smoothing of whole children, a child is linear in the parents' maps smoothed once
and twice. `covariances` has its mean and variance from those of the parents, `tiles` its features in one pass over
tiles of the parents' maps, `linear` the logits in the last block. A selected child is written; only then are its
smoothed maps and covariances computed. The results are those of `evolve`, up to rounding.

Memory per image, in numbers of 4 bytes, for k parents, n children, C channels and s positions:
3 k s C for the maps and k² C for the covariances, n C (3 + s / 16) for the terms and features of the children.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional
from numpy.typing import NDArray
from torch import Tensor

from repsearch.search import operators as op
from repsearch.search.cpu import covariances, kernels, linear, tiles
from repsearch.search.cpu.covariances import Covariances, Masks, Mates
from repsearch.search.cpu.kernels import F, U, compiled, exact, philox
from repsearch.search.cpu.lanes import LANES
from repsearch.search.cpu.selection import assign_slots, cross_entropy, lowest
from repsearch.search.cpu.tiles import BATCH, TILE, Children
from repsearch.search.network import Tail
from repsearch.search.randomness import Purpose
from repsearch.search.recipe import Recipe

_PURPOSES, _NOISE, _PAIR = len(Purpose), int(Purpose.NOISE), int(Purpose.PAIR)


class Plan(NamedTuple):
    """What is the same for all images of one search layer. C: the channels, in whole lanes."""

    channels: int
    generations: int
    explorers: int
    refiners: int
    explore: np.float32  # α · boost
    refine: np.float32  # α
    mate_explorers: bool  # R11
    matrix: NDArray[np.float32]  # [side, side], one axis of the smoothing
    reach: int
    order: NDArray[np.int64]  # of the positions, in tiles
    used: int  # how many of them reach the head
    masks: Masks
    norms: NDArray[np.float32]  # [4 · blocks after this one, C / 16, 16]: scale and shift of each BatchNorm
    head: NDArray[np.float32]  # [K, features]
    weights: NDArray[np.float32]  # [K, positions · C] of the last block: the network's head
    bias: NDArray[np.float32]  # [K]
    key: tuple[int, int]  # of the random numbers: the seed's halves
    layer: int


def evolve(
    tail: Tail, labels: Tensor, recipe: Recipe, indices: Tensor, layer: int, parents: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """The generations of one block, as `cpu.evolve.evolve` computes them for any recipe."""
    batch, count, channels, side = parents.shape[:4]
    plan = plan_for(tail, recipe, layer, count, channels, side)
    maps = _in_lanes(parents.flatten(3).transpose(2, 3)).unflatten(-1, (-1, LANES)).numpy()
    best = np.empty((batch, *maps.shape[2:]), np.float32)
    history = np.empty((batch, plan.generations), np.float32)

    def evolve_image(b: int) -> None:
        _evolve(maps[b], loss[b].numpy(), int(labels[b]), int(indices[b]), plan, best[b], history[b])

    with ThreadPoolExecutor(min(batch, torch.get_num_threads())) as threads:
        list(threads.map(evolve_image, range(batch)))
    found = torch.from_numpy(best).flatten(2)[..., :channels].transpose(1, 2).unflatten(2, (side, side))
    return found.contiguous(), torch.from_numpy(history)


def plan_for(tail: Tail, recipe: Recipe, layer: int, parents: int, channels: int, side: int) -> Plan:
    """The plan for block `layer`, whose maps have `channels` channels and `side` × `side` positions."""
    settings = recipe.layers[layer]
    matrix = op.smoothing_matrix(side, settings.blur, recipe.count_padding)
    order, used = tiles.order_of_positions(side, len(tail.norms))
    ones = matrix.sum(1)
    once, twice = (torch.outer(line, line).flatten() for line in (ones, matrix @ ones))
    smoothed = torch.stack([once, twice])[:, torch.from_numpy(order)]
    means = smoothed.mean(1, keepdim=True)
    centred = smoothed - means
    products = centred @ centred.T / len(order)
    masks = Masks(
        torch.nn.functional.pad(centred, (0, -len(order) % TILE)).float().numpy(),
        means.flatten().float().numpy(),
        products[[0, 0, 1], [0, 1, 1]].float().numpy(),
        _in_lanes(torch.ones(channels)).view(-1, LANES).numpy(),
    )
    weights = _in_lanes(tail.head)  # [K, positions, C]
    if len(tail.norms):
        head = weights.unflatten(2, (-1, LANES)).transpose(1, 2)
    else:  # `linear`
        by_mask = torch.einsum("kpc,mp->kmc", weights.double(), smoothed[:, torch.from_numpy(order).argsort()])
        columns = weights.new_zeros(len(weights), 2 * parents)
        head = torch.cat([by_mask.flatten(1).float(), columns, weights.flatten(1).sum(1, keepdim=True)], 1)
    finite = bool(tail.norms.isfinite().all())  # the compiled code does not see NaN
    return Plan(
        channels,
        settings.generations,
        recipe.explorers,
        recipe.refiners,
        F(settings.alpha * settings.boost),
        F(settings.alpha),
        recipe.refine_from == "parents+explorers",
        matrix.float().numpy(),
        min(settings.blur, max(1, side - 1)),
        order,
        used,
        masks,
        _in_lanes(tail.norms).flatten(0, 2).unflatten(1, (-1, LANES)).numpy(),
        head.flatten(1).numpy(),
        weights.flatten(1).numpy(),
        (tail.bias if finite else torch.full_like(tail.bias, torch.nan)).numpy(),
        (recipe.seed & 0xFFFFFFFF, recipe.seed >> 32),
        layer,
    )


def _in_lanes(x: Tensor) -> Tensor:
    """[..., channels] → [..., C]: zeros up to whole lanes."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % LANES)).contiguous()


@compiled
def _evolve(parents, loss, label, image, plan, best, history):  # type: ignore[no-untyped-def]
    """One image. parents: [k, positions, C / 16, 16]; loss: [k]. Fills best, one of them, and history [generations]."""
    kept, positions, blocks = parents.shape[:3]
    count = plan.explorers + plan.refiners
    normal = parents.copy()
    maps = np.zeros((blocks, (positions + TILE - 1) // TILE, 2 * kept, TILE, 16), np.float32)
    of_parents = Covariances(
        np.empty((2 * kept, blocks, 16), np.float32),
        np.empty((2, 2 * kept, blocks, 16), np.float32),
        np.empty((kept, kept, blocks, 16), np.float32),
        np.zeros((2 * kept, 2 * kept), np.float64),
        np.empty((kept, kept, 4, 16), np.float32),
    )
    mates = Mates(
        np.empty((kept + plan.explorers, blocks, 16), np.float32),
        np.full(kept + plan.explorers, F(0.5)),
        np.zeros(kept + plan.explorers, np.float32),
        np.zeros((kept + plan.explorers, blocks, 16), np.float32),
        np.empty((kept + plan.explorers, 2), np.int64),
    )
    for p in range(kept):
        mates.slots[p, 0] = mates.slots[p, 1] = p
    children = Children(
        np.empty((count, 4), np.int64),
        np.empty(count, np.float32),
        np.empty(count, np.float32),
        np.empty(count, np.float32),
        np.empty((blocks, count, 3, 16), np.float32),
    )
    head = plan.head.copy()
    features = np.zeros(((count + 3) // 4 * 4, head.shape[1]), np.float32)
    logits = np.empty((len(features), len(head)), np.float32)
    losses = np.empty(kept + count, np.float32)
    losses[:kept] = loss
    order, slot_of = np.empty(kept, np.int64), np.arange(kept)
    slots, chosen, selected = np.arange(kept), np.empty(kept, np.int64), kept

    for generation in range(1, plan.generations + 1):
        _enter(slots[:selected], normal, maps, of_parents, mates, head, plan)
        time = U((plan.layer << 24) | generation)
        _conceive(children, mates, of_parents, slot_of, image, time, plan)
        _score(children, maps, head, plan.norms, features, logits, plan)
        for n in range(count):
            losses[kept + n] = _loss(children.mean[n], children.factor[n], logits[n], plan.bias, label)
        wanted = order[: 1 if generation == plan.generations else kept]
        lowest(losses, wanted)
        history[generation - 1] = losses[wanted[0]]
        losses[: len(wanted)] = losses[wanted]
        selected = assign_slots(wanted, slot_of, slots, chosen)
        for r in range(selected):
            tiles.write(children, chosen[r], maps, plan.masks.centred, plan.order, normal[slots[r]])
    best[:] = normal[slot_of[0]]


@compiled
def _enter(slots, normal, maps, of_parents, mates, head, plan):  # type: ignore[no-untyped-def]
    """Everything that children need of the new parents, whose maps have been written to `slots` of `normal`."""
    kept, positions, blocks = normal.shape[:3]
    smoothed, between = np.empty((positions, 16 * blocks), np.float32), np.empty((positions, 16 * blocks), np.float32)
    mean, variance, work = np.empty(16 * blocks, np.float32), np.empty(16 * blocks, np.float32), between[:1]
    centre, total, squares = np.empty_like(mean), np.empty_like(mean), np.empty_like(mean)
    for p in slots:
        x = normal[p].reshape(positions, 16 * blocks)
        kernels.moments(x, mean, variance, centre, total, squares)
        sigma = mates.sigma[p].reshape(16 * blocks)
        for c in range(len(sigma)):
            sigma[c] = np.sqrt(variance[c])
        for slot in (p, kept + p):
            kernels.smooth(x, smoothed, between, plan.matrix, plan.reach, work, mean)
            x = smoothed
            covariances.enter(x.reshape(positions, blocks, 16), slot, maps, of_parents, plan.masks, plan.order)
            if not len(plan.norms):
                linear.enter(x.reshape(x.size), plan.weights, 32 * blocks + slot, head)
    covariances.update(slots, maps, positions, of_parents)


@compiled
def _conceive(children, mates, of_parents, slot_of, image, time, plan):  # type: ignore[no-untyped-def]
    """All children of a generation up to normalisation (A.4), without their maps."""
    kept, blocks, key0, key1 = len(slot_of), len(plan.masks.real), U(plan.key[0]), U(plan.key[1])
    z, variance = np.empty((blocks, 16), np.float32), np.empty((blocks, 16), np.float32)
    for n in range(len(children.factor)):
        explorer = n < plan.explorers
        pool = kept if explorer or not plan.mate_explorers else kept + plan.explorers
        w0, w1, _, _ = philox(U(0), U(n * _PURPOSES + _PAIR), U(image), time, key0, key1)
        i, j = np.int64((w0 * U(pool)) >> U(32)), np.int64((w1 * U(pool)) >> U(32))
        i, j = slot_of[i] if i < kept else i, slot_of[j] if j < kept else j
        kernels.normals_by_channel(z.reshape(z.size), U(n * _PURPOSES + _NOISE), U(image), time, key0, key1)
        alpha = plan.explore if explorer else plan.refine
        if i < kept and j < kept:
            children.slots[n, 0], children.slots[n, 1], children.slots[n, 2], children.slots[n, 3] = i, j, i, j
            children.ratio[n], lead = F(0), F(0.5)
            sums = covariances.of_parents(z, alpha, i, j, mates, of_parents, plan.masks, children.terms, n, variance)
        else:
            children.slots[n, :2], children.slots[n, 2:] = mates.slots[i], mates.slots[j]
            children.ratio[n], lead = mates.factor[j] / mates.factor[i], F(0.5) * mates.factor[i]
            sums = covariances.of_mates(z, alpha, i, j, mates, of_parents, plan.masks, children.terms, n)
        covariances.normalise(sums, lead, plan.channels, plan.masks, children, n)
        if explorer and plan.mate_explorers:
            covariances.add_mate(kept + n, n, variance, kept, mates, children)


@compiled
def _score(children, maps, head, norms, features, logits, plan):  # type: ignore[no-untyped-def]
    """The children's logits without the bias, by a network with the BatchNorms `norms`."""
    if len(norms):
        blocks, positions = maps.shape[0], features.shape[1] // (16 * maps.shape[0])
        work = np.empty((BATCH, 4, 16), np.float32)
        pooled = np.empty((len(children.factor), positions, 16), np.float32)
        in_lanes = features.reshape(len(features), blocks * positions, 16)
        tiles.features_of(children, maps, plan.masks.centred, plan.used, norms, work, pooled, in_lanes)
    else:
        linear.features_of(children, features)
    kernels.head_logits(features, head, logits)


@exact
def _loss(mean, factor, logits, bias, label):  # type: ignore[no-untyped-def]
    """Of a child; NaN where its map is not finite, which the rest of the arithmetic does not see."""
    if not (np.isfinite(mean) and np.isfinite(factor)):
        return F(np.nan)
    return cross_entropy(logits, bias, label)
