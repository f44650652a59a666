"""Numbers that the paper states."""

TABLES: dict[tuple[int, str, str], tuple[float, float]] = {
    (1, "sgd", "MNIST"): (99.1, 0.1),
    (1, "sgd", "CIFAR-10"): (89.1, 0.3),
    (1, "sgd", "CIFAR-100"): (62.3, 0.5),
    (1, "search-all", "MNIST"): (99.0, 0.1),
    (1, "search-all", "CIFAR-10"): (88.3, 0.3),
    (1, "search-all", "CIFAR-100"): (61.6, 0.2),
    (2, "sgd", "CIFAR-10"): (93.0, 0.2),
    (2, "sgd", "CIFAR-100"): (71.8, 0.4),
    (2, "search-skip0", "CIFAR-10"): (92.0, 0.1),
    (2, "search-skip0", "CIFAR-100"): (69.2, 0.3),
    (2, "search-all", "CIFAR-10"): (90.6, 0.3),
    (2, "search-all", "CIFAR-100"): (66.5, 0.3),
}
"""Test accuracy in per cent, (mean, std over 3 runs), by (table, variant, column): the paper's Table 1 ("without data
augmentation") and Table 2 ("with data augmentation")."""
