"""The results of benchmarks as Markdown."""

from typing import Any

from repsearch.bench.search import DATASET_IMAGES, PAPER_IMAGES


def text(result: dict[str, Any]) -> str:
    """What `bench_search` or `bench_train` returned, for people to read: machine, settings and tables."""
    parts = []
    for title in ("machine", "settings"):
        if title in result:
            facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result[title].items())
            parts.append(f"{title.capitalize()}: {facts}.")
    parts.append(_table(result["rows"]))
    for key, what in (
        ("hours_per_dataset", f"{DATASET_IMAGES:,} images (CIFAR-10)"),
        ("hours_of_the_paper", f"{PAPER_IMAGES:,} images (MNIST, CIFAR-10 and CIFAR-100, each searched once)"),
    ):
        if key in result:
            hours = "; ".join(f"{noise} noise {value} hours" for noise, value in result[key].items())
            parts.append(f"A search of {what} with the paper's recipe would take: {hours}.")
    parts += [_table(result[key]) for key in ("threads", "scaling") if key in result]
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
