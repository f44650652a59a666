"""The gallery: what the search makes of a few images (§3.1): maps by generation, logits, cross-entropy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style
from repsearch.results.runs import dataset_name, read_csv

PROBE = ["image", "true_class", "kind", "block", "generation", "channel", "y", "x", "value", "class"]
PROBE += ["recipe_digest", "code_version"]
COLUMNS = [*PROBE, "recipe", "label"]
NAMES = {"block0": "Block 0", "block1": "Block 1", "block2": "Block 2", "logits": "Logits"}
FEW = 12  # classes whose names fit below their bars
LIMIT = 3.0  # of the maps' colours
JUMPS = (
    "The curve may rise within blocks 0 and 1, since by default every generation has BatchNorm statistics of its own "
    "and scores its parents anew with them; it may jump between blocks, since the best candidate passes through the "
    "next block and is normalised before it opens that block's search; and it may not move at all in a block, since "
    "every child is smoothed and the first parent is not, so that on small maps no child may beat it."
)
WIDTH, STRIP, FOOT = 7.0, 2.95, 0.5  # inches: the figure, an image's strip, the scale of colours


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """The gallery's probe, with the names of the recipe and the data set."""
    if len(inputs) != 1:
        raise UserError(f"the gallery is drawn from one probe, not {len(inputs)}")
    label = dataset_name(job.datasets, job.dataset).label
    return read_csv(inputs[0], PROBE).assign(recipe=job.recipe, label=label)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    """A strip per image: the image, its maps (a row per block, a column per generation), its logits and the losses."""
    images = [rows for _, rows in frame.groupby("image", sort=False)]
    height = STRIP * len(images) + FOOT
    figure = Figure(figsize=(WIDTH, height))
    for place, rows in enumerate(images):
        top = 1 - place * STRIP / height
        edges = {"top": top - 0.25 / height, "bottom": top - (STRIP - 0.5) / height}
        _image(figure.add_subplot(figure.add_gridspec(1, 1, left=0.01, right=0.15, **edges)[0]), rows)
        drawn = _maps(figure, rows[rows["kind"] == "map"], left=0.2, right=0.65, **edges)
        right = figure.add_gridspec(2, 1, left=0.72, right=0.99, hspace=0.65, **edges)
        _logits(figure.add_subplot(right[0]), rows[rows["kind"] == "logit"])
        _losses(figure.add_subplot(right[1]), rows[rows["kind"] == "loss"])
    scale = figure.add_axes((0.27, 0.42 / height, 0.31, 0.07 / height))
    bar = figure.colorbar(drawn, cax=scale, orientation="horizontal")
    bar.set_label("Activation (a candidate has mean 0 and variance 1)", fontsize=7.5)
    bar.outline.set_visible(False)
    return figure


def _image(ax: Axes, rows: pd.DataFrame) -> None:
    pixels = _array(rows[rows["kind"] == "pixel"], ["channel", "y", "x"]) / 255
    ax.imshow(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0], cmap="gray", vmin=0, vmax=1)
    ax.set_title(f"Class {rows['true_class'].iloc[0]}", weight="bold")
    ax.set_xlabel(f"image {rows['image'].iloc[0]}", fontsize=7.5)
    _bare(ax)


def _maps(figure: Figure, rows: pd.DataFrame, **edges: float) -> AxesImage:
    """Each cell is a mosaic of a few channels."""
    blocks = [part for _, part in rows.groupby("block")]
    columns = max(part["generation"].nunique() for part in blocks)
    grid = figure.add_gridspec(len(blocks), columns, wspace=0.1, hspace=0.28, **edges).subplots(squeeze=False)
    for line, part in zip(grid, blocks, strict=True):
        for ax in line:
            _bare(ax)
        cells = [*part.groupby("generation")]
        for ax, (generation, cell) in zip([*line[: len(cells) - 1], line[-1]], cells, strict=True):
            mosaic = _mosaic(_array(cell, ["channel", "y", "x"]))
            drawn = ax.imshow(mosaic, cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT, interpolation="nearest")
            ax.set_title(f"{generation:.0f}", fontsize=7.5, pad=2)
        line[0].set_ylabel(NAMES[part["block"].iloc[0]], fontsize=8.5)
    return drawn


