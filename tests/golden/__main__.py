"""Make the golden files again."""

from tests.golden import plan, results_folder

plan.write()
results_folder.write()
