"""The paper's pseudocode (§3.1, A.4) taken literally: one image and one candidate at a time, every convolution.

It shares with the package only the random numbers (`Stream`) and the weights.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.network import ConvGroup, Network
from repsearch.randomness import Stream
from repsearch.recipe import Recipe

NAMES = ("block0", "block1", "block2", "logits")
Norm = Callable[[Tensor], Tensor]


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean((0, 2, 3))
    return mean, ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))


def norm_of_batch(x: Tensor, record: list[Tensor] | None = None) -> Tensor:
    mean, variance = batch_moments(x)
    if record is not None:
        record.append(torch.stack([mean, variance]))
    return (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5)


def norm_frozen(statistics: Tensor) -> Norm:
    """Each call applies the next of the frozen statistics."""
    steps: Iterator[Tensor] = iter(statistics)

    def norm(x: Tensor) -> Tensor:
        mean, variance = next(steps)
        return (x - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + 1e-5)

    return norm


def stem(network: Network, images: Tensor) -> Tensor:
    return F.gelu(F.conv2d(images, network.whiten.weight, network.whiten.bias))


def block(network: Network, index: int, x: Tensor, norm: Norm) -> Tensor:
    for group in network.blocks[index]:
        assert isinstance(group, ConvGroup)
        x = F.conv2d(x, group.conv1.weight, padding=1)
        if group.pool:
            x = F.max_pool2d(x, 2)
        x = F.gelu(norm(x))
        x = F.gelu(norm(F.conv2d(x, group.conv2.weight, padding=1)))
    return x


def noisy_inputs(images: Tensor, seed: int, noise: float) -> Tensor:
    """One noisy variant of each image: a shift of each channel by `noise` of its deviation."""
    normals = torch.randn(*images.shape[:2], 1, 1, generator=torch.Generator().manual_seed(seed))
    return images + noise * spread(images.flatten(2))[..., None, None] * normals


def calibrate(network: Network, images: Tensor) -> dict[str, Tensor]:
    """R3: each layer's statistics, from that layer's own normalised maps of the (noisy) calibration images."""
    found: dict[str, list[Tensor]] = {"input": [], "block0": [], "block1": []}
    maps = block(network, 0, stem(network, images), lambda x: norm_of_batch(x, found["input"]))
    for layer in (0, 1):
        name = NAMES[layer]
        maps = x = torch.stack([normalise(one) for one in maps])
        for index in range(layer + 1, 3):
            x = block(network, index, x, lambda x, name=name: norm_of_batch(x, found[name]))
        maps = block(network, layer + 1, maps, norm_frozen(torch.stack(found[name])))
    return {name: torch.stack(kept) for name, kept in found.items()}


def normalise(candidate: Tensor) -> Tensor:
    mean = candidate.mean()
    variance = ((candidate - mean) ** 2).mean()
    return (candidate - mean) / torch.sqrt(variance + 1e-5)


def spread(x: Tensor) -> Tensor:
    """Standard deviation over the last axis."""
    return torch.sqrt(((x - x.mean(-1, keepdim=True)) ** 2).mean(-1))


class Reference:
    """A search of a few images. Populations are lists (images) of lists (candidates) of tensors."""

    def __init__(
        self, network: Network, statistics: dict[str, Tensor], labels: Tensor, recipe: Recipe, indices: Tensor
    ) -> None:
        self.network, self.statistics, self.recipe = network, statistics, recipe
        self.labels, self.indices = labels, indices

    def search(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Targets, history and the untouched images' cross-entropy."""
        recipe = self.recipe
        population = self.first_maps([[x + noise for noise in self.start_noise(b, x, 0)] for b, x in enumerate(images)])
        targets, histories = {}, {}
        for layer, name in enumerate(NAMES):
            if layer > 0 and recipe.start == "population":
                population = [
                    [x + noise for noise in self.start_noise(b, x, layer)] for b, [x] in enumerate(population)
                ]
            if recipe.normalise_start and layer < 3:
                population = [[normalise(candidate) for candidate in each] for each in population]
            loss = self.losses(population, layer)
            history = [[min(each) for each in loss]]
            for generation in range(1, recipe.layers[layer].generations + 1):
                parents, children = [], []
                for b, candidates in enumerate(population):
                    order = sorted(range(len(candidates)), key=lambda i, b=b: float(loss[b][i]))
                    chosen = [order[k % len(order)] for k in range(recipe.parents)]
                    parents.append(([candidates[i] for i in chosen], [loss[b][i] for i in chosen]))
                    children.append(self.children(b, parents[b][0], layer, generation))
                fresh = self.losses(children, layer)
                population = [kept + new for (kept, _), new in zip(parents, children, strict=True)]
                loss = [kept + new for (_, kept), new in zip(parents, fresh, strict=True)]
                history.append([min(each) for each in loss])
            best = [
                each[min(range(len(each)), key=lambda i, b=b: float(loss[b][i]))] for b, each in enumerate(population)
            ]
            targets[name] = torch.stack(best)
            histories[name] = torch.tensor(history, dtype=torch.float64).T
            if layer < 3:
                population = self.next_maps([[x] for x in best], layer)
        untouched = self.first_maps([[x] for x in images])
        if recipe.normalise_start:
            untouched = [[normalise(each) for each in maps] for maps in untouched]
        initial = self.losses(untouched, 0)
        return targets, histories, torch.tensor([each[0] for each in initial], dtype=torch.float64)

    def start_noise(self, b: int, x: Tensor, layer: int) -> Iterator[Tensor]:
        stream = Stream(self.recipe.seed, self.indices[b : b + 1], layer, 0)
        for i in range(self.recipe.population):
            normals = stream.normals(range(i, i + 1), len(x))[0, 0].double()
            if layer == 3:
                yield self.recipe.initial_noise * spread(x) * normals
            else:
                yield (self.recipe.initial_noise * spread(x.flatten(1)) * normals)[:, None, None]

    def children(self, b: int, parents: list[Tensor], layer: int, generation: int) -> list[Tensor]:
        recipe, settings = self.recipe, self.recipe.layers[layer]
        stream = Stream(recipe.seed, self.indices[b : b + 1], layer, generation)
        high = settings.alpha * settings.boost
        explorers = [self.reproduce(parents, layer, stream, slot, high) for slot in range(recipe.explorers)]
        pool = parents + explorers if recipe.refine_from == "parents+explorers" else parents
        slots = range(recipe.explorers, recipe.population - recipe.parents)
        return explorers + [self.reproduce(pool, layer, stream, slot, settings.alpha) for slot in slots]

    def reproduce(self, pool: list[Tensor], layer: int, stream: Stream, slot: int, alpha: float) -> Tensor:
        """A.4 for one child."""
        recipe, one = self.recipe, range(slot, slot + 1)
        first, second = (pool[int(which)] for which in stream.pairs(one, len(pool))[0, 0])
        child = (first + second) / 2
        if layer == 3:
            sigma = (spread(first) + spread(second)) / 2
            child = child + alpha * sigma * stream.normals(one, len(child))[0, 0].double()
            return child - child.mean()
        channels, height, width = child.shape
        sigma = ((spread(first.flatten(1)) + spread(second.flatten(1))) / 2)[:, None, None]
        if recipe.noise == "channel":
            normals = stream.normals(one, channels)[0, 0].double()[:, None, None].expand(child.shape)
        else:
            normals = stream.normals(one, channels * height * width)[0, 0].double().reshape(child.shape)
        noise = alpha * sigma * normals
        passes = recipe.layers[layer].blur
        if recipe.smooth == "child":
            return normalise(self.smooth(child + noise, passes))
        return normalise(child + self.smooth(noise, passes))

    def smooth(self, maps: Tensor, passes: int) -> Tensor:
        for _ in range(passes):
            maps = F.avg_pool2d(maps[None], 3, 1, 1, count_include_pad=self.recipe.count_padding)[0]
        return maps

    def losses(self, population: list[list[Tensor]], layer: int) -> list[list[Tensor]]:
        logits = population if layer == 3 else self.run(population, range(layer + 1, 3), NAMES[layer], head=True)
        return [
            [-torch.log_softmax(candidate, 0)[label] for candidate in each]
            for each, label in zip(logits, self.labels, strict=True)
        ]

    def first_maps(self, images: list[list[Tensor]]) -> list[list[Tensor]]:
        return self.run([[stem(self.network, x[None])[0] for x in each] for each in images], range(1), "input")

    def next_maps(self, population: list[list[Tensor]], layer: int) -> list[list[Tensor]]:
        if layer == 2:
            return self.run(population, range(0), "", head=True)
        return self.run(population, range(layer + 1, layer + 2), NAMES[layer])

    def run(self, population: list[list[Tensor]], blocks: range, start: str, head: bool = False) -> list[list[Tensor]]:
        """Some blocks, and perhaps the head; candidates meet only in R3 `batch`, in the BatchNorms."""
        frozen = self.recipe.batch_norm == "frozen"

        def forward(x: Tensor) -> Tensor:
            norm = norm_frozen(self.statistics[start]) if frozen and len(blocks) else norm_of_batch
            for index in blocks:
                x = block(self.network, index, x, norm)
            return F.linear(x.flatten(1), self.network.head.weight, self.network.head.bias) if head else x

        flat = [candidate for each in population for candidate in each]
        done = [forward(x[None])[0] for x in flat] if frozen else list(forward(torch.stack(flat)))
        rest = iter(done)
        return [[next(rest) for _ in each] for each in population]
