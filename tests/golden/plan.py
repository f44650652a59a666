"""Every job that a configuration plans, one line each: kind, wildcards, a digest of the settings."""

from collections.abc import Iterator
from pathlib import Path

from repsearch.config.load import read
from repsearch.jobs import from_json, to_json
from repsearch.plan import Plan
from repsearch.scale import reproduction
from repsearch.storage.files import digest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "plan"
PRESETS = ("paper", *(path.stem for path in sorted((ROOT / "workflow/presets").glob("*.yaml"))))


def plan(preset: str) -> Plan:
    """Of a preset by name; `paper` is config.yaml alone."""
    overlays = [] if preset == "paper" else [ROOT / f"workflow/presets/{preset}.yaml"]
    return Plan(read(ROOT / "config.yaml", *overlays))


def jobs(plan: Plan) -> Iterator[tuple[str, tuple[object, ...], object]]:
    """(kind, wildcards, job) of everything that `all` and `publish` need."""
    for dataset in sorted(
        {targets.dataset for targets in plan.all_targets()} | {run.dataset for run in plan.all_runs()}
    ):
        yield "prepare", (dataset,), plan.prepare(dataset)
    for dataset in sorted({targets.dataset for targets in plan.all_targets()}):
        yield "network", (dataset,), plan.network(dataset)
    for targets in plan.all_targets():
        if plan.has_statistics(targets.recipe):
            yield "statistics", targets, plan.statistics(*targets)
        for shard in plan.shards(targets.dataset):
            yield "search", (*targets, shard), plan.search(*targets, shard)
    for run in plan.all_runs():
        yield "train", run, plan.train(*run)
    if plan.config.readings:
        for targets in plan.readings_targets():
            yield "describe", targets, plan.describe(*targets)
        yield "readings", (), plan.readings()
    else:
        for population in plan.fitness_populations():
            yield "fitness", (population,), plan.fitness(population)
        yield "diversity", (), plan.diversity()
        yield "gallery", (), plan.gallery()
        for number in (1, 2):
            yield "table", (number,), plan.table(number)
        for figure in plan.config.figures:
            yield "figure", (figure,), plan.figure(figure)
    yield "reproduction", (), reproduction(plan, [])


def lines(preset: str) -> list[str]:
    found = []
    for kind, wildcards, job in jobs(plan(preset)):
        text = to_json(job)
        assert to_json(from_json(type(job), text)) == text  # the command reads what the rule wrote
        found.append(" ".join([kind, *map(str, wildcards), digest(text)]))
    return found


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for preset in PRESETS:
        (FOLDER / f"{preset}.txt").write_text("\n".join(lines(preset)) + "\n", encoding="utf-8")
