"""Damaged files in a finished pipeline: what needs them names them in one line, and doing what it says heals."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from repsearch.storage import shards, targets
from repsearch.storage.manifest import write_manifest
from tests.faults import pipeline, tally
from tests.faults.conftest import Undisturbed

pytestmark = [pytest.mark.fault, pytest.mark.slow]
SHARD = "targets/digits/tiny/shard-0001"
NETWORK = "network/digits/blur-1-1"
RUN = "runs/digits/plain/search-all/tiny/depth1/seed0"
Damage = Callable[[Path], None]


def flipped(at: float) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * len(content))] ^= 1
        path.write_bytes(content)

    return damage


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def field_altered(name: str) -> Damage:
    def damage(path: Path) -> None:
        stated = json.loads(path.read_text())
        assert name in stated
        path.write_text(json.dumps({**stated, name: 0.123}))

    return damage


def last_digit_altered(path: Path) -> None:
    """A number in a CSV, as someone may edit it."""
    text = path.read_text()
    place = max(match.start() for match in re.finditer(r"\d\.\d*(?=\d,)", text))
    digit = (int(text[place]) + 1) % 10
    path.write_text(f"{text[:place]}{digit}{text[place + 1 :]}")


def other_recipe(with_manifest: bool) -> Damage:
    """An intact shard of another recipe in a shard's place."""

    def damage(manifest: Path) -> None:
        store, _ = targets.paths(manifest)
        before = manifest.read_text()
        arrays, attributes = targets.read(store, manifest)
        arrays["targets/logits"] = -arrays["targets/logits"]
        key = json.loads(before)["key"]
        shards.write(store, manifest, arrays, {**attributes, "recipe_digest": "0123456789ab"}, key)
        if not with_manifest:
            manifest.write_text(before)

    return damage


def other_shard(manifest: Path) -> None:
    for mine, other in zip(targets.paths(manifest), targets.paths(manifest.with_name("shard-0000.json")), strict=True):
        mine.write_bytes(other.read_bytes())


def forged(path: Path) -> None:
    """An intact manifest of something else."""
    write_manifest(path, {}, [], {"sha256": "0" * 64})


# What is damaged, how, and a result that needs it, which is deleted, to be made again.
CASES: list[tuple[str, str, Damage, str]] = [
    ("a byte of a store altered", f"{SHARD}.zarr.zip", flipped(0.5), f"{RUN}/summary.json"),
    ("a store cut", f"{SHARD}.zarr.zip", truncated, f"{RUN}/summary.json"),
    ("a store emptied", f"{SHARD}.zarr.zip", emptied, f"{RUN}/summary.json"),
    ("a shard's manifest altered", f"{SHARD}.json", field_altered("recipe"), f"{RUN}/summary.json"),
    ("a shard's manifest altered", f"{SHARD}.json", field_altered("sha256"), f"{RUN}/summary.json"),
    ("a shard's manifest altered", f"{SHARD}.json", forged, f"{RUN}/summary.json"),
    ("a shard's manifest cut", f"{SHARD}.json", truncated, f"{RUN}/summary.json"),
    ("a shard of another recipe in its place", f"{SHARD}.json", other_recipe(True), f"{RUN}/summary.json"),
    ("a shard of another recipe in its place", f"{SHARD}.json", other_recipe(False), f"{RUN}/summary.json"),
    ("another shard in its place", f"{SHARD}.json", other_shard, f"{RUN}/summary.json"),
    ("the search network altered", f"{NETWORK}.pt", flipped(0.5), f"{SHARD}.json"),
    ("the search network's manifest altered", f"{NETWORK}.json", field_altered("shape"), f"{SHARD}.json"),
    ("the prepared data altered", "data/digits.npz", flipped(0.5), f"{RUN}/summary.json"),
    ("the prepared data's manifest altered", "data/digits.json", field_altered("classes"), f"{RUN}/summary.json"),
    ("a run's summary altered", f"{RUN}/summary.json", field_altered("test_accuracy"), "tables/table1.csv"),
    ("a run's weights altered", f"{RUN}/weights.pt", flipped(0.5), "tables/table1.csv"),
    ("a run's trace altered", f"{RUN}/epochs.csv", last_digit_altered, "figures/figure5.csv"),
    ("a probe's CSV altered", "probes/diversity.csv", last_digit_altered, "figures/figure3.csv"),
    ("a probe's CSV altered", "probes/fitness/population6.csv", last_digit_altered, "figures/figure2.csv"),
    ("a probe's manifest altered", "probes/diversity.json", field_altered("key"), "figures/figure3.csv"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(undisturbed: Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.copy(undisturbed.folder, tmp_path_factory.mktemp("healing") / "run")


@pytest.mark.parametrize(
    ("name", "damaged", "damage", "result"), CASES, ids=[f"{name}-{place}" for place, (name, *_) in enumerate(CASES)]
)
def test_damage_is_named_and_healed(
    name: str, damaged: str, damage: Damage, result: str, folder: Path, undisturbed: Undisturbed
) -> None:
    results = folder / pipeline.RESULTS
    with tally.fault(name):
        damage(results / damaged)
        (results / result).unlink(missing_ok=True)
        run = pipeline.run(folder, f"{pipeline.RESULTS}/{result}")
        assert run.returncode != 0, "the damage was not noticed"
        assert "Traceback" not in run.stdout, run.stdout
        assert Path(damaged).name.split(".")[0] in obey(folder, run.stdout)
        done = pipeline.run(folder)
        assert done.returncode == 0, done.stdout[-6000:]
        assert pipeline.fingerprint(folder) == undisturbed.fingerprint


def obey(folder: Path, said: str) -> str:
    """Do what the error's line says: delete the files that it names. Returns the line."""
    lines = {line.partition("error: ")[2] for line in said.splitlines() if " error: " in line}
    assert len(lines) == 1, said
    line = lines.pop()
    assert re.search("delete|make it", line) and "snakemake again" in line, line
    for name in re.findall(rf"{pipeline.RESULTS}/[\w./-]+\.(?:zarr\.zip|json|csv|pt|npz)", line):
        (folder / name).unlink(missing_ok=True)
        if "manifest" in line and name.endswith(".zarr.zip"):
            (folder / name.replace(".zarr.zip", ".json")).unlink(missing_ok=True)
    return line
