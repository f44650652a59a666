"""The BatchNorm statistics of a search (R3): given ones, and those of the candidates themselves."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from repsearch.search.recipe import BLOCKS


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of the BatchNorms of every forward pass of a search, the same for all images.

    openings: block ℓ → [BatchNorms of block ℓ, 2, C], of the pass that makes its first population, from the images
    or from the best candidates of block ℓ - 1. scorings: block ℓ → [rows, BatchNorms of the blocks after it, 2, C], of
    the passes that score its candidates: row 0 is for the first population, row g for generation g, a single row for
    all of them. Statistics of one layer's search (figure 2) have the scorings of that block alone.
    """

    openings: dict[int, Tensor]
    scorings: dict[int, Tensor]

    def opening(self, layer: int) -> Tensor:
        """Of the network before the layer: [BatchNorms, 2, C]."""
        return self.openings[layer]

    def scoring(self, layer: int, generation: int) -> Tensor:
        """Of the network after the layer, in a generation (0: where it opens): [BatchNorms, 2, C]."""
        rows = self.scorings[layer]
        return rows[generation if len(rows) > 1 else 0]

    def generations(self, layer: int) -> Tensor:
        """The rows of `scorings` that belong to generations: [generations or 1, BatchNorms, 2, C]."""
        rows = self.scorings[layer]
        return rows[1:] if len(rows) > 1 else rows

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "Statistics":
        def move(tables: dict[int, Tensor]) -> dict[int, Tensor]:
            return {layer: table.to(device=device, dtype=dtype) for layer, table in tables.items()}

        return Statistics(move(self.openings), move(self.scorings))


@dataclass
class Recorder:
    """R3 `batch`: every pass has the statistics of the candidates in it. They are kept, by layer and generation."""

    openings: dict[int, list[Tensor]] = field(default_factory=dict)
    scorings: dict[int, dict[int, list[Tensor]]] = field(default_factory=dict)

    def opening(self, layer: int) -> list[Tensor]:
        """A new list for moments [2, C] of the network before the layer, in place of those recorded."""
        self.openings[layer] = []
        return self.openings[layer]

    def scoring(self, layer: int, generation: int) -> list[Tensor]:
        """A new list for moments [2, C] of the network after the layer, in place of the generation's."""
        passes = self.scorings.setdefault(layer, {})
        passes[generation] = []
        return passes[generation]

    def statistics(self) -> Statistics:
        """What was recorded, of one search."""
        openings = {layer: torch.stack(moments) for layer, moments in self.openings.items()}
        none = next(iter(openings.values()))[:0]  # after the last block
        rows = {
            layer: [torch.stack(passes[generation]) if passes[generation] else none for generation in sorted(passes)]
            for layer, passes in self.scorings.items()
            if layer < len(BLOCKS)
        }
        return Statistics(openings, {layer: torch.stack(passes) for layer, passes in rows.items()})
