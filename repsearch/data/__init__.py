"""Data sets: sources, and the prepared file."""
