"""Evolutionary search over representations (§3.1). Read `search`, then `Evolution`, next to the paper's pseudocode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from repsearch.search import backends
from repsearch.search import operators as op
from repsearch.search.backends import Score, SearchPath
from repsearch.search.network import SearchNetwork, Tail, per_image
from repsearch.search.randomness import Draws, Stream
from repsearch.search.recipe import BLOCKS, OPERATORS, SEARCH_LAYERS, Recipe
from repsearch.search.statistics import Recorder, Statistics

LOGITS = len(BLOCKS)
# Numbers of the candidates that are made at a time; of first populations, counted at the image's resolution.
PART_NUMBERS = {"cpu": 2**26, "cuda": 2**29}
Progress = Callable[[str, int, int], None]  # search layer, generations done, generations


@dataclass
class SearchResult:
    """The result of a search for B images.

    targets: search layer → [B, …], the best candidate. history: search layer → [B, generations + 1], cross-entropy
    (nats) of the best candidate before the first generation and after each one. Both are [B, runs, …] for a recipe of
    several runs. initial: [B], cross-entropy of the untouched image.
    """

    targets: dict[str, Tensor]
    history: dict[str, Tensor]
    initial: Tensor

    def cpu(self) -> "SearchResult":
        targets = {layer: target.cpu() for layer, target in self.targets.items()}
        history = {layer: losses.cpu() for layer, losses in self.history.items()}
        return SearchResult(targets, history, self.initial.cpu())

    @property
    def final(self) -> Tensor:
        """[B], or [B, runs]: cross-entropy of the best logits."""
        return self.history["logits"][..., -1]

    @classmethod
    def of_runs(cls, runs: Sequence["SearchResult"]) -> "SearchResult":
        """Of several runs of the same images, with an axis of runs after the images'; of one run, itself."""
        first = runs[0]
        if len(runs) == 1:
            return first
        targets = {layer: torch.stack([run.targets[layer] for run in runs], 1) for layer in first.targets}
        history = {layer: torch.stack([run.history[layer] for run in runs], 1) for layer in first.history}
        return cls(targets, history, first.initial)


@torch.no_grad()
def search(
    network: SearchNetwork,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    indices: Tensor,
    statistics: Statistics | None = None,
    path: SearchPath = "auto",
    progress: Progress | None = None,
) -> SearchResult:
    """Evolve every search layer in turn, each image by itself (§3.1, "Layer-wise forward evolution"), `runs` times.

    images: [B, C, H, W] normalised, of the network's size, type and device. labels: [B] int64, 0 … classes - 1.
    indices: [B] int64, 0 … 2³² - 1: the numbers of the images in their data set, which choose their random numbers.
    statistics: of the BatchNorms (R3, `calibration.calibrate`), with which an image's result does not depend on the
    others; None for `batch_norm: batch`, where the images are one batch. path: how the generations are computed
    (`backends`). progress: called as progress(search layer, generations done, generations) in each run, after every
    generation on the dense path, after a block's last one on the fused path.

    Raises ValueError for arguments that don't fit together, UserError where the fused path can't serve or the
    user's own operator can't be loaded, fails or returns the wrong thing.
    """
    check(network, images, labels, indices)
    _check_statistics(network, recipe, statistics, range(len(BLOCKS)))
    runs = [
        Evolution(network, labels, recipe.run(run), indices, statistics or Recorder(), path, progress).search(images)
        for run in range(recipe.runs)
    ]
    return SearchResult.of_runs(runs)


@torch.no_grad()
def search_one_layer(
    network: SearchNetwork,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    indices: Tensor,
    layer: int,
    statistics: Statistics | None = None,
    path: SearchPath = "auto",
) -> Tensor:
    """Figure 2 (§3.2): evolve H⁽ℓ⁾ alone, starting from noisy inputs that are propagated to block ℓ.

    layer: 0, 1 or 2. statistics: of this layer's search. The others and the errors are those of `search`; of a recipe
    of several runs it is the first. Returns [B, generations + 1]: cross-entropy of the best candidate after 0, 1, …
    generations.
    """
    check(network, images, labels, indices, layer)
    _check_statistics(network, recipe, statistics, range(layer, layer + 1))
    evolution = Evolution(network, labels, recipe, indices, statistics or Recorder(), path)
    return evolution.evolve(*evolution.open(images, layer), layer)[1]


