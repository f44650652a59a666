"""How the BatchNorm statistics of a search are taken (R3): a second version, as literal as can be, without `search`."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.network import ConvGroup, Network
from repsearch.search.randomness import Stream
from repsearch.search.recipe import Recipe
from repsearch.search.statistics import Statistics

Norm = Callable[[Tensor], Tensor]


def trajectory(
    network: Network, images: Tensor, labels: Tensor, recipe: Recipe, indices: Tensor, layer: int | None = None
) -> Statistics:
    """§3.1's pseudocode for the images together, with batch statistics; those of each pass are written down.

    For the recipe's default operators (A.4, R1, R2). layer: None, or the block that alone evolves (figure 2).
    """
    openings: dict[int, Tensor] = {}
    scorings: dict[int, Tensor] = {}

    def through(blocks: range, population: Tensor) -> tuple[Tensor, Tensor]:
        """What comes out of some blocks, and the moments of each BatchNorm in them."""
        record: list[Tensor] = []
        x = population.flatten(0, 1)
        for index in blocks:
            x = block(network, index, x, lambda x: norm_of_batch(x, record))
        return x.unflatten(0, population.shape[:2]), torch.stack(record) if record else openings[0][:0]

    def evaluate(population: Tensor, after: int, rows: list[Tensor]) -> Tensor:
        features, moments = through(range(after + 1, 3), population)
        rows.append(moments)
        loss = torch.zeros(population.shape[:2]).to(population)
        for image, candidates in enumerate(features):
            for number, candidate in enumerate(candidates):
                logits = F.linear(candidate.flatten(), network.head.weight, network.head.bias)
                loss[image, number] = logits.logsumexp(0) - logits[labels[image]]
        return loss

    def noisy(x: Tensor, level: int) -> Tensor:
        """R9: [B, …] → [B, population, …]."""
        normals = Stream(recipe.seed, indices, level, 0).normals(range(recipe.population), x.shape[1])
        deviation = spread(x.flatten(2))[:, None, :, None, None]
        return x[:, None] + recipe.initial_noise * deviation * normals.to(x)

    def normalised(population: Tensor) -> Tensor:
        """R17"""
        if not recipe.normalise_start:
            return population
        return torch.stack([torch.stack([normalise(x) for x in candidates]) for candidates in population])

    first = layer or 0
    entering = stem(network, noisy(images, first).flatten(0, 1)).unflatten(0, (len(images), recipe.population))
    population, openings[0] = through(range(1), entering)
    for earlier in range(first):
        population, openings[earlier + 1] = through(range(earlier + 1, earlier + 2), normalised(population))
    for level in range(3) if layer is None else [layer]:
        if level > first:
            population, openings[level] = through(range(level, level + 1), population)
            if recipe.start == "population":  # R16
                population = noisy(population[:, 0], level)
        population, rows = normalised(population), []
        fitness = -evaluate(population, level, rows)
        for generation in range(1, recipe.layers[level].generations + 1):
            population = next_generation(population, fitness, recipe, indices, level, generation)
            fitness = -evaluate(population, level, rows)
        scorings[level] = torch.stack(rows)
        population = torch.stack([x[[int(f.argmax())]] for x, f in zip(population, fitness, strict=True)])
    return Statistics(openings, scorings)


def next_generation(
    population: Tensor, fitness: Tensor, recipe: Recipe, indices: Tensor, level: int, generation: int
) -> Tensor:
    """Parents, explorers and refiners of each image, one child at a time. Ties go to the earlier candidate."""
    children = range(recipe.explorers + recipe.refiners)
    stream, settings = Stream(recipe.seed, indices, level, generation), recipe.layers[level]
    normals = stream.normals(children, population.shape[2]).to(population)
    of_parents = stream.pairs(range(recipe.explorers), recipe.parents)
    known = recipe.parents + (recipe.explorers if recipe.refine_from == "parents+explorers" else 0)  # R11
    of_known = stream.pairs(children[recipe.explorers :], known)
    made = []
    for image in range(len(population)):
        order = sorted(range(population.shape[1]), key=lambda i: -float(fitness[image, i]))
        mates = [population[image, order[i % len(order)]] for i in range(recipe.parents)]
        for child in children:
            explores = child < recipe.explorers
            pair = of_parents[image, child] if explores else of_known[image, child - recipe.explorers]
            one, other = (mates[int(i)] for i in pair)
            sigma = (spread(one.flatten(1)) + spread(other.flatten(1)))[:, None, None] / 2
            alpha = settings.alpha * (settings.boost if explores else 1)
            x = (one + other) / 2 + alpha * sigma * normals[image, child]
            for _ in range(settings.blur):
                x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=recipe.count_padding)
            mates.append(normalise(x))
        made.append(torch.stack(mates))
    return torch.stack(made)


def frozen(network: Network, noisy: Tensor, blur: tuple[int, int], count_padding: bool = True) -> Statistics:
    """Each layer's statistics, from its own maps of the noisy calibration images, smoothed and normalised."""
    records: dict[str, list[Tensor]] = {"images": [], "block0": [], "block1": []}
    maps = block(network, 0, stem(network, noisy), lambda x: norm_of_batch(x, records["images"]))
    for layer in (0, 1):
        record = records[f"block{layer}"]
        for _ in range(blur[layer]):
            maps = F.avg_pool2d(maps, 3, 1, 1, count_include_pad=count_padding)
        maps = x = torch.stack([normalise(candidate) for candidate in maps])
        for index in range(layer + 1, 3):
            x = block(network, index, x, lambda x, record=record: norm_of_batch(x, record))
        maps = block(network, layer + 1, maps, norm_frozen(torch.stack(record)))
    images, block0, block1 = (torch.stack(record) for record in records.values())
    count = len(images)  # BatchNorms per block
    openings = {0: images, 1: block0[:count], 2: block1}
    return Statistics(openings, {0: block0[None], 1: block1[None], 2: images[None, :0]})


