"""The search in plain words: the paper's pseudocode (§3.1) and operators (A.4), line by line, in any precision.

Slow on purpose: every convolution, every pooling pass. `search` must agree with it (`tests/search`) and is measured
against it (`repsearch bench`). It shares with the package the weights, the frozen statistics, the random numbers and
those operators that are not a recipe's defaults.

Populations are [images, candidates, …]: maps [B, n, C, H, W], logits [B, n, K].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.network import ConvGroup, Network
from repsearch.search import operators as op
from repsearch.search.randomness import Draws, Stream
from repsearch.search.recipe import SEARCH_LAYERS, Recipe
from repsearch.search.statistics import Statistics


class Reference:
    """A search of the images that `labels` and `indices` [B] belong to."""

    def __init__(
        self, network: Network, statistics: Statistics | None, labels: Tensor, recipe: Recipe, indices: Tensor
    ) -> None:
        self.network, self.statistics, self.recipe = network, statistics, recipe
        self.labels, self.indices = labels, indices

    @torch.no_grad()
    def search(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """x: [B, C, H, W] normalised images. Returns targets, history, and the loss of x as it is."""
        recipe, targets, histories = self.recipe, {}, {}
        population = self.first_block(x[:, None] + self.channel_noise(x, 0))
        for layer, name in enumerate(SEARCH_LAYERS):
            if layer > 0 and recipe.start == "population":  # R16
                population = population + self.channel_noise(population[:, 0], layer)
            if layer < 3 and recipe.normalise_start:  # R17
                population = self.normalise(population)
            loss = self.evaluate(population, layer, 0)
            history = [loss.min(1).values]
            for generation in range(1, recipe.layers[layer].generations + 1):
                population, loss = self.generation(population, loss, layer, generation)
                history.append(loss.min(1).values)
            best, _ = select_top_k_per_image(population, loss, 1)
            targets[name], histories[name] = best[:, 0], torch.stack(history, 1)
            if layer == 2:
                population = self.run(best, range(0), None, head=True)
            elif layer < 2:
                population = self.run(best, range(layer + 1, layer + 2), self.opening(layer + 1))
        untouched = self.first_block(x[:, None])
        if recipe.normalise_start:
            untouched = self.normalise(untouched)
        return targets, histories, self.evaluate(untouched, 0, 0)[:, 0]

    def generation(self, population: Tensor, loss: Tensor, layer: int, number: int) -> tuple[Tensor, Tensor]:
        """The next population, parents ∪ explorers ∪ refiners, and its loss; with R3 `frozen` parents keep theirs."""
        recipe, settings = self.recipe, self.recipe.layers[layer]
        stream = Stream(recipe.seed, self.indices, layer, number)
        parents, parents_loss = select_top_k_per_image(population, loss, recipe.parents)
        high = settings.alpha * settings.boost
        explorers = self.reproduce(parents, layer, stream, range(recipe.explorers), high)
        mates = torch.cat([parents, explorers], 1) if recipe.refine_from == "parents+explorers" else parents  # R11
        slots = range(recipe.explorers, recipe.explorers + recipe.refiners)
        refiners = self.reproduce(mates, layer, stream, slots, settings.alpha)
        children = torch.cat([explorers, refiners], 1)
        population = torch.cat([parents, children], 1)
        if recipe.batch_norm in ("trajectory", "batch"):
            return population, self.evaluate(population, layer, number)
        return population, torch.cat([parents_loss, self.evaluate(children, layer, number)], 1)

    def reproduce(self, mates: Tensor, layer: int, stream: Stream, slots: range, alpha: float) -> Tensor:
        """A.4: crossover, mutation, smoothing and normalisation of one child per slot."""
        recipe, pairs = self.recipe, stream.pairs(slots, mates.shape[1])
        first, second = take(mates, pairs[..., 0]), take(mates, pairs[..., 1])
        if recipe.crossover == "mean":
            child = (first + second) / 2
        else:
            draws = Draws(stream, slots, mates.dtype, crossover=True)
            child = op.find("crossover", recipe.crossover)(first, second, draws)
        if layer == 3:
            sigma = (spread(first, -1) + spread(second, -1)) / 2
            child = child + alpha * sigma * stream.normals(slots, child.shape[2])[..., 0, 0].to(child)
            return child - child.mean(-1, keepdim=True)
        channels, height, width = child.shape[2:]
        sigma = (spread(first, (-2, -1)) + spread(second, (-2, -1))) / 2
        if recipe.mutation == "channel":  # R1
            noise = alpha * sigma * stream.normals(slots, channels).to(child)
        elif recipe.mutation == "element":
            noise = alpha * sigma * stream.normals(slots, channels, height, width).to(child)
        else:
            draws = Draws(stream, slots, mates.dtype)
            noise = op.find("mutation", recipe.mutation)(draws, sigma, alpha, child.shape[2:])
        noise = noise.expand_as(child)
        if recipe.smooth == "child":  # R2
            return self.normalise(self.smooth(child + noise, layer))
        return self.normalise(child + self.smooth(noise, layer))

    def smooth(self, maps: Tensor, layer: int) -> Tensor:
        """A.4: maps [N, K, C, H, W] after the layer's passes."""
        passes, count_padding = self.recipe.layers[layer].blur, self.recipe.count_padding  # R10
        if self.recipe.smoothing != "average":
            return op.find("smoothing", self.recipe.smoothing)(maps, passes, count_padding) if passes else maps
        for _ in range(passes):
            pooled = F.avg_pool2d(maps.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=count_padding)
            maps = pooled.view_as(maps)
        return maps

    def normalise(self, maps: Tensor) -> Tensor:
        """A.4: each candidate by itself to zero mean and unit variance over channels and space."""
        if self.recipe.normalisation != "standard":
            return op.find("normalisation", self.recipe.normalisation)(maps)
        mean = maps.mean((-3, -2, -1), keepdim=True)
        variance = ((maps - mean) ** 2).mean((-3, -2, -1), keepdim=True)
        return (maps - mean) / torch.sqrt(variance + 1e-5)

    def channel_noise(self, x: Tensor, layer: int) -> Tensor:
        """[B, …] → [B, population, …]: noise of the initial population, in units of x's deviation per channel (R9)."""
        normals = Stream(self.recipe.seed, self.indices, layer, 0).normals(range(self.recipe.population), x.shape[1])
        if layer == 3:
            return self.recipe.initial_noise * spread(x, -1)[:, None] * normals[..., 0, 0].to(x)
        noise = self.recipe.initial_noise * spread(x, (-2, -1))[:, None] * normals.to(x)
        return noise.expand(-1, -1, *x.shape[1:])

    def opening(self, layer: int) -> Tensor | None:
        """R3: the statistics of the pass to the first population of block `layer`; None: those of what passes."""
        return self.statistics.openings[layer] if self.statistics else None

    def evaluate(self, population: Tensor, layer: int, generation: int) -> Tensor:
        """Cross-entropy [B, n], the negative of the fitness (§3.1)."""
        logits = population
        if layer < 3:
            rows = self.statistics.scorings[layer] if self.statistics else None
            moments = None if rows is None else rows[generation] if len(rows) > 1 else rows[0]
            logits = self.run(population, range(layer + 1, 3), moments, head=True)
        return -logits.log_softmax(-1).gather(-1, self.labels[:, None, None].expand(*logits.shape[:2], 1))[..., 0]

    def first_block(self, images: Tensor) -> Tensor:
        """Block 0's maps [N, K, C, H, W] of noisy images [N, K, channels, side, side]."""
        whitened = F.gelu(F.conv2d(images.flatten(0, 1), self.network.whiten.weight, self.network.whiten.bias))
        return self.run(whitened.unflatten(0, images.shape[:2]), range(1), self.opening(0))

    def run(self, population: Tensor, blocks: range, moments: Tensor | None, head: bool = False) -> Tensor:
        """Some blocks, then the head if asked for. R3: with given statistics, or those of what passes."""
        x, given = population.flatten(0, 1), iter(() if moments is None else moments)

        def batch_norm(x: Tensor, bias: Tensor) -> Tensor:
            own = moments is None
            mean, variance = (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)) if own else next(given)
            return (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5) + bias[:, None, None]

        for index in blocks:
            for group in self.network.blocks[index]:  # type: ignore[attr-defined]
                assert isinstance(group, ConvGroup)
                x = F.conv2d(x, group.conv1.weight, padding=1)
                x = F.gelu(batch_norm(F.max_pool2d(x, 2) if group.pool else x, group.norm1.bias))
                x = F.gelu(batch_norm(F.conv2d(x, group.conv2.weight, padding=1), group.norm2.bias))
        if head:
            x = F.linear(x.flatten(1), self.network.head.weight, self.network.head.bias)
        return x.unflatten(0, population.shape[:2])


def select_top_k_per_image(population: Tensor, loss: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """k candidates and their loss, best first; ties go to the earlier one; a population smaller than k is repeated."""
    order = loss.sort(dim=1, stable=True).indices
    order = order[:, torch.arange(k, device=order.device) % order.shape[1]]
    return take(population, order), take(loss, order)


def take(population: Tensor, which: Tensor) -> Tensor:
    """[B, n, …] and [B, m] indices → [B, m, …]."""
    return torch.stack([candidates[chosen] for candidates, chosen in zip(population, which, strict=True)])


def spread(x: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    """Standard deviation over `axes`, which stay with size 1."""
    return torch.sqrt(((x - x.mean(axes, keepdim=True)) ** 2).mean(axes, keepdim=True))
