"""The evolution of one block on a CPU for R1 `channel` and R2 `child`: children are scored without being made.

With one noise value per channel and smoothing of whole children, a child is linear in the parents' maps smoothed once
and twice. `covariances` has its mean and variance from those of the parents, `tiles` its features in one pass over
tiles of the parents' maps, `linear` the logits in the last block. A selected child is written; only then are its
smoothed maps and covariances computed. The results are those of `evolve`, up to rounding.

Where BatchNorm changes with the generation (R3 `trajectory`), parents are scored again with the children, from their
largest values in each window of max-pooling, which are kept while they live.

Memory per image: 18 MiB for block 0 of the paper's network and population, 19 with `trajectory` (`evolve`: 41 MiB), 7
for block 1, 3 for block 2; most of it for the parents, as they are and smoothed once and twice. The first use compiles
for about 20 seconds of one core's time; the result is stored.

`evolve` takes one image after the other through all generations, or, where candidates of all images are scored
together, all of them through one generation after the other.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional
from numpy.typing import NDArray
from torch import Tensor

from repsearch.search import operators as op
from repsearch.search.cpu import covariances, kernels, linear, tiles
from repsearch.search.cpu.compiling import F, U, announce, compiled, exact, internal
from repsearch.search.cpu.covariances import Covariances, Masks, Mates
from repsearch.search.cpu.lanes import LANES, root, store
from repsearch.search.cpu.normals import normals_by_channel, philox
from repsearch.search.cpu.selection import assign_slots, cross_entropy, lowest, score_again
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
    side: int
    passes: int  # of the smoothing
    edge: np.float32  # of `kernels.smooth`
    order: NDArray[np.int64]  # of the positions, in tiles
    used: int  # how many of them reach the head
    masks: Masks
    norms: NDArray[np.float32]  # [rows, 4 · blocks after this one, C / 16, 16]: scale and shift of each BatchNorm
    reevaluate: bool  # R3: as the rows, see `network.Tail`
    head: NDArray[np.float32]  # [K, features]
    weights: NDArray[np.float32]  # [K, positions · C] of the last block: the network's head
    bias: NDArray[np.float32]  # [K]
    key: tuple[int, int]  # of the random numbers: the seed's halves
    layer: int


def evolve(
    tail: Tail,
    labels: Tensor,
    recipe: Recipe,
    indices: Tensor,
    layer: int,
    parents: Tensor,
    loss: Tensor,
    score: Callable[[Tensor, int], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The generations of one block, as `cpu.evolve.evolve` computes them for any recipe.

    score: None, or what scores a generation, with `SearchNetwork.pooling_tail` for the tail. It is called as
    score(pooled, generation), may overwrite pooled [B, n + k, C, H // 2, W // 2], the children and parents of all
    images, normalised and max-pooled, and returns their losses [B, n + k]; generations count from 1.
    """
    batch, count, channels, side = parents.shape[:4]
    plan = plan_for(tail, recipe, layer, count, channels, side)
    maps = _in_lanes(parents.flatten(3).transpose(2, 3)).unflatten(-1, (-1, LANES)).numpy()
    best = np.empty((batch, side**2, maps.shape[3] * LANES), np.float32)
    history = np.empty((batch, plan.generations), np.float32)

    def evolve_image(b: int) -> None:
        work = _workspace(plan, maps[b], loss[b].numpy())
        _evolve(work, int(labels[b]), int(indices[b]), plan, best[b], history[b])

    with ThreadPoolExecutor(min(batch, torch.get_num_threads())) as threads:
        if score is None:
            announce(_evolve)
            list(threads.map(evolve_image, range(batch)))
        else:
            works = [_workspace(plan, maps[b], loss[b].numpy()) for b in range(batch)]
            _evolve_together(works, indices, plan, score, threads, history)
            for b in range(batch):
                best[b] = works[b].normal[works[b].slot_of[0]].reshape(best[b].shape)
    found = torch.from_numpy(best)[..., :channels].transpose(1, 2).unflatten(2, (side, side))
    return found.contiguous(), torch.from_numpy(history)


