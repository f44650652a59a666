"""environment.yml and pyproject.toml name the same dependencies; one version everywhere."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

from repsearch import __version__
from repsearch.cli import app

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch", "snakemake-minimal": "snakemake"}
CONDA_ONLY = {"python", "pip"}


def _parts(requirement: str) -> tuple[str, str]:
    name, version = re.fullmatch(r"([\w.-]+?)\s*(>=.*)?", requirement).groups()
    return CONDA_NAMES.get(name, name), version or ""


def test_both_files_name_the_same_packages_and_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    development = [each for each in project["optional-dependencies"]["dev"] if not each.startswith("repsearch[")]
    wanted = {_parts(each) for each in project["dependencies"] + development}
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    given = {_parts(each) for each in conda}
    assert pip == {"pip": ["--editable .[slurm,tensorboard]"]}  # Slurm's plugin comes with it
    assert {part for part in given if part[0] not in CONDA_ONLY} == wanted
    assert ("python", project["requires-python"]) in given


def test_the_constraints_are_exact_versions_of_all_that_the_project_needs() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)  # no URLs, no ranges
    exact = dict(line.lower().split("==") for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    more = project["optional-dependencies"]
    for each in map(Requirement, [*project["dependencies"], *more["slurm"], *more["dev"]]):
        if each.name != "repsearch":
            assert each.specifier.contains(exact[each.name]), each


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert __version__ == project["version"] == citation["version"] and project["license"] == citation["license"]
    assert CliRunner().invoke(app, ["--version"]).output == f"repsearch {__version__}\n"
