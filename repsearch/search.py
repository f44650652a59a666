"""Evolutionary search over representations (§3.1). Read `search`, then `evolve`, beside the paper's pseudocode."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch import fused
from repsearch import operators as op
from repsearch.randomness import Stream
from repsearch.recipe import BLOCKS, SEARCH_LAYERS, Layer, Recipe
from repsearch.search_network import SearchNetwork

LOGITS = len(BLOCKS)


@dataclass
class Found:
    """What a search found for B images.

    targets: search layer → [B, …], the kept candidate. history: search layer → [B, generations + 1], cross-entropy
    (nats) of the best candidate before the first generation and after each. initial: [B], that of the untouched image.
    """

    targets: dict[str, Tensor]
    history: dict[str, Tensor]
    initial: Tensor

    @property
    def final(self) -> Tensor:
        """[B]: cross-entropy of the kept logits."""
        return self.history["logits"][:, -1]


@torch.no_grad()
def search(
    network: SearchNetwork, images: Tensor, labels: Tensor, recipe: Recipe, indices: Tensor, path: fused.Path = "auto"
) -> Found:
    """Evolve every search layer in turn, each image by itself (§3.1, "Layer-wise forward evolution").

    images: [B, C, H, W] normalised; labels, indices: [B] int64, the indices naming the images' random numbers. With
    R3 `frozen`, an image's result does not depend on the others. path: how the generations are computed (`fused`).
    """
    evolution = _Evolution(network, labels, recipe, indices, path)
    population = evolution.initial_population(images, 0)
    targets, history = {}, {}
    for layer, name in enumerate(SEARCH_LAYERS):
        if layer > 0 and recipe.start == "population":  # R16
            population = evolution.noisy(population[:, 0], layer)
        best, history[name] = evolution.evolve(population, layer)
        targets[name] = best
        if layer < LOGITS:
            population = evolution.propagate(best[:, None], layer)
    return Found(targets, history, evolution.cross_entropy(evolution.untouched(images), 0)[:, 0])


@torch.no_grad()
def search_one_layer(
    network: SearchNetwork,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    indices: Tensor,
    layer: int,
    path: fused.Path = "auto",
) -> Tensor:
    """Figure 2 (§3.2): evolve H⁽ℓ⁾ alone, from noisy inputs propagated to block ℓ.

    Returns [B, generations + 1]: cross-entropy of the best candidate; column g is where g generations end.
    """
    evolution = _Evolution(network, labels, recipe, indices, path)
    return evolution.evolve(evolution.initial_population(images, layer), layer)[1]


class _Evolution:
    """The search of one batch: what stays fixed from generation to generation."""

    def __init__(
        self, network: SearchNetwork, labels: Tensor, recipe: Recipe, indices: Tensor, path: fused.Path
    ) -> None:
        self.network, self.labels, self.recipe, self.indices = network, labels, recipe, indices
        self.frozen = recipe.batch_norm == "frozen"
        self.fused = fused.choose(network, recipe, path)

    def untouched(self, images: Tensor) -> Tensor:
        maps = self.network.first_map(images[:, None], self.frozen)
        return op.normalise(maps) if self.recipe.normalise_start else maps

    def initial_population(self, images: Tensor, layer: int) -> Tensor:
        """§3.1: population noisy variants of the input, propagated to `layer`. [B, C, H, W] → [B, n, …].

        The noise is channel-wise and scaled to the input's standard deviation by channel (R9).
        """
        maps = self.network.first_map(self.noisy(images, layer), self.frozen)
        for block in range(layer):
            maps = self.network.next_map(maps, block, self.frozen)
        return maps

    def noisy(self, x: Tensor, layer: int) -> Tensor:
        """[B, …] → [B, population, …]: channel-wise noise (for logits, element-wise) around x."""
        normals = Stream(self.recipe.seed, self.indices, layer, 0).normals(range(self.recipe.population), x.shape[1])
        normals = normals.to(x.dtype)
        if x.dim() == 2:
            return x[:, None] + self.recipe.initial_noise * op.class_std(x)[:, None, None] * normals[..., 0, 0]
        noise = op.mutation_noise(normals, op.channel_std(x)[:, None], self.recipe.initial_noise)
        return x[:, None] + noise

    def propagate(self, candidates: Tensor, layer: int) -> Tensor:
        """[B, n, …] at search layer ℓ → the same candidates at layer ℓ+1."""
        if layer == LOGITS - 1:
            return self.network.logits(candidates, layer, self.frozen)
        return self.network.next_map(candidates, layer, self.frozen)

    def cross_entropy(self, candidates: Tensor, layer: int) -> Tensor:
        """[B, n, …] → [B, n]: the candidates' loss by the rest of the network; fitness is its negative."""
        logits = candidates if layer == LOGITS else self.network.logits(candidates, layer, self.frozen)
        labels = self.labels[:, None].expand(logits.shape[:2])
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").unflatten(0, labels.shape)

    def evolve(self, population: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """§3.1, "Evolution mechanics": returns the best candidate [B, …] and its history [B, generations + 1]."""
        if self.recipe.normalise_start and layer < LOGITS:  # R17
            population = op.normalise(population)
        loss = self.cross_entropy(population, layer)
        parents, parents_loss = select(population, loss, self.recipe.parents)
        if not self.recipe.layers[layer].generations:
            return parents[:, 0], parents_loss[:, :1]
        if layer < LOGITS and self.fused:
            rest = fused.rest(self.network, layer)
            best, later = self.fused(rest, self.labels, self.recipe, self.indices, layer, parents, parents_loss)
        else:
            best, later = self.generations(parents, parents_loss, layer)
        return best, torch.cat([loss.amin(1, keepdim=True), later], 1)

    def generations(self, parents: Tensor, parents_loss: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """From the first parents [B, k, …], best first, with their loss [B, k], through all generations (≥ 1).

        Returns the best candidate [B, …] and the loss of the best after each generation [B, generations].
        """
        recipe, settings = self.recipe, self.recipe.layers[layer]
        history = []
        for generation in range(1, settings.generations + 1):
            stream = Stream(recipe.seed, self.indices, layer, generation)
            explorers = self.reproduce(parents, layer, stream, range(recipe.explorers), settings.alpha * settings.boost)
            pool = torch.cat([parents, explorers], 1) if recipe.refine_from == "parents+explorers" else parents  # R11
            refiners = self.reproduce(
                pool, layer, stream, range(recipe.explorers, recipe.explorers + recipe.refiners), settings.alpha
            )
            children = torch.cat([explorers, refiners], 1)
            population = torch.cat([parents, children], 1)
            loss = torch.cat([parents_loss, self.cross_entropy(children, layer)], 1)  # parents keep theirs
            parents, parents_loss = select(population, loss, recipe.parents)
            history.append(parents_loss[:, 0])
        return parents[:, 0], torch.stack(history, 1)

    def reproduce(self, pool: Tensor, layer: int, stream: Stream, slots: range, alpha: float) -> Tensor:
        """A.4: children of random pairs of the pool. [B, p, …] → [B, len(slots), …]; slots key the random numbers."""
        settings: Layer = self.recipe.layers[layer]
        if not len(slots):
            return pool[:, :0]
        pairs = stream.pairs(slots, pool.shape[1])
        first, second = (_take(pool, pairs[..., parent]) for parent in (0, 1))
        crossed = op.crossover(first, second)
        if layer == LOGITS:
            sigma = op.crossover(op.class_std(first), op.class_std(second))  # the average of the two
            normals = stream.normals(slots, pool.shape[-1])[..., 0, 0].to(pool.dtype)
            return op.mutate_logits(crossed, normals, sigma, alpha)
        spread = op.channel_std(pool)
        sigma = op.crossover(_take(spread, pairs[..., 0]), _take(spread, pairs[..., 1]))
        channels, height, width = pool.shape[2:]
        if self.recipe.noise == "channel":  # R1
            normals = stream.normals(slots, channels)
        else:
            normals = stream.normals(slots, channels, height, width)
        noise = op.mutation_noise(normals.to(pool.dtype), sigma, alpha)
        if self.recipe.smooth == "noise":  # smoothing acts on maps, not on one value a channel
            noise = noise.expand_as(crossed)
        return op.mutate_maps(crossed, noise, settings.blur, self.recipe.smooth, self.recipe.count_padding)


def select(population: Tensor, loss: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """§3.1: top-k of each image by fitness, best first; ties go to the earlier candidate.

    population: [B, n, …], loss: [B, n]. A population smaller than `count` is repeated, best first (R16).
    """
    order = torch.argsort(loss, dim=1, stable=True)
    order = order[:, torch.arange(count, device=order.device) % order.shape[1]]
    return _take(population, order), loss.gather(1, order)


def _take(candidates: Tensor, which: Tensor) -> Tensor:
    """[B, n, …] and [B, m] indices → [B, m, …]."""
    return candidates[torch.arange(len(candidates), device=candidates.device)[:, None], which]
