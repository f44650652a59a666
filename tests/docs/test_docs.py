"""Every command and code block of the documentation, run in a copy of the repository at a tiny scale.

A block that begins with a file's name (`# mine.yaml`) is that file. Blocks marked `text` are not run: listings, and
what commands print. Every other block must be of a kind that is known here.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from repsearch.config.load import load, merge
from repsearch.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "docs/beyond.md",
    "docs/changing.md",
    "docs/cluster.md",
    "docs/command-line.md",
    "docs/data.md",
    "docs/installation.md",
    "docs/library.md",
    "docs/performance.md",
    "docs/readings.md",
    "docs/reliability.md",
    "docs/results.md",
    "docs/running.md",
)
NOT_RUN = {  # first words of commands that other tests run (as they do `--report`), or that need what a test can't have
    "git": "the network", "pip": "the network", "python3.11": "installs", "conda": "installs", "source": "a shell",
    "sinfo": "a cluster", "squeue": "a cluster", "scancel": "a cluster", "tail": "a running job", "$EDITOR": "a person",
    "python benchmarks/device.py": "tests/bench", "taskset": "tests/bench",
}  # fmt: skip
LAYERS = [{"generations": 2, "alpha": alpha, "boost": 2.0, "blur": 1} for alpha in (0.3, 0.2, 0.1, 0.1)]
DATA = {"source": "sklearn:digits", "images": 60, "test_images": 40, "validation_images": 20, "search_depth": 1}
TINY: dict[str, Any] = {
    "device": "cpu",
    "shard_images": 30,
    "seeds": 1,
    "network": {"width": 4},
    "datasets": {name: DATA for name in ("mnist", "cifar10", "cifar100")},
    "recipes": {
        "paper": {"population": 6, "parents": 2, "explorers": 2, "layers": LAYERS},
        "mnist": {"layers": LAYERS},
    },
    "training": {"epochs": 2, "batch": 20, "precision": "float32"},
    "variants": {name: {"depths": [1], "tune": {}} for name in ("sgd", "search-all", "search-skip0")},
    "table1": {"datasets": ["cifar10"], "variants": ["sgd", "search-all"]},
    "table2": {"datasets": ["cifar10"], "variants": ["search-skip0"]},
    "figure2": {"dataset": "cifar10", "images": 5, "populations": [6], "generations": [1, 2]},
    "figure3": {"dataset": "cifar10", "images": 4, "runs": 2, "probability": 0.0},
    "figure4": {"dataset": "cifar10", "populations": [6], "generations": [2], "seeds": 1},
    "trajectories": {"dataset": "cifar10", "depth": 1, "seeds": 1},
}


TINY_DEMO: dict[str, Any] = {  # also of what the documentation makes of its data set
    "shard_images": 30,
    "seeds": 1,
    "network": {"width": 4},
    "datasets": {"digits": {"images": 60, "test_images": 40, "validation_images": 20}},
    "recipes": {"demo": {"population": 6, "parents": 2, "explorers": 2, "layers": LAYERS}},
    "training": {"epochs": 2},
    "variants": {"sgd": {"depths": [1]}},
}
SMALLER = {"    images: 500\n    validation_images: 125\n": "    images: 60\n    validation_images: 20\n"}


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks(document: str) -> Iterator[Block]:
    """Fenced blocks, and commands that stand in a line of text between backticks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    fences = [*re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)]
    inline = re.finditer(r"`((?:snakemake|make|python -m repsearch) [^`\n]*)`", text)
    spans = [*fences, *(m for m in inline if not any(f.start() < m.start() < f.end() for f in fences))]
    for match in sorted(spans, key=lambda match: match.start()):
        fenced = match in fences
        language, content = (match[1], match[2]) if fenced else ("sh", match[1])
        if "…" not in content or fenced:
            yield Block(text.count("\n", 0, match.start()) + 1, language, content)


def undented(text: str) -> str:
    lines = text.splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines) + "\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "repsearch"
    kept = shutil.ignore_patterns(".*", "__pycache__", "results", "data", "*.egg-info")
    for name in ("repsearch", "workflow", "profiles", "docs"):
        ignored = shutil.ignore_patterns("__pycache__") if name == "repsearch" else kept
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Snakefile", "environment.yml", "Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for file, overlay in (("config.yaml", TINY), ("workflow/presets/demo.yaml", TINY_DEMO)):
        (folder / file).write_text(yaml.safe_dump(merge(yaml.safe_load((ROOT / file).read_text()), overlay)))
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8).repeat(2, 1).repeat(2, 2), digits.target
    (folder / "theirs.yaml").write_text("seeds: 2")
    (folder / "data").mkdir()
    np.savez(
        folder / "data/mine.npz", x_train=images[:300], y_train=labels[:300], x_test=images[300:], y_test=labels[300:]
    )
    return folder


