"""Learning the searched representations (§4)."""
