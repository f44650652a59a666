"""Drawings of figures 2 to 7: a frame in, a matplotlib Figure out. Sizes are inches as printed, 6.5 across the page."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from repsearch.results.runs import VARIANTS, several

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
Look = dict[str, Any]  # colour-blind-safe (Okabe & Ito), and told apart in grey by line and marker
LOOKS: list[Look] = [
    {"color": colour, "linestyle": line, "marker": marker}
    for colour, line, marker in [
        (BLUE, "-", "o"),
        (VERMILLION, "--", "s"),
        (GREEN, "-.", "^"),
        (PURPLE, ":", "D"),
        (ORANGE, "-", "v"),
        (SKY, "--", "P"),
    ]
]
KNOWN = {"search-all": LOOKS[0], "sgd": LOOKS[1], "search-skip0": LOOKS[2]}
BLOCKS = {"block0": LOOKS[0], "block1": LOOKS[1], "block2": LOOKS[2]}
PANELS = {"population": "Population size", "generations": "Generations"}
KINDS = {"within-class": "within class", "between-class": "between classes"}


def style() -> AbstractContextManager[None]:
    """Settings that hold for all figures; use it around `plot` and saving."""
    return rc_context(
        {
            **{"font.family": "sans-serif", "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9},
            **{"xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8.5, "legend.frameon": False},
            **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "axes.axisbelow": True},
            **{"axes.grid": True, "grid.color": "0.9", "grid.linewidth": 0.5, "xtick.major.width": 0.7},
            **{"lines.linewidth": 1.4, "lines.markersize": 4, "ytick.major.width": 0.7},
        }
    )


def plot(number: int, frame: pd.DataFrame) -> Figure:
    """Figure `number` (2 … 7) of a frame as `repsearch.figures` builds it."""
    return {2: _fitness, 3: _diversity, 4: _scaling, 5: _distances, 6: _entropies, 7: _entropies}[number](frame)


def _fitness(frame: pd.DataFrame) -> Figure:
    figure, axes = _panels(1, 2, 6.5, 2.9, share_y=True)
    for ax, (panel, name) in zip(axes, PANELS.items(), strict=True):
        part = frame[frame["panel"] == panel]
        for block, rows in part.groupby("block"):
            errors = rows.assign(
                std=rows["std"] / rows["n"] ** 0.5
            )  # images differ: ± 1 std would hide the other blocks
            _line(ax, errors, "x", BLOCKS[str(block)], f"Block {str(block)[-1]}")
        _compute_axis(ax, part["x"])
        ax.set(title=f"Scaling {name.lower()}", xlabel=name)
    axes[0].set_ylabel("Cross-entropy (nats)")
    axes[0].set_ylim(bottom=max(0.0, axes[0].get_ylim()[0]))  # cross-entropy is never negative; a band may reach below
    return _legend(figure, axes)


def _diversity(frame: pd.DataFrame) -> Figure:
    figure, (ax,) = _panels(1, 1, 4.2, 3.3)
    ends = [frame["runs"].min(), frame["runs"].max()]
    ax.plot(ends, ends, color="0.6", linewidth=0.8, label=r"$N_\mathrm{eff}$ = runs")
    for block, rows in frame.groupby("block"):
        counted = several(rows["n"]).replace(" to ", "–")
        _line(ax, rows, "runs", BLOCKS[str(block)], f"Block {str(block)[-1]} (n = {counted})", low=1)
    top = (frame["mean"] + frame["std"].fillna(0)).max()
    if top > 1:
        ax.set_ylim(1 - 0.05 * (top - 1), top + 0.05 * (top - 1))  # the line would leave the data the lowest part
    ax.set(xlabel="Independent runs", ylabel=r"Effective number of solutions $N_\mathrm{eff}$")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    return _legend(figure, [ax])


def _scaling(frame: pd.DataFrame) -> Figure:
    figure, axes = _panels(1, 2, 6.5, 2.9, share_y=True)
    series = list(dict.fromkeys(zip(frame["variant"], frame["depth"], strict=True)))
    looks = _looks([variant for variant, _ in series])
    for ax, (panel, name) in zip(axes, PANELS.items(), strict=True):
        part = frame[frame["panel"] == panel]
        for variant, depth in series:
            rows = part[(part["variant"] == variant) & (part["depth"] == depth)].sort_values("x")
            if len(rows):
                bars = rows["std"].where(rows["n"] > 1)
                label = f"{VARIANTS.get(variant, variant)}, {2 * depth} convolutions a block"
                ax.errorbar(rows["x"], rows["mean"], bars, capsize=2.5, elinewidth=0.9, label=label, **looks[variant])
        _compute_axis(ax, part["x"])
        ax.set(title=f"Scaling {name.lower()}", xlabel=name if panel == "population" else "Generations of block 0")
    axes[0].set_ylabel("Validation accuracy (%)")
    return _legend(figure, axes)


def _distances(frame: pd.DataFrame) -> Figure:
    blocks = sorted(frame["block"].unique())
    figure, axes = _panels(1, len(blocks), 6.5, 2.6, share_y=True)
    for ax, block in zip(axes, blocks, strict=True):
        _by_epoch(ax, frame[frame["block"] == block])
        ax.set_title(f"Block {block[-1]}")
    axes[0].set_ylabel("Cosine distance to targets")
    axes[0].set_ylim(bottom=0)
    return _legend(figure, axes)


def _entropies(frame: pd.DataFrame) -> Figure:
    blocks = sorted(frame["block"].unique())
    figure, axes = _panels(len(blocks), 2, 6.5, 0.5 + 2.3 * len(blocks), share_y="row")
    grid = [(block, kind) for block in blocks for kind in KINDS]
    for place, (ax, (block, kind)) in enumerate(zip(axes, grid, strict=True)):
        _by_epoch(ax, frame[(frame["block"] == block) & (frame["kind"] == kind)])
        ax.set_title(f"Block {block[-1]}, {KINDS[kind]}")
        if place % 2 == 0:
            ax.set_ylabel("Collision entropy (nats)")
        if place < len(grid) - 2:
            ax.set_xlabel("")
    return _legend(figure, axes)


def _panels(
    rows: int, columns: int, width: float, height: float, share_y: bool | Literal["row"] = False
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    return figure, list(axes.flat)


def _by_epoch(ax: Axes, frame: pd.DataFrame) -> None:
    looks = _looks(frame["series"].unique())
    for series in frame["series"].unique():
        _line(ax, frame[frame["series"] == series], "epoch", looks[series], VARIANTS.get(series, series))
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))


def _line(ax: Axes, rows: pd.DataFrame, x: str, look: Look, label: str, low: float | None = None) -> None:
    """The mean, and a band of ± 1 std where n > 1, not below `low`; markers on at most a dozen points."""
    rows = rows.dropna(subset="mean").sort_values(x)
    std = rows["std"].where(rows["n"] > 1)
    ax.plot(rows[x], rows["mean"], label=label, markevery=max(1, len(rows) // 10), **look)
    ax.fill_between(
        rows[x], (rows["mean"] - std).clip(lower=low), rows["mean"] + std, color=look["color"], alpha=0.15, linewidth=0
    )


def _looks(variants: list[str]) -> dict[str, Look]:
    """The same look for a variant in every figure; unknown ones take the free looks in turn."""
    free = iter([look for look in LOOKS if look not in KNOWN.values()] * len(variants))
    return {variant: KNOWN[variant] if variant in KNOWN else next(free) for variant in dict.fromkeys(variants)}


def _compute_axis(ax: Axes, values: pd.Series) -> None:
    """Logarithmic, with plain numbers at the data's values, those left out that would run into the one before."""
    distinct = sorted(set(values))
    if not distinct:
        return
    if distinct[0] > 0:
        ax.set_xscale("log", base=2)
    else:
        ax.set_xscale("symlog", base=2, linthresh=1)  # 0 generations: the initial population
    gap = (distinct[-1] / max(1, distinct[0])) ** (1 / 11)
    shown = distinct[:1]
    for value in distinct[1:]:
        if value >= shown[-1] * gap:
            shown.append(value)
    ax.set_xticks(shown, [f"{value:g}" for value in shown])
    ax.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, axes: list[Axes]) -> Figure:
    """One legend above all panels, clear of the data."""
    found: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    columns = min(len(found), 4 if figure.get_figwidth() > 5 else 2)
    figure.legend(list(found.values()), list(found), loc="outside upper center", ncols=columns, handlelength=3)
    return figure