def check(network: SearchNetwork, images: Tensor, labels: Tensor, indices: Tensor, layer: int = 0) -> None:
    """Raises ValueError, naming the argument, where a search's arguments don't fit the network and each other."""
    shape, weight = network.shape, network.network.head.weight
    size = [shape.channels, shape.size, shape.size]
    if list(images.shape[1:]) != size or not len(images):
        raise ValueError(f"images must be [B, {str(size)[1:]} as the network's are, B ≥ 1, not {list(images.shape)}")
    if images.dtype != weight.dtype:
        raise ValueError(f"images must be {weight.dtype}, as the network is, not {images.dtype}")
    for name, tensor in (("images", images), ("labels", labels), ("indices", indices)):
        if tensor.device != network.device:
            raise ValueError(f"{name} must be on the network's device, {network.device}, not on {tensor.device}")
    for name, numbers, limit in (("labels", labels, shape.classes), ("indices", indices, 2**32)):
        if numbers.shape != images.shape[:1] or numbers.dtype != torch.int64:
            stated = f"{list(numbers.shape)} {numbers.dtype}"
            raise ValueError(f"{name} must be one int64 per image, [{len(images)}], not {stated}")
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high >= limit:
            raise ValueError(f"{name} must be from 0 to {limit - 1}, not {low if low < 0 else high}")
    if layer not in range(len(BLOCKS)):
        raise ValueError(f"layer must be from 0 to {len(BLOCKS) - 1}, not {layer}")


def _check_statistics(network: SearchNetwork, recipe: Recipe, statistics: Statistics | None, layers: range) -> None:
    """Raises ValueError where a recipe's statistics are missing, or belong to another network, recipe or search."""
    remedy = "repsearch.search.calibration.calibrate makes those of this network, recipe and search"
    stated = f"batch_norm {recipe.batch_norm!r}"
    if not recipe.independent:
        if statistics is not None:
            raise ValueError(f"statistics must be left out for {stated}, where they are those of the batch itself")
        return
    if statistics is None:
        raise ValueError(f"statistics must be given for {stated}: {remedy}")
    openings, scorings = statistics.openings, statistics.scorings
    alone = layers.start > 0 and recipe.reevaluates  # its openings are then of a first population, not of one candidate
    if not (openings.keys() >= {*range(layers.stop)} and scorings.keys() >= {*layers}) or (alone and len(scorings) > 1):
        given = ", ".join(BLOCKS[layer] for layer in sorted(scorings)) or "no block"
        searched = "all blocks" if len(layers) > 1 else f"{BLOCKS[layers.start]} alone"
        raise ValueError(f"statistics are those of a search of {given}, not of {searched}: {remedy}")
    per_block, width = network.shape.convolutions, network.shape.width
    tables = [(f"to {BLOCKS[layer]}", openings[layer], [per_block, 2, width]) for layer in range(layers.stop)]
    for layer in layers:
        rows = recipe.layers[layer].generations + 1 if recipe.reevaluates else 1
        shape = [rows, per_block * (LOGITS - 1 - layer), 2, width]
        tables.append((f"after {BLOCKS[layer]}", scorings[layer], shape))
    for where, table, shape in tables:
        if list(table.shape) != shape:
            raise ValueError(f"statistics {where} are {list(table.shape)}, not {shape}, with {stated}: {remedy}")
        if table.device != network.device:
            raise ValueError(f"statistics must be on the network's device, {network.device}, not on {table.device}")


