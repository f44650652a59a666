"""Make the golden files again."""

from tests.golden import config_schema, plan, results_folder

config_schema.write()
plan.write()
results_folder.write()
