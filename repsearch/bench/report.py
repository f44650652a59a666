"""The results of benchmarks as Markdown."""

from typing import Any

from repsearch.bench.search import DATASET_IMAGES


def text(result: dict[str, Any]) -> str:
    """What `bench_search` or `bench_train` returned, for people to read: machine, settings and tables."""
    parts = []
    for title in ("machine", "settings"):
        if title in result:
            facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result[title].items())
            parts.append(f"{title.capitalize()}: {facts}.")
    parts.append(_table(result["rows"]))
    if "hours_per_dataset" in result:
        hours = "; ".join(f"{noise} noise {value} hours" for noise, value in result["hours_per_dataset"].items())
        parts.append(f"The paper's recipe on {DATASET_IMAGES:,} images would take: {hours}.")
    if "scaling" in result:
        parts.append(_table(result["scaling"]))
    return "\n\n".join(parts) + "\n"


def _table(rows: list[dict[str, Any]]) -> str:
    columns = [name for name in rows[0] if name != "device"]
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("_", " ") for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) >= 1000 else str(value)