def _evolve_together(
    works: list["Workspace"],
    indices: Tensor,
    plan: Plan,
    score: Callable[[Tensor, int], Tensor],
    threads: ThreadPoolExecutor,
    history: NDArray[np.float32],
) -> None:
    """All images through one generation after the other; see `evolve`. Fills history [B, generations]."""
    kept, _, blocks = works[0].normal.shape[:3]
    pooled = torch.empty(len(works), plan.explorers + plan.refiners + kept, plan.used // 4, blocks * LANES)
    in_lanes = pooled.unflatten(-1, (-1, LANES)).numpy()
    maps = pooled[..., : plan.channels].movedim(-1, 2).unflatten(3, (plan.side // 2, plan.side // 2))
    new = [kept] * len(works)
    announce(_pool)
    for generation in range(1, plan.generations + 1):
        now = repeat(generation)
        list(threads.map(_pool, works, indices.tolist(), now, new, repeat(plan), in_lanes))
        losses = score(maps, generation).numpy()
        new = list(threads.map(_take, works, losses, now, repeat(plan), history))


def plan_for(tail: Tail, recipe: Recipe, layer: int, parents: int, channels: int, side: int) -> Plan:
    """The plan for block `layer`, whose maps have `channels` channels and `side` × `side` positions."""
    settings = recipe.layers[layer]
    matrix = op.smoothing_matrix(side, settings.blur, recipe.count_padding)
    order, used = tiles.order_of_positions(side, tail.blocks)
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
    if tail.blocks:
        head = weights.unflatten(2, (-1, LANES)).transpose(1, 2)
    else:  # `linear`
        by_mask = torch.einsum("kpc,mp->kmc", weights.double(), smoothed[:, torch.from_numpy(order).argsort()])
        columns = weights.new_zeros(len(weights), 2 * parents)
        head = _in_lanes(torch.cat([by_mask.flatten(1).float(), columns, weights.flatten(1).sum(1, keepdim=True)], 1))
    finite = bool(tail.norms.isfinite().all())  # the compiled code does not see NaN
    return Plan(
        channels,
        settings.generations,
        recipe.explorers,
        recipe.refiners,
        F(settings.alpha * settings.boost),
        F(settings.alpha),
        recipe.refine_from == "parents+explorers",
        side,
        settings.blur,
        F(kernels.edge_weight(side, recipe.count_padding)),
        order,
        used,
        masks,
        _in_lanes(tail.norms).flatten(1, 3).unflatten(2, (-1, LANES)).numpy(),
        tail.reevaluate,
        head.flatten(1).numpy(),
        weights.flatten(1).numpy(),
        (tail.bias if finite else torch.full_like(tail.bias, torch.nan)).numpy(),
        (recipe.seed & 0xFFFFFFFF, recipe.seed >> 32),
        layer,
    )


def _in_lanes(x: Tensor) -> Tensor:
    """[..., channels] → [..., C]: zeros up to whole lanes."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % LANES)).contiguous()


class Workspace(NamedTuple):
    """The arrays of one image's evolution, but for those that have a name of their own."""

    normal: NDArray[np.float32]  # [k, positions, C / 16, 16]: the parents, by slot
    maps: NDArray[np.float32]  # `tiles`, as the next one
    largest: NDArray[np.float32]  # of no parents where they keep their losses
    covariances: Covariances
    mates: Mates
    children: Children
    head: NDArray[np.float32]  # as the plan's; in the last block with this image's columns
    features: NDArray[np.float32]  # [n, rounded up, columns of the head]: of the children, then of parents by slot
    logits: NDArray[np.float32]  # [n, rounded up, K]
    losses: NDArray[np.float32]  # [k + n]: of the parents by rank, then of the children
    pooled: NDArray[np.float32]  # of `tiles.features_of`, as the next one
    windows: NDArray[np.float32]
    z: NDArray[np.float32]  # [C / 16, 16]
    variance: NDArray[np.float32]  # [C / 16, 16]
    smoothed: NDArray[np.float32]  # [positions, C / 16, 16]
    slot_of: NDArray[np.int64]  # [k]: rank of a parent → its slot
    fresh: NDArray[np.int64]  # [k]: the slots of the new parents
    chosen: NDArray[np.int64]  # [k]: the children that they were
    order: NDArray[np.int64]  # [k]: the candidates that were selected, best first


def _workspace(plan: Plan, parents: NDArray[np.float32], loss: NDArray[np.float32]) -> Workspace:
    kept, positions, blocks = parents.shape[:3]
    count, mates, channels = plan.explorers + plan.refiners, kept + plan.explorers, blocks * LANES
    again = kept if plan.reevaluate else 0
    rows, columns = -(-(count + again) // linear.ROWS) * linear.ROWS, plan.head.shape[1]

    def empty(*shape: int) -> NDArray[np.float32]:
        return np.empty(shape, np.float32)

    return Workspace(
        parents.copy(),
        np.zeros((blocks, -(-positions // TILE), 2 * kept, TILE, LANES), np.float32),
        empty(blocks, plan.used // 4, again, LANES),
        Covariances(
            empty(2 * kept, blocks, LANES),
            empty(2, 2 * kept, blocks, LANES),
            empty(kept, kept, blocks, LANES),
            np.zeros((2 * kept, 2 * kept)),
            empty(kept, kept, 4, LANES),
        ),
        Mates(
            empty(mates, blocks, LANES),
            np.full(mates, 0.5, np.float32),
            np.zeros(mates, np.float32),
            np.zeros((mates, blocks, LANES), np.float32),
            np.arange(mates)[:, None].repeat(2, 1),
        ),
        Children(
            np.empty((count, 4), np.int64), empty(count), empty(count), empty(count), empty(blocks, count, 3, LANES)
        ),
        plan.head.copy(),
        np.zeros((rows, columns), np.float32),
        empty(rows, len(plan.head)),
        np.concatenate([loss, empty(count)]),
        empty(count + again, columns // channels, LANES),
        empty(BATCH, 4, LANES),
        empty(blocks, LANES),
        empty(blocks, LANES),
        empty(positions, blocks, LANES),
        np.arange(kept),
        np.arange(kept),
        np.empty(kept, np.int64),
        np.empty(kept, np.int64),
    )


@compiled
def _evolve(work, label, image, plan, best, history):  # type: ignore[no-untyped-def]
    """One image. Fills best [positions, C] and history [generations]."""
    children, losses, kept = work.children, work.losses, len(work.slot_of)
    new, count = kept, len(children.factor)
    for generation in range(1, plan.generations + 1):
        _enter(work.fresh[:new], work, plan)
        _conceive(work, image, U((plan.layer << 24) | generation), plan)
        _score(work, plan.norms[min(generation, len(plan.norms)) - 1], plan)
        for n in range(count):
            losses[kept + n] = _loss(children.mean[n], children.factor[n], work.logits[n], plan.bias, label)
        if plan.reevaluate:
            score_again(work.logits[count:], plan.bias, label, work.slot_of, losses)
        new = _select(generation, work, plan, history)
    best[:] = work.normal[work.slot_of[0]].reshape(best.shape)


@compiled
def _pool(work, image, generation, new, plan, pooled):  # type: ignore[no-untyped-def]
    """A generation of one image up to its losses: fills pooled [n + k, windows, C / 16, 16], the parents by slot."""
    _enter(work.fresh[:new], work, plan)
    _conceive(work, image, U((plan.layer << 24) | generation), plan)
    tiles.pool(
        work.children, work.maps, work.largest, plan.masks.centred, plan.used, plan.norms[0], work.windows, pooled
    )


@compiled
def _take(work, losses, generation, plan, history):  # type: ignore[no-untyped-def]
    """The rest of it, from the losses of the candidates of `_pool`. Returns how many parents are new."""
    kept, count = len(work.slot_of), len(work.children.factor)
    work.losses[kept:] = losses[:count]
    for rank in range(kept):
        work.losses[rank] = losses[count + work.slot_of[rank]]
    return _select(generation, work, plan, history)


@internal
def _select(generation, work, plan, history):  # type: ignore[no-untyped-def]
    """The next parents are selected, and those that are new written. Returns how many."""
    wanted = work.order[: 1 if generation == plan.generations else len(work.slot_of)]
    lowest(work.losses, wanted)
    history[generation - 1] = work.losses[wanted[0]]
    new = assign_slots(wanted, work.slot_of, work.fresh, work.chosen, work.losses)
    for r in range(new):
        to = work.normal[work.fresh[r]]
        tiles.write(work.children, work.chosen[r], work.maps, plan.masks.centred, plan.order, to)
    return new


@internal
def _enter(slots, work, plan):  # type: ignore[no-untyped-def]
    """Everything that children need of the new parents, whose maps have been written to `slots` of `normal`."""
    kept, positions, blocks = work.normal.shape[:3]
    x = work.smoothed
    rows = x.reshape(-1, LANES)
    for p in slots:
        if plan.reevaluate:
            tiles.enter(work.normal[p], p, plan.order, work.largest)
        kernels.copy(work.normal[p].reshape(-1, LANES), 0, rows, 0, len(rows))
        for block in range(blocks):
            store(work.mates.sigma, (p, block), root(kernels.variance(rows, block, blocks, positions)))
        for slot in (p, kept + p):
            for block in range(blocks):
                kernels.smooth(rows, block, blocks, plan.side, plan.passes, plan.edge)
            covariances.enter(x, slot, work.maps, work.covariances, plan.masks, plan.order)
            if not plan.norms.shape[1]:
                linear.enter(x.reshape(x.size), plan.weights, 32 * blocks + slot, work.head)
    if not plan.norms.shape[1]:
        for p in slots:
            linear.leave_out(32 * blocks + p, work.head)
            linear.leave_out(32 * blocks + kept + p, work.head)
    covariances.update(slots, work.maps, positions, work.covariances)


@internal
def _conceive(work, image, time, plan):  # type: ignore[no-untyped-def]
    """All children of a generation up to normalisation (A.4), without their maps."""
    children, mates, slot_of, z = work.children, work.mates, work.slot_of, work.z
    kept, key0, key1 = len(slot_of), U(plan.key[0]), U(plan.key[1])
    for n in range(len(children.factor)):
        explorer = n < plan.explorers
        pool = kept if explorer or not plan.mate_explorers else kept + plan.explorers
        w0, w1, _, _ = philox(U(0), U(n * _PURPOSES + _PAIR), U(image), time, key0, key1)
        i, j = np.int64((w0 * U(pool)) >> U(32)), np.int64((w1 * U(pool)) >> U(32))
        i, j = slot_of[i] if i < kept else i, slot_of[j] if j < kept else j
        normals_by_channel(z, U(n * _PURPOSES + _NOISE), U(image), time, key0, key1)
        alpha = plan.explore if explorer else plan.refine
        if i < kept and j < kept:
            sums = covariances.of_parents(
                z, alpha, i, j, mates, work.covariances, plan.masks, children, n, work.variance
            )
            lead = F(0.5)
        else:
            sums = covariances.of_mates(z, alpha, i, j, mates, work.covariances, plan.masks, children, n)
            lead = F(0.5) * mates.factor[i]
        covariances.normalise(sums, lead, plan.channels, plan.masks, children, n)
        if explorer and plan.mate_explorers:
            covariances.add_mate(kept + n, n, work.variance, kept, mates, children)


@internal
def _score(work, norms, plan):  # type: ignore[no-untyped-def]
    """The logits of the children, and of parents that are scored again, without the bias; norms: the BatchNorms."""
    columns = work.features.shape[1] // 16
    in_lanes = work.features.reshape(len(work.features), columns, 16)
    if len(norms):
        masks = plan.masks.centred
        tiles.features_of(
            work.children, work.maps, work.largest, masks, plan.used, norms, work.windows, work.pooled, in_lanes
        )
    else:
        linear.features_of(work.children, len(work.slot_of), work.features)
    linear.logits(in_lanes, work.head.reshape(len(work.head), columns, 16), work.logits)


@exact
def _loss(mean, factor, logits, bias, label):  # type: ignore[no-untyped-def]
    """Of a child; NaN where its map is not finite, which the rest of the arithmetic does not see."""
    if not (np.isfinite(mean) and np.isfinite(factor)):
        return F(np.nan)
    return cross_entropy(logits, bias, label)
