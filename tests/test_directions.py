"""The numeric core needs torch and numpy alone (Design, §1)."""

import subprocess
import sys

BLOCKED = ("zarr", "numcodecs", "snakemake", "pandas", "pydantic", "typer", "matplotlib", "sklearn", "numba", "yaml")
SEARCH = """
import sys
for name in {blocked}:
    sys.modules[name] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {blocked} else real(name, package)
import torch
from repsearch.learning import augment
from repsearch import metrics as measures
from repsearch.learning import objective
from repsearch.search import reference
from repsearch.learning import training
from repsearch.network import Shape
from repsearch.search.recipe import Calibration, Layer, Recipe
from repsearch.search.evolution import search
from repsearch.search.statistics import initialise
images, labels = torch.randn(4, 1, 12, 12), torch.arange(4) % 2
recipe = Recipe((Layer(1, 0.3, 1.0, 1),) * 4, population=4, parents=2, explorers=1)
network = initialise(Shape(1, 12, 2, 4), images, 0, Calibration(4, 0.3, (1, 1)))
print(float(search(network, images, labels, recipe, torch.arange(4)).final.mean()))
"""


def test_the_core_searches_with_torch_and_numpy_alone() -> None:
    """Without a compiler the search takes the dense path."""
    code = SEARCH.format(blocked=BLOCKED)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout) > 0
