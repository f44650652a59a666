"""environment.yml and pyproject.toml name the same dependencies."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch", "snakemake-minimal": "snakemake"}
CONDA_ONLY = {"python", "pip"}


def _parts(requirement: str) -> tuple[str, str]:
    name, version = re.fullmatch(r"([\w.-]+?)\s*(>=.*)?", requirement).groups()
    return CONDA_NAMES.get(name, name), version or ""


def test_both_files_name_the_same_packages_and_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    development = [each for each in project["optional-dependencies"]["dev"] if each != "repsearch[slurm]"]
    wanted = {_parts(each) for each in project["dependencies"] + development}
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    given = {_parts(each) for each in conda}
    assert pip == {"pip": ["--editable .[slurm]"]}  # Slurm's plugin comes with it
    assert {part for part in given if part[0] not in CONDA_ONLY} == wanted
    assert ("python", project["requires-python"]) in given