class Evolution:
    """The search of one batch: what stays fixed from generation to generation."""

    def __init__(
        self,
        network: SearchNetwork,
        labels: Tensor,
        recipe: Recipe,
        indices: Tensor,
        statistics: Statistics | Recorder,
        path: SearchPath,
        progress: Progress | None = None,
    ) -> None:
        self.network, self.labels, self.recipe, self.indices = network, labels, recipe, indices
        self.statistics, self.together = statistics, isinstance(statistics, Recorder)
        self.progress = progress or (lambda *_: None)
        self.crossover, self.mutation, self.smoothing, self.normalisation = (
            op.find(field, getattr(recipe, field)) for field in OPERATORS
        )
        self.fused = backends.choose(network, recipe, path, self.together)

    def search(self, images: Tensor) -> SearchResult:
        """All search layers in turn."""
        initial = self.untouched(images)  # first: a recorder keeps the last statistics of a kind
        targets: dict[str, Tensor] = {}
        history: dict[str, Tensor] = {}
        for layer, name in enumerate(SEARCH_LAYERS):
            opened = self.open_next(targets[SEARCH_LAYERS[layer - 1]], layer) if layer else self.open(images, 0)
            targets[name], history[name] = self.evolve(*opened, layer)
        return SearchResult(targets, history, initial)

    def untouched(self, images: Tensor) -> Tensor:
        """[B]: cross-entropy of the images as they are, scored as candidates of block 0."""
        maps = self.network.first_map(images[:, None], self.statistics.opening(0), bool(self.fused))
        return self.cross_entropy(self._entered(maps), 0, 0)[:, 0]

    def open(self, images: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """§3.1, "Population initialization": the first parents of block `layer` and their loss.

        The population consists of noisy variants of the input, propagated to the block. The noise is channel-wise and
        scaled to the input's standard deviation per channel (R9).
        """
        noise = self._noise(images, layer)

        def population(part: slice) -> Tensor:
            statistics = self.statistics
            maps = self.network.first_map(images[part, None] + noise[part], statistics.opening(0), bool(self.fused))
            for block in range(layer):  # the statistics are those of normalised maps
                maps = self.network.next_map(self._entered(maps), block, statistics.opening(block + 1))
            return maps

        return self._select_parents(population, layer, self.recipe.population)

    def open_next(self, best: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The first parents of layer ≥ 1, from the best candidates [B, …] of the layer before (R16)."""

        alone = self.recipe.start == "best"

        def population(part: slice) -> Tensor:
            x = best[part][:, None]
            if layer == LOGITS:
                propagated = self.network.logits(x, layer - 1, self.statistics.scoring(layer - 1, 0))
            else:
                propagated = self.network.next_map(x, layer - 1, self.statistics.opening(layer))
            return propagated if alone else propagated + self._noise(propagated[:, 0], layer, part)

        return self._select_parents(population, layer, 1 if alone else self.recipe.population)

    def _select_parents(
        self, population: Callable[[slice], Tensor], layer: int, candidates: int
    ) -> tuple[Tensor, Tensor]:
        """Top k of a layer's first population: [B, k, …], best first, and their loss [B, k].

        population: makes that of some of the images, a few at a time: block 0's passes through 31 × 31 maps of every
        channel. Their own statistics (R3 `batch`) need all images at once. candidates: how many it has per image.
        """
        shape = self.network.shape
        everything = [slice(0, len(self.labels))]
        parts = everything if self.together else self._parts(candidates * shape.width * shape.size**2)
        parents, losses = [], []
        for part in parts:
            entered = population(part) if layer == LOGITS else self._entered(population(part))
            best, loss = op.select(entered, self.cross_entropy(entered, layer, 0, part), self.recipe.parents)
            parents.append(best)
            losses.append(loss)
        return torch.cat(parents), torch.cat(losses)

    def _parts(self, numbers: int) -> list[slice]:
        """The batch in parts whose tensors have about `PART_NUMBERS` numbers, of `numbers` per image."""
        count, step = len(self.labels), max(1, PART_NUMBERS[self.network.device.type] // max(1, numbers))
        return [slice(start, start + step) for start in range(0, count, step)]

    def _entered(self, maps: Tensor) -> Tensor:
        """Maps of a first population, normalised as every child is (R17)."""
        return per_image(self.normalisation, maps) if self.recipe.normalise_start else maps

    def _noise(self, x: Tensor, layer: int, part: slice = slice(None)) -> Tensor:
        """Channel-wise (logits: element-wise) noise for the first population of x [b, …], images `part` of the batch.

        Returns [b, population, C, 1, 1], or [b, population, K] for logits.
        """
        stream = Stream(self.recipe.seed, self.indices[part], layer, 0)
        normals = Draws(stream, range(self.recipe.population), x.dtype).normals(x.shape[1])
        if x.dim() == 2:
            return self.recipe.initial_noise * op.class_std(x)[:, None] * normals[..., 0, 0]
        return self.recipe.initial_noise * per_image(op.channel_std, x[:, None]) * normals

    def cross_entropy(self, candidates: Tensor, layer: int, generation: int, part: slice = slice(None)) -> Tensor:
        """[b, n, …] → [b, n]: the candidates' loss, the negative of their fitness (§3.1)."""
        if layer == LOGITS:
            return self._cross_entropy(candidates, part)
        moments = self.statistics.scoring(layer, generation)
        return self._cross_entropy(self.network.logits(candidates, layer, moments), part)

    def _cross_entropy(self, logits: Tensor, part: slice = slice(None)) -> Tensor:
        """[b, n, K] → [b, n]"""
        labels = self.labels[part, None].expand(logits.shape[:2])
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").unflatten(0, labels.shape)

    def evolve(self, parents: Tensor, loss: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """All generations of a layer from its first parents: best candidate [B, …], history [B, generations + 1]."""
        if not self.recipe.layers[layer].generations:
            return parents[:, 0], loss[:, :1]
        if layer < LOGITS and self.fused:
            tail, score = self._scored_by(layer)
            best, later = self.fused(tail, self.labels, self.recipe, self.indices, layer, parents, loss, *score)
            self.progress(SEARCH_LAYERS[layer], later.shape[1], later.shape[1])
        else:
            best, later = self.generations(parents, loss, layer)
        return best, torch.cat([loss[:, :1], later], 1)

    def _scored_by(self, layer: int) -> tuple[Tail, list[Score]]:
        """What a fused path scores the candidates of a block by: the tail and, where they are scored together, this."""
        recorder = self.statistics
        if isinstance(recorder, Statistics):
            return self.network.tail(layer, recorder.generations(layer), self._reevaluates(layer)), []
        if layer == LOGITS - 1:  # without a BatchNorm after it
            for generation in range(1, self.recipe.layers[layer].generations + 1):
                recorder.scoring(layer, generation)
            none = torch.empty(1, 0, 2, self.network.shape.width, device=self.network.device)
            return self.network.tail(layer, none), []

        def score(pooled: Tensor, generation: int) -> Tensor:
            moments = recorder.scoring(layer, generation)
            return self._cross_entropy(self.network.logits_of_pooled(pooled, layer, moments))

        return self.network.pooling_tail(), [score]

    def generations(self, parents: Tensor, parents_loss: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """§3.1, "Evolution mechanics": from the first parents [B, k, …], best first, through all generations (≥ 1).

        Returns the best candidate [B, …] and the loss of the best after each generation [B, generations].
        """
        generations, history = self.recipe.layers[layer].generations, []
        parts, kept = self._parts(self.recipe.population * parents[0, 0].numel()), self.recipe.parents
        for generation in range(1, generations + 1):
            population = parents.new_empty(len(parents), self.recipe.population, *parents.shape[2:])
            for part in parts:
                population[part, :kept] = parents[part]
                population[part, kept:] = self.children(parents[part], layer, generation, part)
            if self._reevaluates(layer):
                loss = self.cross_entropy(population, layer, generation)
            else:
                loss = torch.cat([parents_loss, self.cross_entropy(population[:, kept:], layer, generation)], 1)
            parents, parents_loss = op.select(population, loss, self.recipe.parents)
            history.append(parents_loss[:, 0])
            self.progress(SEARCH_LAYERS[layer], generation, generations)
        return parents[:, 0], torch.stack(history, 1)

    def children(self, parents: Tensor, layer: int, generation: int, part: slice = slice(None)) -> Tensor:
        """A.4: explorers, then refiners, of images `part` of the batch and their parents [b, k, …] → [b, n, …]."""
        recipe, settings = self.recipe, self.recipe.layers[layer]
        stream = Stream(recipe.seed, self.indices[part], layer, generation)
        explorers = self.reproduce(parents, layer, stream, range(recipe.explorers), settings.alpha * settings.boost)
        mates = torch.cat([parents, explorers], 1) if recipe.refine_from == "parents+explorers" else parents  # R11
        slots = range(recipe.explorers, recipe.explorers + recipe.refiners)
        refiners = self.reproduce(mates, layer, stream, slots, settings.alpha)
        return torch.cat([explorers, refiners], 1)

    def _reevaluates(self, layer: int) -> bool:
        """R3: whether a parent's loss can change from generation to generation, with the statistics it is scored by."""
        return self.recipe.reevaluates and layer < len(BLOCKS) - 1

    def reproduce(self, mates: Tensor, layer: int, stream: Stream, slots: range, alpha: float) -> Tensor:
        """A.4: children of random pairs of mates. [B, m, …] → [B, len(slots), …]; slots: the children's numbers."""
        if not len(slots):
            return mates[:, :0]
        recipe, blur = self.recipe, self.recipe.layers[layer].blur
        pairs = stream.pairs(slots, mates.shape[1])
        first, second = (op.take(mates, pairs[..., parent]) for parent in (0, 1))
        crossed = self.crossover(first, second, Draws(stream, slots, mates.dtype, crossover=True))
        random = Draws(stream, slots, mates.dtype)
        if layer == LOGITS:
            sigma = 0.5 * (op.class_std(first) + op.class_std(second))
            return op.mutate_logits(crossed, random.normals(mates.shape[-1])[..., 0, 0], sigma, alpha)
        spread = op.channel_std(mates)
        sigma = 0.5 * (op.take(spread, pairs[..., 0]) + op.take(spread, pairs[..., 1]))
        noise = self.mutation(random, sigma, alpha, mates.shape[2:])
        if recipe.smooth == "noise":  # smoothing acts on maps, not on one value per channel
            return self.normalisation(crossed + self.smooth(noise.expand_as(crossed), blur))
        return self.normalisation(self.smooth(crossed + noise, blur))

    def smooth(self, maps: Tensor, passes: int) -> Tensor:
        """A.4: maps [N, K, C, H, W] after `passes` passes; as they are where there is none."""
        return self.smoothing(maps, passes, self.recipe.count_padding) if passes else maps
