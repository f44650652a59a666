"""Golden files: what is planned and what results look like, so that a change of either is seen and meant.

`python -m tests.golden` makes them again; look at `git diff tests/golden` before committing it.
"""
