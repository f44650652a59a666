"""The training objective of §4.2, one function per term."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def block_losses(maps: Sequence[Tensor], targets: Sequence[Tensor], squared_norm: str = "mean") -> list[Tensor]:
    """§4.2, first term: ‖H_θ⁽ℓ⁾(x_b) - Ĥ⁽ℓ⁾(x_b)‖² of each example, for each supervised block.

    maps, targets: one [B, C, H, W] per block. squared_norm (R6): `mean` over a map's elements, or the literal `sum`.
    Returns one [B] float32 per block.
    """
    losses = []
    for computed, searched in zip(maps, targets, strict=True):
        squares = (computed.float() - searched.float()).square().sum((1, 2, 3))
        # Not `mean`, whose gradient has the channels first in memory: the steps before would be up to 6 times slower.
        losses.append(squares / computed[0].numel() if squared_norm == "mean" else squares)
    return losses


def head_loss(logits: Tensor, target_logits: Tensor) -> Tensor:
    """§4.2, second term: KL( p̂ ‖ p_φ ) of each example in nats, where p̂ is the softmax of the searched logits.

    logits, target_logits: [B, K] each. Returns [B] float32. The stop-gradient is left to the caller: the logits must
    come from `Network.forward(…, stop_gradient=True)`.
    """
    computed, searched = F.log_softmax(logits.float(), 1), F.log_softmax(target_logits.float(), 1)
    return (searched.exp() * (searched - computed)).sum(1)


def search_based_loss(blocks: Sequence[Tensor], head: Tensor, kl_weight: float, denominator: int) -> Tensor:
    """§4.2: (1 / (L-1)) Σ_ℓ ‖·‖² + λ KL of each example.

    blocks: one [B] per supervised block; head: [B]; kl_weight: λ; denominator: L-1 = 3, or the number of supervised
    blocks (R13). Returns [B].
    """
    return sum(blocks, start=head.new_zeros(head.shape)) / denominator + kl_weight * head
