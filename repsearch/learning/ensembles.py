"""Ensembles of learned networks: their mean, weights and choices made on held-out images, and how they differ.

Nothing here is the paper's; §6 leaves open how diverse representations become diverse models (docs/beyond.md).
"""

import torch
from torch import Tensor

STEPS = 200  # of expectation-maximisation, which is then within 1e-3 of its limit


def mixture_weights(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Weights of the members whose weighted mean of probabilities gives the labels the highest likelihood.

    probabilities: [M, N, K], of M members for N held-out images; labels: [N]. Returns [M] float64, non-negative, of sum
    1. The likelihood is concave in the weights; expectation-maximisation climbs it from equal ones.
    """
    given = probabilities[:, torch.arange(len(labels), device=labels.device), labels].double()  # [M, N]
    weights = given.new_full((len(given),), 1 / len(given))
    for _ in range(STEPS):
        shares = weights[:, None] * given
        weights = (shares / shares.sum(0).clamp_min(torch.finfo(torch.float64).tiny)).mean(1)
        weights = weights / weights.sum()
    return weights


def picked(probabilities: Tensor, labels: Tensor) -> list[int]:
    """The members, best first, whose mean has the highest accuracy on held-out images; chosen one by one.

    probabilities: [M, N, K]; labels: [N]. Members are added, each at most once, in the order that keeps the accuracy
    highest (of equals the first); of the ensembles on the way the best one, the smallest of equals, is returned.
    """
    chosen: list[int] = []
    best: list[int] = []
    best_accuracy = -1.0
    total = torch.zeros_like(probabilities[0])
    while len(chosen) < len(probabilities):
        rest = [member for member in range(len(probabilities)) if member not in chosen]
        accuracies = [accuracy(total + probabilities[member], labels) for member in rest]
        member = rest[accuracies.index(max(accuracies))]
        chosen, total = [*chosen, member], total + probabilities[member]
        if max(accuracies) > best_accuracy:
            best, best_accuracy = chosen, max(accuracies)
    return best


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of images whose highest score is their label's. scores: [N, K]; labels: [N]."""
    return float((scores.argmax(-1) == labels).double().mean())


def disagreement(probabilities: Tensor) -> float:
    """The share of images that two members classify differently, mean over pairs of members, 0 … 1. [M, N, K]."""
    classes = probabilities.argmax(-1)
    members = len(classes)
    differ = [(classes[a] != classes[b]).double().mean() for a in range(members) for b in range(a)]
    return float(torch.stack(differ).mean())
