"""How figures look and what their captions state. Sizes are inches as printed, 6.5 across the page."""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from repsearch.results.phrases import (
    AUGMENTATIONS,
    VARIANTS,
    averaged_text,
    number_range,
    per_owner,
    provenance_text,
    scale_text,
)
from repsearch.storage.files import atomic

Look = dict[str, Any]  # colour-blind-safe (Okabe & Ito), and distinguishable in grey by line and marker
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
LOOKS: list[Look] = [
    {"color": colour, "linestyle": line, "marker": marker}
    for colour, line, marker in zip(COLOURS, ["-", "--", "-.", ":", "-", "--"], "os^DvP", strict=True)
]
VARIANT_LOOKS = {"search-all": LOOKS[0], "sgd": LOOKS[1], "search-skip0": LOOKS[2]}
BLOCK_LOOKS = {"block0": LOOKS[0], "block1": LOOKS[1], "block2": LOOKS[2]}
PANELS = {"population": "Population size", "generations": "Generations"}
STYLE: Any = {
    **{"font.family": "sans-serif", "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9},
    **{"xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8.5, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "axes.axisbelow": True},
    **{"axes.grid": True, "grid.color": "0.9", "grid.linewidth": 0.5, "xtick.major.width": 0.7},
    **{"lines.linewidth": 1.4, "lines.markersize": 4, "ytick.major.width": 0.7},
    # Text stays text: embedded as TrueType, which journals ask for, and to be edited in SVG.
    **{"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "repsearch"},
}
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every table of a font that it embeds
# No dates, so that the same CSV gives the same bytes.
METADATA: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def save(csv: Path, draw: Callable[[pd.DataFrame], Figure], frame: pd.DataFrame, formats: Iterable[str] = ()) -> None:
    """Draw a frame in the common style and write the picture beside its CSV, as PNG and in further formats."""
    with rc_context(STYLE):
        for kind in dict.fromkeys(["png", *formats]):
            with atomic(csv.with_suffix(f".{kind}")) as temporary:
                draw(frame).savefig(temporary, dpi=200, metadata=METADATA[kind])


def panels(
    rows: int, columns: int, width: float, height: float, share_y: bool | Literal["row"] = False
) -> tuple[Figure, list[Axes]]:
    """A figure of width × height inches, and its panels row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    return figure, list(axes.flat)


def line(ax: Axes, rows: pd.DataFrame, x: str, look: Look, label: str) -> None:
    """The mean, and a band of ± 1 std where n > 1; markers on at most a dozen points."""
    rows = rows.dropna(subset="mean").sort_values(x)
    std = rows["std"].where(rows["n"] > 1)
    ax.plot(rows[x], rows["mean"], label=label, markevery=max(1, len(rows) // 10), **look)
    ax.fill_between(rows[x], rows["mean"] - std, rows["mean"] + std, color=look["color"], alpha=0.15, linewidth=0)


def errorbars(ax: Axes, rows: pd.DataFrame, x: str, look: Look, label: str) -> None:
    """The mean of each point, and ± 1 std where n > 1, in the order of x."""
    rows = rows.sort_values(x)
    bars = rows["std"].where(rows["n"] > 1)
    ax.errorbar(rows[x], rows["mean"], bars, capsize=2.5, elinewidth=0.9, label=label, **look)


def variant_looks(variants: Iterable[str]) -> dict[str, Look]:
    """The same look for a paper's variant in every figure; others take those that are free in this one, in turn."""
    distinct = list(dict.fromkeys(variants))
    taken = {variant: VARIANT_LOOKS[variant] for variant in distinct if variant in VARIANT_LOOKS}
    free = [look for look in LOOKS if look not in taken.values()]
    others = [variant for variant in distinct if variant not in taken]
    return taken | dict(zip(others, _looks(free), strict=False))


def _looks(free: list[Look]) -> Iterator[Look]:
    """The looks themselves, then their colours with the lines and markers of the look after, and so on without end."""
    for shift in count():
        for number, look in enumerate(free):
            yield {**free[(number + shift) % len(free)], "color": look["color"]}


def compute_axis(ax: Axes, values: pd.Series) -> None:
    """Logarithmic, with plain numbers at the data's values, except those that would overlap the one after."""
    distinct = sorted(set(values))
    if not distinct:
        return
    if distinct[0] > 0:
        ax.set_xscale("log", base=2)
    else:
        ax.set_xscale("symlog", base=2, linthresh=1)  # 0 generations: the initial population
    most = min(11, 38 / len(f"{distinct[-1]:g}"))  # that are legible in a panel
    gap = (distinct[-1] / max(1, distinct[0])) ** (1 / most)
    ticks = distinct[-1:]
    for value in distinct[-2::-1]:
        if value * gap <= ticks[-1]:
            ticks.append(value)
    ticks.reverse()
    ax.set_xticks(ticks, [f"{value:g}" for value in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def legend(figure: Figure, axes: list[Axes], title: str | None = None) -> Figure:
    """One legend above all panels, clear of the data, with as many entries in a row, up to four, as fit the figure.

    title: above it, of a figure of one data set.
    """
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    look: Any = {"loc": "outside upper center", "handlelength": 3, "title": title, "title_fontsize": 9.5}
    for columns in range(min(len(entries), 4), 0, -1):
        placed = figure.legend(list(entries.values()), list(entries), ncols=columns, **look)
        if columns == 1 or placed.get_window_extent().width <= figure.bbox.width:
            break
        placed.remove()
    return figure


def caption(
    title: str, frame: pd.DataFrame, marks: str = "Bands", deviation: str = "standard deviation", n: str | None = None
) -> str:
    """A caption: `title` (what is shown, with units), what the marks mean, n, and what the numbers were made from.

    n: of images, what to say after "n =", by default the range of the frame's n. Of a frame with variants, their
    searches and training seeds are said, and the depth and the scale are added.
    """
    of_runs = "variant" in frame
    if of_runs:
        numbers = frame[["searches", "seeds"]].drop_duplicates().itertuples(index=False)
        counted = " and ".join(averaged_text(*pair) for pair in numbers)
    else:
        counted = n or f"{number_range(frame['n'])} images"
    parts = [title, (f"{marks}: ± 1 {deviation} over n; " if (frame["n"] > 1).any() else "") + f"n = {counted}."]
    if of_runs:
        depths = frame[["variant", "depth"]].drop_duplicates()
        counts = per_owner((str(2 * depth), VARIANTS.get(name, name)) for name, depth in depths.itertuples(index=False))
        parts.append(f"Convolutions per block: {counts}.")
        parts.append(f"Scale: {scale_text(frame)}, {AUGMENTATIONS.get(frame['augmentation'].iloc[0], '')}.")
    return " ".join([*parts, provenance_text(frame)]) + "\n"
