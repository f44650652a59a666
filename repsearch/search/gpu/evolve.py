"""The evolution of one block on a GPU, in Triton: all images of a batch side by side; only children that become mates
are written.

The algebra is that of `cpu.evolve`. The mates of an image are `base` [slots, positions, C] with a scale and a shift per
slot: 2k slots for parents (of this and of the next generation, told apart by `state`), one per explorer. A mate is
stored as it was before normalisation, so that nothing waits for its mean and variance, and smoothed (R2 `child`); with
R1 `channel` parents are also stored smoothed twice, since an explorer's smoothed map is then a weighted sum of two of
those. Per generation:

    draw, children, settle   the explorers: parents and noise; max-pooled positions and sums; mean and 1 / √variance
    draw, children, settle   the refiners
    score, head, select      fitness and the next parents' numbers
    remake                   the selected children, from the same parents and noise

Mates and max-pooled positions are float16: as many bytes as bfloat16, eight times as fine, and a normalised map can't
overflow it (|h| ≤ √(positions · C)). The result, the best map, is float32 throughout. No kernel's arithmetic depends on
the batch, so the same image gives the same target bit by bit; no step waits for the host, so a generation is captured
once as a CUDA graph and replayed.

The roofline per child at block 0 (15 × 15 × 256 = 57,600 numbers of 2 bytes), averaged over 100 explorers and 120
refiners. Bytes: from the L2 cache 335 kB (four maps per explorer, two per refiner). To and from memory 186 kB: mates,
written by explorers and read once, 52 + 73; max-pooled positions 18 + 18; features 9 + 9; noise and moments 3 + 3.
Operations: 12 per number (conversions 4 or 2, multiply-adds 6 or 3, moments 3, maximum 1, conversion back 1 or 0), 0.7
million; 23,000 times BatchNorm and GELU at 22, 0.5 million; the head 2,304 × classes: 1.2 million. On 132
multiprocessors of 128 lanes at 1.755 GHz these take 40 ns, the bytes 56 ns at 3.35 TB/s and 39 ns at 4.8 TB/s. R1
`element` adds 45 operations per number for the normal numbers, and its smoothing 2 × 16 multiply-adds on the tensor
cores.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
import triton
from torch import Tensor

from repsearch.network import Shape
from repsearch.search import operators as op
from repsearch.search.gpu import kernels
from repsearch.search.network import Tail
from repsearch.search.recipe import BLOCKS, Recipe

PRECISION = "tf32x3"  # of the tensor cores' products: close to float32. Plain tf32 would round the smoothing's weights
MATES_DTYPE: torch.dtype | None = None  # instead of the choice of `mates_dtype`
SQUARE, LEAN = 4096, 4096  # numbers in a square tile; in the first rows of all residues of a lean one


def evolve(
    tail: Tail, labels: Tensor, recipe: Recipe, indices: Tensor, layer: int, parents: Tensor, loss: Tensor
) -> tuple[Tensor, Tensor]:
    """The generations of one block on a GPU: the arguments and results are those of `cpu.evolve.evolve`."""
    generations = recipe.layers[layer].generations
    if not recipe.explorers + recipe.refiners:
        return parents[:, 0], loss[:, :1].expand(-1, generations)
    with torch.cuda.device(parents.device) if parents.is_cuda else nullcontext():
        batch = _Batch(tail, labels, recipe, indices, layer, parents, loss)
        _repeat(batch.generation, generations, parents.is_cuda)
    return batch.best.transpose(1, 2).unflatten(2, parents.shape[3:]), batch.history


def bytes_per_image(shape: Shape, recipe: Recipe) -> int:
    """Device memory that an image takes in `evolve`, in the layer that takes most.

    It includes the float32 parents twice, as given and in the order of the mates, but nothing else that the caller
    holds, such as the first population.
    """
    count, channels = recipe.explorers + recipe.refiners, shape.width
    slots, cells = 2 * recipe.parents + recipe.explorers, shape.map_sizes[-1] ** 2
    largest = 0
    for layer in range(len(BLOCKS)):
        positions, windows = shape.layer_shapes[BLOCKS[layer]][1] ** 2, 4 if layer == 0 else 1
        twice = 2 * recipe.parents if keeps_twice(recipe, layer) else 0
        maps = 2 * (slots + twice) * positions + 4 * (2 * recipe.parents + 1) * positions  # mates; parents, best
        children = count * (2 * cells * windows + 4 * cells + 4 * 3)  # max-pooled, features, noise and moments
        words = slots * (channels + 2) + 8 * count + 7 * recipe.parents + recipe.layers[layer].generations + 4
        largest = max(largest, channels * (maps + children) + 4 * words)
    return largest


def keeps_twice(recipe: Recipe, layer: int) -> bool:
    """Whether explorers are smoothed by way of their parents, which are then stored smoothed twice."""
    smoothed = recipe.smooth == "child" and recipe.layers[layer].blur > 0
    return recipe.mutation == "channel" and smoothed and explorers_are_drawn(recipe)


def explorers_are_drawn(recipe: Recipe) -> bool:
    """Whether refiners may have explorers as parents (R11), so that explorers must be written as mates."""
    return recipe.refine_from == "parents+explorers" and recipe.explorers > 0 and recipe.refiners > 0


def mates_dtype(recipe: Recipe, layer: int, numbers: int, channels: int) -> torch.dtype:
    """float16 if no child of normalised parents of `numbers` numbers can exceed it (|normal| < 6); else bfloat16."""
    settings = recipe.layers[layer]
    highest = math.sqrt(numbers) + 6 * settings.alpha * max(1.0, settings.boost) * math.sqrt(channels)
    return torch.float16 if highest < torch.finfo(torch.float16).max / 2 else torch.bfloat16


def _repeat(step: Callable[[], None], times: int, cuda: bool) -> None:
    """step(), `times` times: on a GPU captured after the first (which compiles) and replayed."""
    if not cuda or times < 3:
        for _ in range(times):
            step()
        return
    step()
    graph, stream, capturing = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.Stream()
    capturing.wait_stream(stream)
    with torch.cuda.stream(capturing):  # not `torch.cuda.graph`, which empties the allocator's cache
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            step()
        finally:
            graph.capture_end()
    stream.wait_stream(capturing)
    for _ in range(times - 1):
        graph.replay()
    stream.synchronize()  # the graph must outlive its replays


class _Batch:
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
        self.residues = 2 ** len(tail.norms)  # R: the later blocks max-pool R × R positions
        self.cells = (side // self.residues) ** 2
        windows = max(1, self.residues // 2) ** 2
        half = MATES_DTYPE or mates_dtype(recipe, layer, channels * positions, channels)
        self.smooth_twice = keeps_twice(recipe, layer)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.labels = labels.contiguous()  # [batch] int64
        self.images = indices.contiguous()  # [batch] int64, which choose the images' random numbers
        self.base = zeros(batch, slots, positions, channels, dtype=half)  # mates; the slots of parents come first
        # Parents smoothed twice; `base` itself where none is needed.
        self.twice = zeros(batch, 2 * k, positions, channels, dtype=half) if self.smooth_twice else self.base
        self.scale = zeros(batch, slots).fill_(1)  # of each mate, see above
        self.shift = zeros(batch, slots)
        self.sigma = zeros(batch, slots, channels)  # standard deviation per channel of each mate, normalised
        self.pair = zeros(batch, n, 2, dtype=torch.int32)  # the slots of each child's two parents
        self.mix = zeros(batch, n, 3)  # the weights in a child of its parents' bases and of S 1
        self.noise = zeros(batch, n, channels)  # each child's mutation (R1 `channel`) or its standard deviation
        self.moments = zeros(batch, n, 2, channels)  # each child's mean and variance per channel
        self.affine = zeros(batch, n, 2)  # each child's mean and 1 / √(variance + ε)
        # The max-pooled child; the next max-pooling joins a cell's windows.
        self.pooled = zeros(batch, n, self.cells, windows, channels, dtype=half)
        self.features = zeros(batch, n, self.cells, channels)  # what the head reads
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
        rows = matrix.sum(1), matrix @ matrix.sum(1)
        # [2, positions]: S 1 and S S 1 (R10: less than 1 near the border).
        self.mask = torch.stack([torch.outer(row, row).flatten() for row in rows]).float().to(device)
        matrix = torch.nn.functional.pad(matrix, (0, self.padded - side) * 2)
        copies = torch.eye(max(1, 16 // self.padded), dtype=matrix.dtype)
        self.matrix = torch.kron(copies, matrix).float().to(device)  # one axis of the smoothing (`math.smoothed`)
        # Of a square tile: its channels and how many there are per map.
        self.block = max(16, min(SQUARE // self.padded**2, triton.next_power_of_2(channels)))
        self.blocks = triton.cdiv(channels, self.block)
        self.child = self.base, self.pair, self.mix, self.noise, self.images, self.clock, self.mask, self.matrix
        element, child, blur = recipe.mutation == "element", recipe.smooth == "child", settings.blur > 0  # R1, R2
        self.readings = {"ELEMENT": element, "CHILD": child, "BLUR": blur, "PRECISION": PRECISION}

        maps = parents.float().flatten(3).transpose(2, 3).contiguous()  # [B, k, positions, C]
        self.best = maps[:, 0].clone()  # the best candidate so far
        kernels.enter[(batch * k, self.blocks)](
            maps, self.base, self.twice, self.sigma, self.matrix, k, slots, C=channels, SIDE=side, T=self.padded,
            BLOCK=self.block, SMOOTH=child and blur, TWICE=self.smooth_twice, PRECISION=PRECISION, num_warps=8,
        )  # fmt: skip

    def generation(self) -> None:
        recipe, k = self.recipe, self.parents
        explorers, alpha = recipe.explorers, self.settings.alpha
        mates = k + (explorers if recipe.refine_from == "parents+explorers" else 0)  # R11
        if explorers:
            self._reproduce(0, explorers, k, float(alpha * self.settings.boost), explorers_are_drawn(recipe))
        if recipe.refiners:
            self._reproduce(explorers, recipe.refiners, mates, float(alpha), False)
        self._evaluate()
        kernels.select[(self.batch,)](
            self.losses, self.state, self.next_state, self.chosen, self.chosen_loss, self.history, self.clock,
            self.settings.generations, self.count, k,
            BLOCK=triton.next_power_of_2(k + self.count), PARENTS=triton.next_power_of_2(k), CHUNK=16, num_warps=4,
        )  # fmt: skip
        kernels.remake[(self.batch * k, self.blocks)](
            *self.child, self.moments, self.affine, self.scale, self.shift, self.sigma, self.next_state, self.chosen,
            self.best, self.twice, self.count, k, self.slots, C=self.channels, SIDE=self.side, T=self.padded,
            BLOCK=self.block, **self.readings, TWICE=self.smooth_twice, num_warps=8,
        )  # fmt: skip
        self.state.copy_(self.next_state)
        self.losses[:, :k].copy_(self.chosen_loss)
        self.clock[:1].add_(1)

    def _reproduce(self, start: int, made: int, mates: int, alpha: float, join: bool) -> None:
        """A.4: children start … start + made - 1 of every image, from so many mates; join: they become mates."""
        grid, channels, padded = self.batch * made, self.channels, triton.next_power_of_2(self.channels)
        element = self.recipe.mutation == "element"
        kernels.draw[(grid,)](
            self.state, self.scale, self.shift, self.sigma, self.images, self.clock, self.pair, self.mix, self.noise,
            alpha, start, made, self.count, mates, self.parents, self.slots,
            C=channels, BLOCK=padded, ELEMENT=element, num_warps=1 if padded <= 256 else 4,
        )  # fmt: skip
        if element:
            kernels.children[(grid, self.blocks)](
                *self.child, self.moments, self.pooled, start, made, self.count, self.parents, self.slots,
                C=channels, SIDE=self.side, T=self.padded, R=self.residues, BLOCK=self.block,
                **self.readings, WRITE=join, num_warps=8,
            )  # fmt: skip
        else:
            edge = max(2, triton.next_power_of_2(-(-self.side // self.residues)))
            block = min(padded, max(16, LEAN // (self.residues * edge**2)))
            kernels.lean_children[(grid, triton.cdiv(channels, block))](
                self.base, self.twice, self.pair, self.mix, self.noise, self.mask, self.moments, self.pooled,
                start, made, self.count, self.parents, self.slots, C=channels, SIDE=self.side, EDGE=edge,
                R=self.residues, BLOCK=block, CHILD=self.recipe.smooth == "child", WRITE=join,
                TWICE=join and self.smooth_twice, num_warps=4,
            )  # fmt: skip
        kernels.settle[(grid,)](
            self.moments, self.affine, self.scale, self.shift, self.sigma, start, made, self.count, self.parents,
            self.slots, op.EPSILON, C=channels, BLOCK=padded, WRITE=join, num_warps=1 if padded <= 256 else 4,
        )  # fmt: skip

    def _evaluate(self) -> None:
        """The children's losses, after the parents' in `losses`."""
        rows, block, classes = 16, min(64, triton.next_power_of_2(self.channels)), len(self.tail.head)
        total = self.batch * self.count * self.cells
        kernels.score[(triton.cdiv(total, rows), triton.cdiv(self.channels, block))](
            self.pooled, self.affine, self.tail.norms, self.features, total,
            C=self.channels, CELLS=self.cells, R=self.residues, ROWS=rows, BLOCK=block, num_warps=4,
        )  # fmt: skip
        rows = min(64, max(16, triton.next_power_of_2(self.count)))
        kernels.head[(self.batch, triton.cdiv(self.count, rows))](
            self.features, self.tail.head, self.tail.bias, self.labels, self.losses, self.count, self.parents,
            D=self.cells * self.channels, K=classes, ROWS=rows, TERMS=32,
            CLASSES=min(64, max(16, triton.next_power_of_2(classes))), PRECISION=PRECISION, num_warps=4,
        )  # fmt: skip
