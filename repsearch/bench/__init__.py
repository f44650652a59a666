"""Benchmarks: speeds beside the plain version and the machine's ceilings."""