def words_of(command: str) -> list[str]:
    """Without comments, variables and the number of cores."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words.pop(0)
    if "--cores" in words:
        at = words.index("--cores")
        del words[at : at + 2]
    return words


def is_target(word: str) -> bool:
    return word == "all" or word.startswith("results/")


def is_only_planned(words: list[str]) -> bool:
    """What is too large is a dry run here."""
    large = "slurm" in words or any(re.search(r"presets/(?!demo)", word) for word in words)
    return words[0] == "snakemake" and "--unlock" not in words and (large or "-n" in words)


def planned_together(words: list[str]) -> tuple[str, ...]:
    """One dry run for all commands of the documentation that differ in their targets alone."""
    options = [word for word in words if not is_target(word) and word != "-n"]
    every = [words_of(line) for page in DOCUMENTS for block in blocks(page) for line in shell_lines(block)]
    alike = [other for other in every if other and is_only_planned(other)]
    alike = [other for other in alike if [w for w in other if not is_target(w) and w != "-n"] == options]
    targets = dict.fromkeys(word for other in alike for word in other if is_target(word))
    return ("snakemake", "-n", *targets, *options[1:])


def shell_lines(block: Block) -> list[str]:
    return undented(block.text).splitlines() if block.language == "sh" else []


def run(command: str, folder: Path, commands_run: set[tuple[str, ...]]) -> None:
    words = words_of(command)
    if not words or words[0] in NOT_RUN or " ".join(words[:2]) in NOT_RUN or "--report" in words:
        return
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)
        return
    if words[0] == "repsearch":
        words = ["python", "-m", *words]
    assert words[0] in ("snakemake", "python"), f"no test knows how to run: {command}"
    if is_only_planned(words):
        words = [*planned_together(words)]
    if (known := tuple(words)) in commands_run:
        return
    commands_run.add(known)
    if words[0] == "snakemake":
        words = ["python", "-m", *words, *([] if "--workflow-profile" in words else ["--cores", "2"])]
    elif "bench" in words:
        words += ["--width", "4", "--images", "1"] + (
            ["--generations", "1", "--path", "dense"]
            if "search" in words
            else ["--depth", "1", "--precision", "float32"]  # nothing slow
        )
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def commands_run() -> set[tuple[str, ...]]:
    """Commands that were run already: several pages name the same."""
    return set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_of_the_documentation_works(
    document: str, checkout: Path, commands_run: set[tuple[str, ...]]
) -> None:
    for block in blocks(document):
        place, text = f"{document}:{block.line}", undented(block.text)
        file = re.match(r"# (\S+\.(?:py|yaml))\n", text)
        if file:
            for size, smaller in SMALLER.items():
                text = text.replace(size, smaller)
            (checkout / file[1]).write_text(text)
        elif block.language == "python":
            script = ["-c", text]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            done = subprocess.run(
                [sys.executable, *script], cwd=checkout, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{place}\n{done.stderr[-3000:]}"
        elif block.language == "sh":
            for command in shell_lines(block):
                run(command, checkout, commands_run)
        else:
            assert block.language in ("text", "yaml"), f"{place}: a block of an unknown kind, {block.language!r}"
            if block.language == "yaml":
                yaml.safe_load(text)


def test_what_the_readme_changes_is_what_its_command_makes() -> None:
    """The commands run on smaller settings here, which would hide a change that reaches nothing."""
    (text,) = [block.text for block in blocks("README.md") if block.language == "yaml"]
    files = [yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", "workflow/presets/small.yaml")]
    config = load(reduce(merge, [*files, yaml.safe_load(text)]))
    for dataset in config.table1.datasets:
        assert Plan(config).recipe_of(dataset).mutation == "element"


def test_the_blocks_are_found() -> None:
    found = [block.language for block in blocks("CONTRIBUTING.md")]
    assert {"sh", "python", "yaml"} <= {*found} and len(found) >= 15