def noisy_inputs(images: Tensor, seed: int, noise: float) -> Tensor:
    """One noisy variant of each image: a shift of each channel by `noise` of its deviation."""
    normals = torch.randn(*images.shape[:2], 1, 1, generator=torch.Generator().manual_seed(seed))
    return images + noise * spread(images.flatten(2))[..., None, None] * normals


def stem(network: Network, images: Tensor) -> Tensor:
    return F.gelu(F.conv2d(images, network.whiten.weight, network.whiten.bias))


def block(network: Network, index: int, x: Tensor, norm: Norm) -> Tensor:
    for group in network.blocks[index]:
        assert isinstance(group, ConvGroup)
        x = F.conv2d(x, group.conv1.weight, padding=1)
        if group.pool:
            x = F.max_pool2d(x, 2)
        x = F.gelu(norm(x) + group.norm1.bias[:, None, None])
        x = F.gelu(norm(F.conv2d(x, group.conv2.weight, padding=1)) + group.norm2.bias[:, None, None])
    return x


def norm_of_batch(x: Tensor, record: list[Tensor]) -> Tensor:
    mean = x.mean((0, 2, 3))
    variance = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
    record.append(torch.stack([mean, variance]))
    return (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5)


def norm_frozen(statistics: Tensor) -> Norm:
    """Each call applies the next of the frozen statistics."""
    steps: Iterator[Tensor] = iter(statistics)

    def norm(x: Tensor) -> Tensor:
        mean, variance = next(steps)
        return (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5)

    return norm


def normalise(candidate: Tensor) -> Tensor:
    mean = candidate.mean()
    variance = ((candidate - mean) ** 2).mean()
    return (candidate - mean) / torch.sqrt(variance + 1e-5)


def spread(x: Tensor) -> Tensor:
    """Standard deviation over the last axis."""
    return torch.sqrt(((x - x.mean(-1, keepdim=True)) ** 2).mean(-1))
