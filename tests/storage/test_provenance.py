"""Code versions, in both directions: what an edit of the package must and must not run again."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from repsearch.errors import UserError
from repsearch.jobs import PrepareJob
from repsearch.stages import cache
from repsearch.storage import provenance

RESULTS = ("tables", "figures", "readings", "reproduction", "report.page")
FIGURES = "figure2 figure3 figure4 figure5 figure6 figure7 gallery curves"
VERSIONS = {  # name → stage and backend of the search
    "dataset": ("stages.dataset", "dense"),
    "network": ("stages.network", "dense"),
    "statistics": ("stages.statistics", "dense"),
    "statistics-cpu": ("stages.statistics", "cpu"),
    "statistics-gpu": ("stages.statistics", "gpu"),
    "search": ("stages.search", "dense"),
    "search-cpu": ("stages.search", "cpu"),
    "search-gpu": ("stages.search", "gpu"),
    "probes": ("stages.probes", "dense"),
    "probes-cpu": ("stages.probes", "cpu"),
    "probes-gpu": ("stages.probes", "gpu"),
    "shown": ("stages.gallery", "dense"),
    "shown-cpu": ("stages.gallery", "cpu"),
    "shown-gpu": ("stages.gallery", "gpu"),
    "train": ("stages.train", "dense"),
    "targets": ("stages.targets", "dense"),
    **{name: (f"results.{name}", "dense") for name in RESULTS},
    **{name: (f"results.figures.{name}", "dense") for name in FIGURES.split()},
}
PAGES = "reproduction report.page"
PROBES = "probes probes-cpu probes-gpu"
SEARCH = f"search search-cpu search-gpu shown shown-cpu shown-gpu {PROBES}"
STATISTICS = "statistics statistics-cpu statistics-gpu"
CPU, GPU = (f"statistics-{kind} search-{kind} shown-{kind} probes-{kind}" for kind in ("cpu", "gpu"))
EVOLUTION = f"{STATISTICS} {SEARCH}"

# Name of the edit: file, a text in it, what replaces the text, and the stages that must run again
EDITS = {
    # What computes
    "an operator": ("search/operators.py", "0.5 * (first + second)", "0.4 * (first + second)", EVOLUTION),
    "BatchNorm": ("search/network.py", "EPSILON = 1e-5", "EPSILON = 2e-5", f"network {EVOLUTION}"),
    "the algorithm": ("search/evolution.py", "0.5 * (op.class_std", "0.4 * (op.class_std", EVOLUTION),
    "random numbers": ("search/randomness.py", "0x", "0x1", EVOLUTION),
    "a CPU kernel": ("search/cpu/lanes.py", "4.552063546725549e-05", "4.6e-05", CPU),
    "the CPU path": ("search/cpu/evolve.py", "np.float32", "np.float64", CPU),
    "the GELU of the GPU": ("search/gpu/math.py", "4.552063546725549e-05", "4.6e-05", GPU),
    "the opening on a GPU": ("search/gpu/opening.py", "tl.maximum(", "tl.minimum(", GPU),
    "a GPU kernel": ("search/gpu/kernels.py", "tl.load(", "tl.store(", GPU),
    "whitening": ("network.py", "def whitening_filters(", "def _whitening_filters(", f"network {EVOLUTION} train"),
    "the reader of prepared data": (
        "data/prepared.py", "np.float32(255)", "np.float32(256)", f"network {EVOLUTION} train",
    ),
    "the layout of images": ("data/arrays.py", "(0, 3, 1, 2)", "(0, 3, 2, 1)", f"dataset network {EVOLUTION} train"),
    "a download": ("data/sources.py", "ATTEMPTS = 3", "ATTEMPTS = 4", "dataset"),
    "which images calibrate": (
        "stages/statistics.py", "[: recipe.statistics_images]", "[1:]", f"{STATISTICS} {PROBES}",
    ),
    "the recording": ("search/calibration.py", "return recorder.statistics()", "return None", f"{STATISTICS} {PROBES}"),
    "the reader of statistics": (
        "storage/statistics.py", '"opening", "scoring"', '"opening", "score"', EVOLUTION,
    ),
    "seeds of learning networks": ("stages/train.py", "FRESH = 2**31", "FRESH = 2**30", "train"),
    "statistics of a probe": ("stages/probes.py", "values.std(0)", "values.var(0)", PROBES),
    "the λ term": ("learning/objective.py", "kl_weight * head", "kl_weight * head / 2", "train"),
    "augmentation": ("learning/augment.py", "torch.rand", "torch.randn", "train"),
    "a default of the training": ("learning/settings.py", "momentum: float = 0.85", "momentum: float = 0.9", "train"),
    "a metric": ("metrics.py", "unit @ unit.T", "unit @ unit.T / 2", f"{PROBES} train targets"),
    "the reader of targets": ("storage/targets.py", "np.float16)", "np.float32)", "train targets"),
    "how many targets are described": ("stages/targets.py", "IMAGES = 2000", "IMAGES = 3000", "targets"),
    "the storage format's number": ("storage/shards.py", "FORMAT = 1", "FORMAT = 2", f"{SEARCH} train targets"),
    # Results
    "a table's rounding": ("results/tables.py", "['paper_mean']:.1f}", "['paper_mean']:.2f}", f"tables curves {PAGES}"),
    "a colour": ("results/style.py", "#0072B2", "#0072B3", f"figures {FIGURES} readings {PAGES}"),
    "a plot's title": ("results/figures/figure4.py", 'title=f"Scaling ', 'title=f"Scale ', "figure4"),
    "the driver of figures": ("results/figures/__init__.py", "verify_inputs(inputs)", "pass", f"figures {PAGES}"),
    "the names of alternatives": (
        "config/alternatives.py", '("-", " ", 1)', '("-", ": ", 1)', f"figures {FIGURES} tables readings {PAGES}",
    ),
    # What computes nothing
    "a stage's log": ("stages/search.py", "images: cross-entropy", "images searched, cross-entropy", ""),
    "a log line more": ("stages/train.py", "    forget(out)\n", '    log.info("finished")\n    forget(out)\n', ""),
    "a log line of the training": (
        "learning/training.py", "        rows.append(", '        log.info("epoch %d", epoch)\n        rows.append(', "",
    ),
    "what is said of an epoch": ("learning/training.py", '"epoch %d of %d: loss', '"epoch %d/%d: loss', ""),
    "what is said of a batch": ("stages/batches.py", '"%s: %d of %d images"', '"%s: %d/%d images"', ""),
    "how often progress is said": ("progress.py", "SECONDS = 10.0", "SECONDS = 30.0", ""),
    "why a path is refused": ("search/backends.py", "are not identities", "aren't identities", ""),
    "an error message": ("stages/search.py", "not finite: check the recipe", "infinite: check the recipe", ""),
    "a docstring": ("search/operators.py", '"""A.4: H̃', '"""Section A.4: H̃', ""),
    "a comment": ("search/evolution.py", "  # R11", "  # reading R11", ""),
    "a progress bar's title": ("stages/search.py", 'title=f"search {', 'title=f"searching {', ""),
    "another bar's title": ("stages/train.py", 'title=f"{job.dataset} ', 'title=f"Train {job.dataset} ', ""),
    "locks": ("storage/locks.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_NB | fcntl.LOCK_EX", ""),
    "devices": ("devices.py", "2 * tensor.nbytes", "3 * tensor.nbytes", ""),
    "the memory of a batch": ("stages/batches.py", "GPU_MEMORY_SHARE = 0.5", "GPU_MEMORY_SHARE = 0.4", ""),
    "the resume interval": ("storage/resume.py", "SECONDS = 60.0", "SECONDS = 90.0", ""),
    "the manifest writer": ("storage/manifest.py", '"checksum": digest(value)', '"check": digest(value)', ""),
    "the up-to-date check": ("stages/cache.py", '"inputs": digests', '"made_from": digests', ""),
    "the names of dimensions": ("storage/shards.py", '["image", ', '["images", ', ""),
    "Zarr's chunks": ("storage/shards.py", "CHUNK_IMAGES = 64", "CHUNK_IMAGES = 32", ""),
    "the checks of untrusted files": ("storage/untrusted.py", "LZ4_RATIO = 256", "LZ4_RATIO = 255", ""),
    "atomic writes": ("storage/files.py", "os.fsync(handle)", "os.fdatasync(handle)", ""),
    "the command line": ("cli/common.py", "add_completion=False", "add_completion=True", ""),
    "the plan": ("plan.py", "class Plan", "class Plans", ""),
    "the configuration's loader": ("config/load.py", "def named_code(", "def code_named(", ""),
    "the configuration's resolution": ("config/resolve.py", "def depths(", "def all_depths(", ""),
    "the configuration's schema": ("config/schema.py", "max_length=100", "max_length=200", ""),
    "the jobs": ("jobs.py", "images: int | None = None", "images: int | None = 100", ""),
    "code versions": ("storage/provenance.py", '"devices", ', '"devices",  ', ""),
}  # fmt: skip


def versions() -> dict[str, str]:
    return {name: provenance.code_version(*parts) for name, parts in VERSIONS.items()}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return versions()


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_again_what_it_could_change(
    name: str, before: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, old, new, stages = EDITS[name]
    shutil.copytree(provenance.PACKAGE, tmp_path / "repsearch", ignore=shutil.ignore_patterns("__pycache__"))
    edited = tmp_path / "repsearch" / file
    text = edited.read_text(encoding="utf-8")
    assert old in text
    edited.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "repsearch")
    after = versions()
    assert {stage for stage in VERSIONS if after[stage] != before[stage]} == set(stages.split())


def test_plumbing_exists_and_computes_nothing() -> None:
    for module in provenance.PLUMBING:
        assert provenance.PACKAGE.joinpath(*module.split(".")).with_suffix(".py").is_file(), module
        computes = ("search", "learning", "metrics", "network", "data", "results")
        assert module == "search.backends" or not module.startswith(computes), module  # it chooses who computes


def test_a_stage_depends_on_what_it_runs_alone() -> None:
    closure = provenance.closure("stages.search")
    assert {"search.evolution", "search.operators", "search.recipe", "storage.shards"} <= closure.keys()
    assert not any(name.startswith(("search.cpu", "search.gpu")) for name in closure)  # backends count apart
    assert not any(name.startswith(("results", "learning", "config", "cli")) for name in closure)
    for stage, backend in VERSIONS.values():
        assert not {"plan", "config.load", "config.resolve"} & provenance.closure(stage, backend).keys(), stage
    assert {"search.gpu.evolve", "search.gpu.math"} <= provenance.closure("stages.search", "gpu").keys()


def test_a_package_counts_with_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "repsearch")
    folder = tmp_path / "repsearch" / "figures"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from repsearch.figures.style import blue\n")
    (folder / "style.py").write_text("blue = 1\n")
    before = provenance.code_version("figures")
    (folder / "style.py").write_text("blue = 2\n")
    provenance._meanings.cache_clear()  # a process reads the package once
    assert provenance.code_version("figures") != before
    with pytest.raises(ValueError, match="there is no module pictures"):
        provenance.code_version("pictures")


# Code that a configuration names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With an operator that can't be run, and what it imports."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "operators.py").write_text(
        "import numpy\nimport helper\nfrom . import scale\nfrom repsearch import metrics\nraise SystemExit\n"
    )
    (tmp_path / "mine" / "scale.py").write_text("FACTOR = 2\n")
    (tmp_path / "helper.py").write_text('"""Helps."""\nfrom mine.deep.er import x\n')
    (tmp_path / "mine" / "deep").mkdir()
    (tmp_path / "mine" / "deep" / "er.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("mine/operators.py", "import helper\nraise SystemExit(1)\n", True),
        ("mine/scale.py", "FACTOR = 3\n", True),
        ("mine/deep/er.py", "x = 2\n", True),
        ("mine/__init__.py", "x = 2\n", True),
        ("helper.py", '"""Helps more."""\nfrom mine.deep.er import x  # x\n', False),
        ("other.py", "x = 2\n", False),
    ],
)
def test_named_code_counts_with_what_it_imports(folder: Path, file: str, text: str, changes: bool) -> None:
    recipe = SimpleNamespace(crossover="mine.operators:mean", noise="channel", seed=3)
    before = provenance.named_code(vars(recipe).values())
    assert before.keys() == {"mine.operators:mean"}
    (folder / file).write_text(text)
    after = provenance.named_code(vars(recipe).values())
    assert (after != before) == changes
    stage = "stages.search"
    assert (provenance.code_version(stage, named=after) != provenance.code_version(stage, named=before)) == changes


def test_a_source_that_is_code_is_part_of_the_key(folder: Path) -> None:
    def key(source: str) -> dict[str, object]:
        return cache.key(PrepareJob(source, 10))

    before = key("other:load"), key("sklearn:digits")
    (folder / "other.py").write_text("x = 2\n")
    assert key("other:load") != before[0] and key("sklearn:digits") == before[1]
    with pytest.raises(UserError, match=r"there is no missing\.py"):
        key("missing:load")
