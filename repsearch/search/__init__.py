"""Evolutionary search over representations (§3)."""
