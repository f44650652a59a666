"""A training step on a GPU, besides its convolutions."""
