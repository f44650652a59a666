"""The generations of one block on a GPU with R1 `element`: only children that become mates are written.

The algebra is that of `cpu.evolve`. The mates of an image are `base` [slots, positions, C] with a scale and a shift per
slot: 2k slots for parents (of this and of the next generation, told apart by `state`), one per explorer. A mate is
stored as it was before normalisation, so that nothing waits for its mean and variance, and smoothed (R2 `child`). Per
generation:

    draw, children, settle   the explorers: parents and noise; max-pooled positions and sums; mean and 1 / √variance
    draw, children, settle   the refiners
    score, head, select      cross-entropy and the next parents' numbers
    rescore, before head     with R3 `trajectory`: the parents, whose max-pooled positions were kept, are scored anew
    remake                   the selected children, from the same parents and noise

Mates and max-pooled positions are float16: as many bytes as bfloat16, eight times as fine. The result, the best map, is
float32 throughout, and so are all parents where they are scored anew, since each can become the best. No kernel's
arithmetic depends on the batch, so the same image gives the same target bit by bit.

Per number of a child, the normal numbers take 45 operations, twelve others the rest of making it, and its smoothing 32
multiply-adds on the tensor cores.
"""

import math

import torch
import triton
from torch import Tensor

from repsearch.network import Shape
from repsearch.search import operators as op
from repsearch.search.gpu import element_kernels, kernels
from repsearch.search.gpu.kernels import PRECISION
from repsearch.search.network import Tail
from repsearch.search.recipe import BLOCKS, Recipe

MATES_DTYPE: torch.dtype | None = None  # instead of the choice of `mates_dtype`
SQUARE = 4096  # numbers in a square tile


def explorers_are_drawn(recipe: Recipe) -> bool:
    """Whether refiners may have explorers as parents (R11), so that explorers must be written as mates."""
    return recipe.refine_from == "parents+explorers" and recipe.explorers > 0 and recipe.refiners > 0


def mates_dtype(recipe: Recipe, layer: int, numbers: int, channels: int) -> torch.dtype:
    """float16 if no child of normalised parents of `numbers` numbers can exceed it (|normal| < 6); else bfloat16."""
    settings = recipe.layers[layer]
    highest = math.sqrt(numbers) + 6 * settings.alpha * max(1.0, settings.boost) * math.sqrt(channels)
    return torch.float16 if highest < torch.finfo(torch.float16).max / 2 else torch.bfloat16


def bytes_per_image(shape: Shape, recipe: Recipe, layer: int) -> int:
    """Device memory that an image takes, its float32 parents as given and the result included."""
    k, count, channels = recipe.parents, recipe.explorers + recipe.refiners, shape.width
    slots, cells = 2 * k + recipe.explorers, shape.map_sizes[-1] ** 2
    positions, windows = shape.map_sizes[layer] ** 2, 4 if layer == 0 else 1
    maps = 2 * slots * positions + 4 * (2 * k + 1) * positions  # mates; parents as given and reordered, best
    children = count * (2 * cells * windows + 4 * cells + 4 * 3)  # max-pooled, features, noise and moments
    words = slots * (channels + 2) + 8 * count + 7 * k + recipe.layers[layer].generations + 4
    if recipe.reevaluates and layer < len(BLOCKS) - 1:
        maps += 4 * k * positions + 4 * 2 * k * cells * windows + 4 * k * cells  # parents' slots, max-pooled, features
    return channels * (maps + children) + 4 * words


