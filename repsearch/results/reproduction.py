"""docs/reproduction.md: claim by claim, what reproduces, from the CSVs of one or more results folders."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from repsearch.config.parsing import parse
from repsearch.errors import UserError
from repsearch.jobs import ReproductionJob
from repsearch.results import figures, readings, tables
from repsearch.results.claims import SIGNIFICANT, Claim
from repsearch.results.phrases import markdown
from repsearch.results.runs import read_csv
from repsearch.storage.files import atomic, read_json, write_json, write_text

SCALE = "scale.json"  # the job, beside the CSVs of a published folder
WORDS = {  # verdict → in words, at the paper's scale and at another
    "holds": ("**holds**", "**holds at a smaller scale**"),
    "does not": ("**does not hold**", "**does not hold at this scale**"),
    "undecided": ("undecided", "undecided at this scale"),
}
NOT_TESTED = [  # section, claim, why; what figures and tables show is claimed in their modules
    ("§3.1", "Normalisation is crucial for the convergence of evolution", "the search has no reading without it"),
    (
        *("§4.1", "Regressing to different searched solutions yields different models"),
        "a hypothesis of the paper, which does not test it either",
    ),
]
Entry = tuple[ReproductionJob, str, Claim]  # a claim, and the CSV that it was read from, relative to the results folder
Key = tuple[str, str]  # a claim's section and text, alike at every scale


def make(job: ReproductionJob, results: Path, out: Path) -> None:
    """Write the page of one results folder."""
    write_text(out, to_markdown([(job, results)]))


def publish(job: ReproductionJob, results: Path, out: Path) -> None:
    """Copy a results folder's CSVs (of the readings also the pictures) and the job to `out`/NAME; then write `out`.md,
    the page of all folders published there.
    """
    for pattern in ("tables/*.csv", "figures/*.csv", "tables/readings.*"):
        for source in sorted(results.glob(pattern)):
            with atomic(out / job.name / source.relative_to(results)) as temporary:
                shutil.copyfile(source, temporary)
    write_json(out / job.name / SCALE, asdict(job))
    write_text(out.with_suffix(".md"), to_markdown(published(out)))


def published(folder: Path) -> list[tuple[ReproductionJob, Path]]:
    """The published results folders, in the order of their names."""
    paths = sorted(folder.glob(f"*/{SCALE}"))
    if not paths:
        raise UserError(f"{folder} holds no published results: snakemake publish --configfile PRESET makes them")
    return [(parse(ReproductionJob, read_json(path), str(path)), path.parent) for path in paths]


def claims(folder: Path) -> Iterator[tuple[str, Claim]]:
    """Every claim that the CSVs in `folder`/tables and `folder`/figures say something about, with its CSV's name.

    A CSV that is not there is left out. Raises UserError where there is none, or one can't be used.
    """
    sources = {"tables/readings.csv": readings, "tables/table1.csv": tables, "tables/table2.csv": tables}
    sources = {file: module for file, module in sources.items() if (folder / file).exists()}
    drawn = [name for name in figures.available() if (folder / f"figures/{name}.csv").exists()]
    sources |= {f"figures/{name}.csv": figures.find(name) for name in drawn}
    if not sources:
        raise UserError(f"{folder} has no tables and figures to test the paper's claims on: run snakemake first")
    for file, module in sources.items():
        frame = read_csv(folder / file, module.COLUMNS)
        if hasattr(module, "claims"):  # a figure need not have any
            yield from ((file, claim) for claim in module.claims(frame))


def to_markdown(folders: Sequence[tuple[ReproductionJob, Path]]) -> str:
    """Every claim, in the paper's order, with a line for each scale and data set; then what was not tested."""
    entries: dict[Key, list[Entry]] = {}
    for scale, folder in folders:
        for file, claim in claims(folder):
            entries.setdefault((claim.section, claim.claim), []).append((scale, file, claim))
    entries = {key: entries[key] for key in sorted(entries, key=lambda key: _place(key[0]))}
    parts = ["# What reproduces", _introduction([scale for scale, _ in folders])]
    if not entries:
        parts.append("None of the paper's claims can be held against these results.")
    else:
        parts += [_summary(entries), "## Claim by claim", *(_section(key, lines) for key, lines in entries.items())]
    parts += ["## Not tested", _not_tested(any(scale.full for scale, _ in folders))]
    return "\n\n".join(parts) + "\n"


def _place(section: str) -> list[float]:
    """Sorts §3.2 before §4.1, and by figure or table within it."""
    return [float(word) for word in section.replace("§", "").replace(",", "").split() if word[0].isdigit()]


INTRODUCTION = """Made from result files by `snakemake publish`; not written by hand. Each line holds one claim of the
paper against one data set at one scale, and ends with the command that makes the file it was read from. Scales:

{scales}

Accuracies are in per cent, mean ± sample standard deviation over n runs that differ in their seed (validation chose
epoch, depth and tuned settings); cross-entropies and entropies are in nats; figures 2 and 3 average over n images.

A difference counts where Welch's t-test gives p < {significant} (one test per comparison, not corrected for their
number). A claim of several differences holds where all do, fails where one is refuted, and is otherwise undecided.
"Holds at a smaller scale" says nothing about the paper's own."""


def _introduction(scales: Sequence[ReproductionJob]) -> str:
    suffix = {True: " (the paper's)", False: ""}
    lines = [f"- `{scale.name}`{suffix[scale.full]}: {scale.what}" for scale in scales]
    return INTRODUCTION.format(scales="\n".join(lines), significant=SIGNIFICANT)


def _summary(entries: dict[Key, list[Entry]]) -> str:
    rows = []
    for (section, text), lines in entries.items():
        verdicts: dict[str, list[str]] = {}
        for scale, _, claim in lines:
            verdicts.setdefault(_verdict(scale, claim), []).append(f"{claim.scale.split(':')[0]}, {scale.name}")
        rows.append([section, text, "; ".join(f"{words}: {', '.join(where)}" for words, where in verdicts.items())])
    return markdown(["where", "claim", "verdicts"], rows, left=3)


def _section(key: Key, entries: Sequence[Entry]) -> str:
    section, text = key
    rows = []
    for scale, file, claim in entries:
        where, command = f"{scale.name}: {claim.scale}", f"`{scale.command(file)}`"
        rows.append([claim.paper, claim.ours, claim.n, where, _verdict(scale, claim), command])
    return f"### {text} ({section})\n\n" + markdown(["paper", "ours", "n", "scale", "verdict", "made by"], rows, left=6)


def _not_tested(full: bool) -> str:
    rows = [[section, text, why] for section, text, why in NOT_TESTED]
    if not full:
        why = "not run in full; `snakemake --cores 8 publish` on a machine with a GPU makes these lines"
        rows.insert(0, ["all", "Every claim at the paper's own scale (width 256, all images, population 240)", why])
        rows.insert(1, ["§4.3", "SGD's own accuracies (99.1, 89.1, 62.3; augmented 93.0, 71.8)", "as above"])
    return markdown(["where", "claim", "why not"], rows, left=3)


def _verdict(scale: ReproductionJob, claim: Claim) -> str:
    at_papers_scale, at_another = WORDS[claim.verdict]
    return at_papers_scale if scale.full else at_another