def _mosaic(maps: NDArray[Any]) -> NDArray[Any]:
    """[channels, H, W] → channels side by side, in as many rows as make it about square, a gap between them."""
    columns = int(np.ceil(len(maps) ** 0.5))
    height, width = maps.shape[1:]
    gap = max(1, round(width / 10))
    rows = -(-len(maps) // columns)
    mosaic = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for place, values in enumerate(maps):
        y, x = (place // columns) * (height + gap), (place % columns) * (width + gap)
        mosaic[y : y + height, x : x + width] = values
    return mosaic


def _logits(ax: Axes, rows: pd.DataFrame) -> None:
    truth = rows["class"] == rows["true_class"]
    ax.bar(range(len(rows)), rows["value"], color=np.where(truth, style.COLOURS[1], "0.7"), width=0.8)
    ax.axhline(0, color="0.3", linewidth=0.6)
    if len(rows) <= FEW:
        short = max(map(len, rows["class"])) <= 2
        ax.set_xticks(range(len(rows)), rows["class"], rotation=0 if short else 60, fontsize=7)
        for tick, true in zip(ax.get_xticklabels(), truth, strict=True):
            tick.set(color=style.COLOURS[1] if true else "0.2", weight="bold" if true else "normal")
    else:
        ax.set_xlabel(f"{len(rows)} classes; orange: {rows['true_class'].iloc[0]}", fontsize=7.5)
        ax.set_xticks([])
    ax.set_title("Logits", fontsize=8.5)
    ax.grid(visible=False, axis="x")


def _losses(ax: Axes, rows: pd.DataFrame) -> None:
    """The search layers one after the other."""
    start = 0.0
    for place, (block, part) in enumerate(rows.groupby("block", sort=False)):
        colour = style.COLOURS[place]
        ax.plot(start + part["generation"], part["value"], color=colour, label=NAMES[block])
        if place:
            ax.axvline(start, color="0.75", linewidth=0.6, linestyle=":")
        start += part["generation"].max()
    ax.set_xlabel("Generation, all search layers", fontsize=7.5)
    ax.set_title("Cross-entropy (nats)", fontsize=8.5)
    ax.set_ylim(bottom=0)
    ax.set_xlim(0, start)
    ax.legend(fontsize=6.5, ncols=2, handlelength=1.2, columnspacing=1.0, borderaxespad=0.1)


def _array(rows: pd.DataFrame, axes: list[str]) -> NDArray[Any]:
    """The values of tidy rows, by their places on `axes`."""
    places = [np.unique(rows[axis], return_inverse=True)[1] for axis in axes]
    array = np.empty([place.max() + 1 for place in places])
    array[tuple(places)] = rows["value"]
    return array


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def caption(frame: pd.DataFrame) -> str:
    count = frame["image"].nunique()
    channels = frame[(frame["kind"] == "map")].groupby("image")["channel"].nunique().max()
    what = "one held-out image" if count == 1 else f"{count} held-out images, each of another class"
    parts = [
        f"**Gallery.** What the search makes of {what}, on {frame['label'].iloc[0]}: the maps of its best candidate, a "
        "row per block and a column per generation, whose number stands above it (0: the best of the first "
        "population); then its logits and its cross-entropy.",
        f"Left: the image. Middle: {channels} of the candidate's channels, those that vary most over the image at the "
        "end. Right: the logits that the search ends with, the true class in orange; below them the cross-entropy of "
        "the best candidate, one search layer after the other, each from the best candidate of the one before.",
        JUMPS,
    ]
    return " ".join([*parts, phrases.provenance_text(frame)]) + "\n"
