"""The search's compiled path on a CPU."""
