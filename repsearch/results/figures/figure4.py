"""Figure 4 (§4.4): validation accuracy against the search's population and generations."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.jobs import FigureJob
from repsearch.results import phrases, style
from repsearch.results.claims import Claim, Effect
from repsearch.results.estimates import WELCH, Estimate
from repsearch.results.runs import COUNTS, RUN_FACTS, counts, percent, points, read, require_one_dataset

COLUMNS = ["panel", "x", "mean", "std", *COUNTS, "error", "df", *RUN_FACTS]


def build(job: FigureJob, inputs: Sequence[Path]) -> pd.DataFrame:
    """Validation accuracy (%) of runs whose recipes differ from `job.recipe` in population or layer-0 generations.

    A recipe is called RECIPE (which counts in both panels), RECIPE--population-N or RECIPE--generations-N.
    """
    rows = []
    for group in points(read(inputs, job.datasets)):
        first, numbers = group.iloc[0], percent(group, "validation_accuracy")
        names = {panel: rf"{re.escape(job.recipe)}(--{panel}-\d+)?" for panel in style.PANELS}
        panels = [panel for panel, pattern in names.items() if re.fullmatch(pattern, first["recipe"])]
        if not panels:
            raise UserError(
                f"figure 4: {first['path']} used recipe {first['recipe']}, which is not {job.recipe}, "
                f"{job.recipe}--population-N or {job.recipe}--generations-N"
            )
        numbers |= {**counts(group), **first[RUN_FACTS]}
        rows += [{"panel": panel, "x": first[panel], **numbers} for panel in panels]
    frame = pd.DataFrame(rows)
    require_one_dataset(frame)
    frame = frame.sort_values(["panel", "variant", "depth", "x"], ascending=[False, True, True, True])
    return frame[COLUMNS].reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    figure, axes = style.panels(1, 2, 6.5, 2.9, share_y=True)
    series = list(dict.fromkeys(zip(frame["variant"], frame["depth"], strict=True)))
    looks = style.variant_looks(variant for variant, _ in series)
    for ax, (panel, name) in zip(axes, style.PANELS.items(), strict=True):
        part = frame[frame["panel"] == panel]
        for variant, depth in series:
            rows = part[(part["variant"] == variant) & (part["depth"] == depth)].sort_values("x")
            if len(rows):
                label = f"{phrases.VARIANTS.get(variant, variant)}, {2 * depth} convolutions per block"
                style.errorbars(ax, rows, "x", looks[variant], label)
        style.compute_axis(ax, part["x"])
        ax.set(title=f"Scaling {name.lower()}", xlabel=name if panel == "population" else "Generations of block 0")
    axes[0].set_ylabel("Validation accuracy (%)")
    return style.legend(figure, axes, title=frame["label"].iloc[0])


def caption(frame: pd.DataFrame) -> str:
    title = (
        f"**Figure 4.** Accuracy against search compute on {frame['label'].iloc[0]}: validation accuracy (%) "
        "against population (left) and against block-0 generations (right), of networks trained on the searched "
        "representations."
    )
    return style.caption(title, frame, marks="Error bars")


def claims(frame: pd.DataFrame) -> Iterator[Claim]:
    """From the least to the most compute; where accuracy saturates ("up to saturation", abstract) is not tested."""
    for panel, rows in frame.groupby("panel", sort=False):
        rows = rows.sort_values("x")
        least, most = rows.iloc[0], rows.iloc[-1]
        numbers = f"{panel} " + ", ".join(f"{row['x']}: {phrases.mean_and_std(row)}" for _, row in rows.iterrows())
        what = f"{panel} {least['x']} → {most['x']}"
        effect = Effect(what, Estimate.read(most) - Estimate.read(least))
        yield Claim(
            "§4.4, figure 4", f"Validation accuracy rises with {panel}",
            "the accuracy scales with more compute along both the number of generations and the population size",
            f"validation accuracy (%), which also chose the epoch, with the most {panel} minus that with the least, "
            "which must be above 0. Nothing is tuned",
            f"{WELCH}; each recipe has searches of its own", [effect],
            "at each point " + phrases.averaged_text(most["searches"], most["seeds"]),
            f"{most['label']}: {phrases.scale_text(rows)}, depth {phrases.number_range(rows['depth'])}", ours=numbers,
            searches=int(rows["searches"].min()),
        )  # fmt: skip
