"""The generations of one block on a GPU with R1 `channel`: children are rows of a matrix product, and never written.

Let S be the smoothing (R2 `child`; with `noise`, S H stands for H below), P = S H and Q = S S H a parent smoothed once
and twice, m₁ = S 1 and m₂ = S S 1 the maps of ones (with `noise`, m₂ = m₁). A child of parents i and j with the
mutation x per channel c is

    X = ½ (P_i + P_j) + x_c m₁,    normalised: r (X - μ)

and an explorer E = r (X - μ) that is a mate enters a refiner as S E = r (½ (Q_i + Q_j) + x_c m₂ - μ m₁). So every child
is a weighted sum of at most four of the 2k maps P and Q, plus x_c m₁ + y_c m₂. Its mean and variance follow from those
of the maps before it is made. Maps and masks are stored without their means per channel, which `means` holds:

    κ_c   = Σ w_t M_tc + x_c m̄₁ + y_c m̄₂                                   mean of channel c
    var_c = Σ w_t w_u ⟨t, u⟩_c + x_c (2 Σ w_t ⟨t, m₁⟩_c + x_c ⟨m₁, m₁⟩) + …   its variance; ⟨·,·⟩ are covariances
    μ     = mean of κ_c,    1 / r² = mean of var_c + variance of κ_c + ε

The standard deviation per channel is needed of explorers alone (of the mates, A.4), so ⟨P_i, P_j⟩_c is kept per channel
and the other covariances are summed over the channels. They change with new parents alone, about one per generation.
Per generation:

    explore, refine            mates, mutation, mean and variance of every child
    features, head             children made, max-pooled and scored in registers; cross-entropy
    rescore, before head       with R3 `trajectory`: the parents, max-pooled when they were made, are scored anew
    score, for rescore, head   where candidates of all images are scored together: all of them, max-pooled
    select                     the next parents
    remake, enter              new parents made, in float32, then smoothed once and twice into the slots that are free
    covary, covary_all,        their covariances, per channel and summed over the channels
    collect

Maps are float16, whose rounding the covariances share: as many bytes as bfloat16, eight times as fine, and a
normalised map can't overflow it (|h| ≤ √(positions · C)). Weights of P are ½ or 1, exact in float16; those of Q are
split in two. The parents, one of which is the result, are kept in float32 as well. No kernel's arithmetic depends on
the batch, so the same image gives the same target bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
from torch import Tensor

from repsearch.network import Shape
from repsearch.search import operators as op
from repsearch.search.gpu import channel_kernels, kernels
from repsearch.search.gpu.kernels import PRECISION
from repsearch.search.network import Tail
from repsearch.search.recipe import BLOCKS, Recipe

MAPS_DTYPE = torch.float16
SQUARE = 4096  # numbers in a square tile
ROWS, CHANNELS, WARPS, STAGES = 64, 32, 4, 3  # of `features`
PARTS, TERMS = 8, 64  # of `covary_all`: parts of a map's numbers, and how many at a time


def bytes_per_image(shape: Shape, recipe: Recipe, layer: int) -> int:
    """Device memory that an image takes, its float32 parents twice and the result included."""
    k, count, channels = recipe.parents, recipe.explorers + recipe.refiners, shape.width
    positions, cells = shape.map_sizes[layer] ** 2, shape.map_sizes[-1] ** 2
    maps = 2 * 2 * k * positions + 4 * (2 * k + 1) * positions  # smoothed; as given, made, best
    parents = 4 * (k * k + 2 * k + k + 4 * k)  # their covariances, means and standard deviations
    children = 4 * (count * (cells + 3) + max(1, recipe.explorers))  # features, masks' coefficients, means; deviations
    words = 4 * k * k * (PARTS + 1) + 11 * count + 5 * k + 4
    if recipe.reevaluates and layer < len(BLOCKS) - 1:
        parents += 4 * k * cells * ((4 if layer == 0 else 1) + 1)  # max-pooled, features
    return channels * (maps + parents + children) + 4 * (words + recipe.layers[layer].generations)


class Channel:
    """The state of a batch on the device. `generation` advances it, always by the same launches on the same memory.

    score: see `cpu.channel.evolve`.
    The arrays, float32 unless a type is given, are for k parents and n children per image.
    """

    def __init__(
        self,
        tail: Tail,
        labels: Tensor,
        recipe: Recipe,
        indices: Tensor,
        layer: int,
        parents: Tensor,
        loss: Tensor,
        score: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        settings, device = recipe.layers[layer], parents.device
        batch, k, channels, side = parents.shape[:4]
        positions, n = side * side, recipe.explorers + recipe.refiners
        self.tail, self.recipe, self.settings, self.score = tail, recipe, settings, score
        self.batch, self.parents, self.channels, self.side, self.count = batch, k, channels, side, n
        self.residues = 2**tail.blocks  # R: the later blocks max-pool R × R positions
        self.cells = (side // self.residues) ** 2
        self.padded = max(4, triton.next_power_of_2(side))  # T
        # Channels of a square tile.
        self.block = max(16, min(SQUARE // self.padded**2, triton.next_power_of_2(channels)))
        self.child = recipe.smooth == "child"  # R2

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.labels = labels.contiguous()  # [batch] int64
        self.images = indices.contiguous()  # [batch] int64, which choose the images' random numbers
        # The parents smoothed once, then twice, by slot, without their means per channel.
        self.maps = zeros(batch, 2 * k, positions, channels, dtype=MAPS_DTYPE)
        self.means = zeros(batch, 2 * k, channels)
        self.sigma = zeros(batch, k, channels)  # standard deviation per channel of each parent
        self.covariance = zeros(batch, 2 * k, 2, channels)  # of `maps` with both masks
        self.gram = zeros(batch, k, k, channels)  # covariances of the parents smoothed once
        self.partial = zeros(batch, PARTS, 2 * k, 2 * k)  # see `covary_all`
        self.total = zeros(batch, 2 * k, 2 * k)  # covariances of `maps`, summed over the channels
        self.pair = zeros(batch, n, 4, dtype=torch.int32)  # the maps that a child is made of
        self.weight = zeros(batch, n, 4)
        self.noise = zeros(batch, n, 2, channels)  # x and y: coefficients of the masks
        self.kappa = zeros(batch, n, channels)
        self.mean = zeros(batch, n)
        self.rate = zeros(batch, n)
        self.spread = zeros(
            batch, max(1, recipe.explorers), channels
        )  # standard deviation of each explorer, normalised
        # R3: how many of an image's parents are scored anew, before its children. Max-pooled, normalised, by slot.
        self.rescored = k if tail.reevaluate else 0
        self.pooled = zeros(batch, self.rescored, self.cells, max(1, self.residues // 2) ** 2, channels)
        self.features = zeros(batch, self.rescored + n, self.cells, channels)  # what the head reads
        self.losses = torch.cat([loss.float(), zeros(batch, n)], 1)  # cross-entropies of parents, then children
        self.chosen = zeros(batch, k, dtype=torch.int32)  # the next parents by rank: a child's number, -1 for a parent
        self.chosen_loss = zeros(batch, k)  # their cross-entropies
        self.state = torch.arange(k, dtype=torch.int32, device=device).repeat(batch, 1)  # slots of the parents by rank
        self.next_state = self.state.clone()
        self.history = zeros(batch, settings.generations)  # the best cross-entropy after each generation
        # Layer and generation, low and high word of the seed. Read by the kernels, so that their launches are the same
        # in every generation.
        self.clock = torch.tensor([(layer << 24) | 1, recipe.seed & 0xFFFFFFFF, recipe.seed >> 32], device=device)

        matrix = op.smoothing_matrix(side, settings.blur, recipe.count_padding)
        rows = [matrix.sum(1), matrix @ matrix.sum(1)]
        mask = torch.stack([torch.outer(row, row).flatten() for row in (rows if self.child else rows[:1] * 2)])
        centred = mask - mask.mean(1, keepdim=True)
        products = (centred[:, None] * centred[None, :]).mean(2)
        self.mask = centred.float().to(device)  # [2, positions]
        # Means of both masks; variance of the first, their covariance, variance of the second.
        self.masks = torch.cat([mask.mean(1), products.flatten()[[0, 1, 3]]]).float().to(device)
        matrix = torch.nn.functional.pad(matrix, (0, self.padded - side) * 2)
        copies = torch.eye(max(1, 16 // self.padded), dtype=matrix.dtype)
        self.matrix = torch.kron(copies, matrix).float().to(device)  # one axis of the smoothing (`math.smoothed`)

        # The parents by slot, normalised but not smoothed.
        self.made = parents.float().flatten(3).transpose(2, 3).clone(memory_format=torch.contiguous_format)
        self._enter(self.state)

    @property
    def best(self) -> Tensor:
        """[batch, positions, C]: the best parent."""
        return self.made[torch.arange(self.batch, device=self.made.device), self.state[:, 0].long()]

    def generation(self) -> None:
        recipe, k = self.recipe, self.parents
        join = recipe.refine_from == "parents+explorers" and recipe.explorers > 0  # R11
        self._draw(k + (recipe.explorers if join else 0))
        if recipe.explorers:
            self._features(0, recipe.explorers, False)
        if recipe.refiners:
            self._features(recipe.explorers, recipe.refiners, join)
        if self.score:
            self._score_together(self.score)
        else:
            if self.rescored:
                kernels.launch_rescore(self.pooled, self.sigma, self.state, self.tail, self.clock, self.features, k)
            kernels.launch_head(self.features, self.tail, self.labels, self.losses)
        channel_kernels.select[(self.batch,)](
            self.losses, self.state, self.next_state, self.chosen, self.chosen_loss, self.history, self.clock,
            self.settings.generations, self.count, k,
            BLOCK=triton.next_power_of_2(k + self.count), PARENTS=triton.next_power_of_2(k), CHUNK=16, num_warps=4,
        )  # fmt: skip
        tile = min(64, triton.next_power_of_2(self.side**2))
        channel_kernels.remake[(self.batch * k, triton.cdiv(self.side**2, tile), triton.cdiv(self.channels, 64))](
            self.maps, self.pair, self.weight, self.noise, self.kappa, self.mean, self.rate, self.mask, self.chosen,
            self.next_state, self.made, self.count, k,
            C=self.channels, SIDE=self.side, TILE=tile, BLOCK=64, num_warps=4,
        )  # fmt: skip
        self._enter(self.next_state)
        self.state.copy_(self.next_state)
        if not self.rescored:
            self.losses[:, :k].copy_(self.chosen_loss)
        self.clock[:1].add_(1)

    def _score_together(self, score: Callable[[Tensor, int], Tensor]) -> None:
        """The losses, by rank, of the parents and children, which `features` holds max-pooled."""
        images = torch.arange(self.batch, device=self.state.device)[:, None]
        self.features[:, : self.parents] = self.pooled[images, self.state.long(), :, 0]
        maps = self.features.movedim(-1, 2).unflatten(3, (self.side // 2, self.side // 2))
        self.losses.copy_(score(maps, int(self.clock[0]) & 0xFFFFFF))

    def _draw(self, mates: int) -> None:
        recipe, settings, k, padded = self.recipe, self.settings, self.parents, triton.next_power_of_2(self.channels)
        options = {"C": self.channels, "BLOCK": padded, "num_warps": 1 if padded <= 256 else 4}
        drawn = (
            self.images,
            self.clock,
            self.masks,
            self.pair,
            self.weight,
            self.noise,
            self.kappa,
            self.mean,
            self.rate,
        )
        if recipe.explorers:
            channel_kernels.explore[(self.batch * recipe.explorers,)](
                self.state, self.sigma, self.means, self.covariance, self.gram, *drawn, self.spread,
                float(settings.alpha * settings.boost), self.count, k, op.EPSILON, MADE=recipe.explorers, **options,
            )  # fmt: skip
        if recipe.refiners:
            channel_kernels.refine[(self.batch * recipe.refiners,)](
                self.state, self.sigma, self.means, self.covariance, self.total, *drawn, self.spread,
                float(settings.alpha), self.count, k, mates, op.EPSILON, START=recipe.explorers, MADE=recipe.refiners,
                CHILD=self.child, **options,
            )  # fmt: skip

    def _features(self, start: int, made: int, join: bool) -> None:
        rows, block = min(ROWS, max(16, triton.next_power_of_2(made))), CHANNELS
        channel_kernels.features[(self.batch * triton.cdiv(made, rows), triton.cdiv(self.channels, block))](
            self.maps, self.pair, self.weight, self.noise, self.kappa, self.mean, self.rate, self.mask,
            self.tail.norms, self.clock, self.features, self.count, self.parents,
            C=self.channels, SIDE=self.side, R=self.residues, ROW=kernels.row_size(self.tail), RESCORED=self.rescored,
            START=start, MADE=made, ROWS=rows, KP=max(16, triton.next_power_of_2(self.parents)), BLOCK=block,
            JOIN=join, SCORE=self.score is None, STAGES=STAGES, PRECISION=PRECISION, num_warps=WARPS,
        )  # fmt: skip

    def _enter(self, state: Tensor) -> None:
        """New parents take their slots, and their covariances are taken."""
        k, padded = self.parents, triton.next_power_of_2(self.parents)
        channel_kernels.enter[(self.batch * k, triton.cdiv(self.channels, self.block))](
            self.made, self.maps, self.pooled, self.sigma, self.means, self.covariance, self.mask, self.matrix, state,
            self.chosen, k, C=self.channels, SIDE=self.side, T=self.padded, R=self.residues, BLOCK=self.block,
            POOL=self.rescored > 0, SMOOTH=self.child and self.settings.blur > 0, PRECISION=PRECISION, num_warps=8,
        )  # fmt: skip
        channel_kernels.covary[(self.batch * k, triton.cdiv(self.channels, 64))](
            self.maps, self.gram, state, self.chosen, k, C=self.channels, SIDE=self.side, KP=padded, BLOCK=64,
            UNROLLED=3, num_warps=4,
        )  # fmt: skip
        numbers, maps = self.side**2 * self.channels, max(16, triton.next_power_of_2(2 * k))
        part = triton.cdiv(triton.cdiv(numbers, PARTS), TERMS) * TERMS
        channel_kernels.covary_all[(self.batch, PARTS)](
            self.maps, self.partial, self.chosen, k, NUMBERS=numbers, PART=part, KP=padded, MAPS=maps, TERMS=TERMS,
            PRECISION=PRECISION, num_warps=4,
        )  # fmt: skip
        channel_kernels.collect[(self.batch, triton.cdiv(4 * k * k, 256))](
            self.partial, self.total, PARTS, k, self.side**2, BLOCK=256, PARTS=PARTS, num_warps=4,
        )  # fmt: skip
