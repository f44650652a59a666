"""Benchmarks: speeds, compared with the plain version and with what the machine could do at most."""