class Element:
    """The state of a batch on the device. `generation` advances it, always by the same launches on the same memory.

    The arrays, float32 unless a type is given, are for k parents and n children per image. S is the smoothing, 1 the
    map of ones: S H = scale · base - shift · S 1 is the smoothed map of a mate H with R2 `child`; with `noise` the same
    without S.
    """

    def __init__(
        self, tail: Tail, labels: Tensor, recipe: Recipe, indices: Tensor, layer: int, parents: Tensor, loss: Tensor
    ) -> None:
        settings, device = recipe.layers[layer], parents.device
        batch, k, channels, side = parents.shape[:4]
        positions, n, slots = side * side, recipe.explorers + recipe.refiners, 2 * k + recipe.explorers
        self.tail, self.recipe, self.settings = tail, recipe, settings
        self.batch, self.parents, self.channels, self.side, self.count, self.slots = batch, k, channels, side, n, slots
        self.residues = 2**tail.blocks  # R: the later blocks max-pool R × R positions
        self.cells = (side // self.residues) ** 2
        windows = max(1, self.residues // 2) ** 2
        half = MATES_DTYPE or mates_dtype(recipe, layer, channels * positions, channels)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.labels = labels.contiguous()  # [batch] int64
        self.images = indices.contiguous()  # [batch] int64, which choose the images' random numbers
        self.base = zeros(batch, slots, positions, channels, dtype=half)  # mates; the slots of parents come first
        self.scale = zeros(batch, slots).fill_(1)  # of each mate, see above
        self.shift = zeros(batch, slots)
        self.sigma = zeros(batch, slots, channels)  # standard deviation per channel of each mate, normalised
        self.pair = zeros(batch, n, 2, dtype=torch.int32)  # the slots of each child's two parents
        self.mix = zeros(batch, n, 3)  # the weights in a child of its parents' bases and of S 1
        self.noise = zeros(batch, n, channels)  # standard deviation of each child's mutation
        self.moments = zeros(batch, n, 2, channels)  # each child's mean and variance per channel
        self.affine = zeros(batch, n, 2)  # each child's mean and 1 / √(variance + ε)
        # The max-pooled child; the next max-pooling joins a cell's windows.
        self.pooled = zeros(batch, n, self.cells, windows, channels, dtype=half)
        # R3: how many of an image's parents are scored anew, before its children, and the slots that they may have.
        self.rescored, kept = (k, 2 * k) if tail.reevaluate else (0, 0)
        self.pooled_parents = zeros(batch, kept, self.cells, windows, channels)  # normalised, by slot
        self.features = zeros(batch, self.rescored + n, self.cells, channels)  # what the head reads
        self.losses = torch.cat([loss.float(), zeros(batch, n)], 1)  # cross-entropies of parents, then children
        self.chosen = zeros(batch, k, dtype=torch.int32)  # the next parents by rank: a child's number, -1 for a parent
        self.chosen_loss = zeros(batch, k)  # their cross-entropies
        # Slots of the parents by rank, then the spare slots.
        self.state = torch.arange(2 * k, dtype=torch.int32, device=device).repeat(batch, 1)
        self.next_state = self.state.clone()
        self.history = zeros(batch, settings.generations)  # the best cross-entropy after each generation
        # Layer and generation, low and high word of the seed. Read by the kernels, so that their launches are the same
        # in every generation.
        self.clock = torch.tensor([(layer << 24) | 1, recipe.seed & 0xFFFFFFFF, recipe.seed >> 32], device=device)

        self.padded = max(4, triton.next_power_of_2(side))  # T
        matrix = op.smoothing_matrix(side, settings.blur, recipe.count_padding)
        # [positions]: S 1 (R10: less than 1 near the border).
        self.mask = torch.outer(matrix.sum(1), matrix.sum(1)).flatten().float().to(device)
        matrix = torch.nn.functional.pad(matrix, (0, self.padded - side) * 2)
        copies = torch.eye(max(1, 16 // self.padded), dtype=matrix.dtype)
        self.matrix = torch.kron(copies, matrix).float().to(device)  # one axis of the smoothing (`math.smoothed`)
        # Of a square tile: its channels and how many there are per map.
        self.block = max(16, min(SQUARE // self.padded**2, triton.next_power_of_2(channels)))
        self.blocks = triton.cdiv(channels, self.block)
        self.child = self.base, self.pair, self.mix, self.noise, self.images, self.clock, self.mask, self.matrix
        child, blur = recipe.smooth == "child", settings.blur > 0  # R2
        self.readings = {"CHILD": child, "BLUR": blur, "PRECISION": PRECISION}

        maps = parents.float().flatten(3).transpose(2, 3)  # [B, k, positions, C]
        # Normalised but not smoothed: the parents by slot where they are scored anew, else the best candidate so far.
        if self.rescored:
            self.made = zeros(batch, kept, positions, channels)
            self.made[:, :k] = maps
            maps = self.made
        else:
            maps = maps.contiguous()
            self.made = maps[:, :1].clone()
        element_kernels.enter[(batch * k, self.blocks)](
            maps, self.base, self.sigma, self.pooled_parents, self.matrix, k, maps.shape[1], slots,
            C=channels, SIDE=side, T=self.padded, R=self.residues, BLOCK=self.block, POOL=self.rescored > 0,
            SMOOTH=child and blur, PRECISION=PRECISION, num_warps=8,
        )  # fmt: skip

    @property
    def best(self) -> Tensor:
        """[batch, positions, C]: the best parent."""
        if not self.rescored:
            return self.made[:, 0]
        return self.made[torch.arange(self.batch, device=self.made.device), self.state[:, 0].long()]

    def generation(self) -> None:
        recipe, k = self.recipe, self.parents
        explorers, alpha = recipe.explorers, self.settings.alpha
        mates = k + (explorers if recipe.refine_from == "parents+explorers" else 0)  # R11
        if explorers:
            self._reproduce(0, explorers, k, float(alpha * self.settings.boost), explorers_are_drawn(recipe))
        if recipe.refiners:
            self._reproduce(explorers, recipe.refiners, mates, float(alpha), False)
        self._evaluate()
        element_kernels.select[(self.batch,)](
            self.losses, self.state, self.next_state, self.chosen, self.chosen_loss, self.history, self.clock,
            self.settings.generations, self.count, k,
            BLOCK=triton.next_power_of_2(k + self.count), PARENTS=triton.next_power_of_2(k), CHUNK=16, num_warps=4,
        )  # fmt: skip
        element_kernels.remake[(self.batch * k, self.blocks)](
            *self.child, self.moments, self.affine, self.scale, self.shift, self.sigma, self.next_state, self.chosen,
            self.pooled, self.pooled_parents, self.made, self.count, k, self.slots,
            C=self.channels, SIDE=self.side, T=self.padded, R=self.residues, BLOCK=self.block, KEEP=self.rescored > 0,
            PADDED=triton.next_power_of_2(self.cells * self.pooled.shape[3]), **self.readings, num_warps=8,
        )  # fmt: skip
        self.state.copy_(self.next_state)
        if not self.rescored:
            self.losses[:, :k].copy_(self.chosen_loss)
        self.clock[:1].add_(1)

    def _reproduce(self, start: int, made: int, mates: int, alpha: float, join: bool) -> None:
        """A.4: children start … start + made - 1 of every image, from so many mates; join: they become mates."""
        grid, channels, padded = self.batch * made, self.channels, triton.next_power_of_2(self.channels)
        element_kernels.draw[(grid,)](
            self.state, self.scale, self.shift, self.sigma, self.images, self.clock, self.pair, self.mix, self.noise,
            alpha, start, made, self.count, mates, self.parents, self.slots,
            C=channels, BLOCK=padded, num_warps=1 if padded <= 256 else 4,
        )  # fmt: skip
        element_kernels.children[(grid, self.blocks)](
            *self.child, self.moments, self.pooled, start, made, self.count, self.parents, self.slots,
            C=channels, SIDE=self.side, T=self.padded, R=self.residues, BLOCK=self.block,
            **self.readings, WRITE=join, num_warps=8,
        )  # fmt: skip
        element_kernels.settle[(grid,)](
            self.moments, self.affine, self.scale, self.shift, self.sigma, start, made, self.count, self.parents,
            self.slots, op.EPSILON, C=channels, BLOCK=padded, WRITE=join, num_warps=1 if padded <= 256 else 4,
        )  # fmt: skip

    def _evaluate(self) -> None:
        """The losses of the children, and of the parents where they are scored anew."""
        rows, block = 16, min(64, triton.next_power_of_2(self.channels))
        total = self.batch * self.count * self.cells
        if self.count:
            element_kernels.score[(triton.cdiv(total, rows), triton.cdiv(self.channels, block))](
                self.pooled, self.affine, self.tail.norms, self.clock, self.features, total, self.count,
                C=self.channels, CELLS=self.cells, R=self.residues, ROW=kernels.row_size(self.tail),
                RESCORED=self.rescored, ROWS=rows, BLOCK=block, num_warps=4,
            )  # fmt: skip
        if self.rescored:
            kernels.launch_rescore(
                self.pooled_parents, self.sigma, self.state, self.tail, self.clock, self.features, self.parents
            )
        kernels.launch_head(self.features, self.tail, self.labels, self.losses)
