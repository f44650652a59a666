"""Metrics of §3.2 and §4.5: cosine Gram matrix, collision entropy, effective number of solutions, cosine distance."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_gram(representations: Tensor) -> Tensor:
    """K_ij, the cosine similarity of representations i and j, -1 … 1. [N, …] → [N, N] float32."""
    unit = F.normalize(representations.flatten(1).float(), dim=1)
    return unit @ unit.T


def collision_entropy(gram: Tensor) -> float:
    """§3.2: H_coll = -log( Σ_ij K_ij² / (Σ_i K_ii)² ), in nats. gram: [N, N].

    0 where all representations are alike, log N where all are orthogonal.
    """
    gram = gram.double()
    return float(-torch.log(gram.square().sum() / gram.trace().square()))


def effective_number(gram: Tensor) -> float:
    """§3.2: N_eff = exp(H_coll), the number of distinct solutions: 1 (all alike) … N (all orthogonal). gram: [N, N]."""
    return float(torch.exp(torch.tensor(collision_entropy(gram), dtype=torch.float64)))


def class_collision_entropies(gram: Tensor, labels: Tensor) -> tuple[float, float]:
    """§4.5: (within-class, between-class) collision entropy in nats, -log of the mean K_ij² over pairs of examples.

    H_coll is -log of the mean K_ij² over all pairs (K_ii = 1); the paper averages over the pairs of one class, or of
    two classes. A pair is two distinct examples. gram: [N, N]; labels: [N]. NaN where there is no such pair.
    """
    within, between = _pairs(gram.double().square(), labels)
    return float(-torch.log(within.mean())), float(-torch.log(between.mean()))


def class_cosines(gram: Tensor, labels: Tensor) -> tuple[float, float]:
    """(within-class, between-class) mean cosine similarity, -1 … 1, over pairs of distinct examples.

    gram: [N, N]; labels: [N]. NaN where there is no such pair. This is not in the paper, which averages squares (§4.5).
    """
    within, between = _pairs(gram.double(), labels)
    return float(within.mean()), float(between.mean())


def _pairs(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The values [N, N] of pairs of distinct examples: of one class, and of two classes, each flat."""
    same = labels[:, None] == labels[None, :]
    distinct = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return values[same & distinct], values[~same]


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """§4.5: one minus the cosine similarity of the flattened maps, 0 (alike) … 2 (opposite). Two [N, …] → [N]."""
    return 1 - F.cosine_similarity(first.flatten(1).float(), second.flatten(1).float(), dim=1)
