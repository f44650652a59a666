"""docs/reproduction.md: claim by claim, what reproduces, from the CSVs of one or more results folders."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from repsearch.config.parsing import parse
from repsearch.errors import UserError
from repsearch.jobs import ReproductionJob
from repsearch.results import figures, readings, tables
from repsearch.results.claims import Claim
from repsearch.results.estimates import SIGNIFICANT
from repsearch.results.phrases import markdown
from repsearch.results.runs import MissingColumns, read_csv
from repsearch.storage.files import atomic, read_json, write_json, write_text

SCALE = "scale.json"  # the job, beside the CSVs of a published folder
WORDS = {
    "holds": "**holds**",
    "does not": "**does not hold**",
    "undecided": "undecided",
    "by construction": "true by construction, not counted",
}
NOT_TESTED = [  # section, claim, why; what figures and tables show is claimed in their modules
    ("abstract", "Performance improves up to saturation: where it saturates", "the sweeps have too few points for it"),
    (
        *("abstract", "More varied solutions with a larger population and more generations"),
        "figure 3 varies the number of runs alone, as the paper's does",
    ),
    ("§3.1", "Normalisation is crucial for the convergence of evolution", "the search has no reading without it"),
    (
        *("§4.2", "More capacity per block helps to learn searched representations"),
        "tables 1 and 2 try depths for SGD alone; docs/readings.md has what was tried, at two scales",
    ),
    (
        *("§4.2", "Earlier layers are difficult to optimise with search-based learning"),
        "the paper gives no measure; figure 5 shows each block's distance to its targets",
    ),
    (
        *("§4.1", "Regressing to different searched solutions yields different models"),
        "a hypothesis of the paper, which does not test it either",
    ),
]
SMOOTHING = ("§3.1", "Smoothing is crucial for learnability", "the preset `readings` asks it: docs/readings.md")
NOT_KEPT = ("gallery.csv", "curves.csv")  # no claim is read from them, and at the paper's scale they are megabytes
Entry = tuple[ReproductionJob, str, Claim]  # a claim, and the CSV that it was read from, relative to the results folder
Unread = tuple[ReproductionJob, str, str]  # a CSV that has not the columns that its claims need, and which
Key = tuple[str, str]  # a claim's section and text, alike at every scale


def make(job: ReproductionJob, results: Path, out: Path) -> None:
    """Write the page of one results folder."""
    write_text(out, to_markdown([(job, results)]))


def publish(job: ReproductionJob, results: Path, out: Path) -> None:
    """Copy a results folder's CSVs (of the readings also the pictures) and the job to `out`/NAME, in place of those
    published before; then write `out`.md, the page of all folders published there.
    """
    for pattern in ("tables/*.csv", "figures/*.csv", "tables/readings.*"):
        sources = {path.relative_to(results) for path in results.glob(pattern) if path.name not in NOT_KEPT}
        for source in sorted(sources):
            with atomic(out / job.name / source) as temporary:
                shutil.copyfile(results / source, temporary)
        for former in (out / job.name).glob(pattern):
            if former.relative_to(out / job.name) not in sources:
                former.unlink()
    write_json(out / job.name / SCALE, asdict(job))
    write_text(out.with_suffix(".md"), to_markdown(published(out)))


def published(folder: Path) -> list[tuple[ReproductionJob, Path]]:
    """The published results folders, in the order of their names."""
    paths = sorted(folder.glob(f"*/{SCALE}"))
    if not paths:
        raise UserError(f"{folder} holds no published results: snakemake publish --configfile PRESET makes them")
    return [(parse(ReproductionJob, read_json(path), str(path)), path.parent) for path in paths]


def sources(folder: Path) -> dict[str, ModuleType]:
    """The CSVs in `folder`/tables and `folder`/figures, and the modules that read claims from them.

    Raises UserError where there is none.
    """
    modules = {"tables/readings.csv": readings, "tables/table1.csv": tables, "tables/table2.csv": tables}
    modules |= {f"figures/{name}.csv": figures.find(name) for name in figures.available()}
    found = {file: module for file, module in modules.items() if (folder / file).exists()}
    if not found:
        raise UserError(f"{folder} has no tables and figures to test the paper's claims on: run snakemake first")
    return found


def claims(csv: Path, module: ModuleType) -> list[Claim]:
    """The claims that a CSV says something about. Raises UserError where it can't be used."""
    frame = read_csv(csv, module.COLUMNS)
    return list(module.claims(frame)) if hasattr(module, "claims") else []  # a figure need not have any


def collect(folders: Sequence[tuple[ReproductionJob, Path]]) -> tuple[dict[Key, list[Entry]], list[Unread]]:
    """Every claim, in the paper's order, with an entry for each scale and data set; and what could not be read."""
    entries: dict[Key, list[Entry]] = {}
    unread: list[Unread] = []
    for scale, folder in folders:
        for file, module in sources(folder).items():
            try:
                for claim in claims(folder / file, module):
                    entries.setdefault((claim.section, claim.claim), []).append((scale, file, claim))
            except MissingColumns as error:
                unread.append((scale, file, str(error).removeprefix(f"{folder / file} ").partition(":")[0]))
    return {key: entries[key] for key in sorted(entries, key=lambda key: _place(key[0]))}, unread


def to_markdown(folders: Sequence[tuple[ReproductionJob, Path]]) -> str:
    """Every claim, with a line for each scale and data set; then what was not tested."""
    entries, unread = collect(folders)
    parts = ["# What reproduces", _introduction([scale for scale, _ in folders])]
    if not entries:
        parts.append("None of the paper's claims can be held against these results.")
    else:
        parts += [_summary(entries), "## Claim by claim", *(_section(key, lines) for key, lines in entries.items())]
    untested = NOT_TESTED if any(section == "§3.1" for section, _ in entries) else [*NOT_TESTED, SMOOTHING]
    parts += ["## Not tested", _not_tested(untested, any(scale.full for scale, _ in folders), unread)]
    return "\n\n".join(parts) + "\n"


def _place(section: str) -> list[float]:
    """Sorts §3.2 before §4.1, and by figure or table within it."""
    return [float(word) for word in section.replace("§", "").replace(",", "").split() if word[0].isdigit()]


INTRODUCTION = """Made from result files; not written by hand. Each line holds one claim of the
paper against one data set at one scale, and ends with the command that makes the file it was read from. Scales:

{scales}

Accuracies are in per cent, mean ± sample standard deviation over runs; cross-entropies and entropies are in nats.
Validation chose the epoch, and among those in the same file the setting ("best of") and SGD's depth. The depth of
search-based learning is the preset's; a block of depth d has 2 d convolutions, and the paper learns targets at depth 3,
of MNIST at 2. What was tried on the way to a preset's settings, its depth included, in part with the test accuracy of
others known, is in docs/readings.md and benchmarks/results.

Each claim names a test and a statistic, signed so that the claim predicts a value above a threshold. A line gives, for
each comparison, the numbers compared, the effect with its 95 % confidence interval, the two-sided p-value against that
threshold, and after "sees" the smallest distance from it that would be found with about 80 % power. n is what the mean
is over, and so what it speaks for: images, of one search network; or searches × training seeds, whose two variances
add; with one search, other training seeds on the targets of that search only.

A claim holds where all its effects are shown (p < {significant}), does not where one of its k effects is refuted
(p < {significant} / k), and is otherwise undecided. A claim that cannot fail is called true by construction, and is not
counted. Nothing is corrected for the number of claims. A verdict that is not at the paper's scale (its width, depth,
search, training lengths and all of its data) says nothing about the paper's own."""


def _introduction(scales: Sequence[ReproductionJob]) -> str:
    suffix = {True: " (the paper's)", False: ""}
    lines = [f"- `{scale.name}`{suffix[scale.full]}: {scale.what}" for scale in scales]
    return INTRODUCTION.format(scales="\n".join(lines), significant=SIGNIFICANT)


def _summary(entries: dict[Key, list[Entry]]) -> str:
    rows = []
    for (section, text), lines in entries.items():
        verdicts: dict[str, list[str]] = {}
        for scale, _, claim in lines:
            verdicts.setdefault(_verdict(scale, claim), []).append(f"{scale.name} [{claim.scale.split(':')[0]}]")
        rows.append([section, text, "; ".join(f"{words}: {', '.join(where)}" for words, where in verdicts.items())])
    return markdown(["where", "claim", "verdicts"], rows, left=3)


def _section(key: Key, entries: Sequence[Entry]) -> str:
    section, text = key
    first = entries[0][2]
    terms = [f"The paper: “{first.quote}”", f"Statistic: {first.statistic}.", f"Test: {first.test}."]
    rows = []
    for scale, file, claim in entries:
        found = _found(claim)
        where, command = f"{scale.name}: {claim.scale}", f"`{scale.command(file)}`"
        rows.append([claim.paper or "–", found, claim.n, where, _verdict(scale, claim), command])
    header = ["paper", "ours", "n", "scale", "verdict", "made by"]
    return f"### {text} ({section})\n\n" + "  \n".join(terms) + "\n\n" + markdown(header, rows, left=6)


def _found(claim: Claim) -> str:
    """Our numbers, a comparison a line; then why there is no verdict, if there is none."""
    effects = [effect.words if claim.by_construction else str(effect) for effect in claim.effects]
    return "\n".join(text for text in (claim.ours, *effects, claim.by_construction, claim.problem) if text)


def _not_tested(untested: Sequence[tuple[str, str, str]], full: bool, unread: Sequence[Unread]) -> str:
    rows = [list(row) for row in untested]
    if not full:
        why = "not run in full; `snakemake --cores 8 publish` on a machine with a GPU makes these lines"
        rows.insert(0, ["all", "Every claim at the paper's own scale (width 256, all images, population 240)", why])
        rows.insert(1, ["§4.3", "SGD's own accuracies (99.1, 89.1, 62.3; augmented 93.0, 71.8)", "as above"])
    rows += [
        [
            file,
            f"The claims of this file at the scale {scale.name}",
            f"an earlier version published it: it {why}",
        ]
        for scale, file, why in unread
    ]
    return markdown(["where", "claim", "why not"], rows, left=3)


def _verdict(scale: ReproductionJob, claim: Claim) -> str:
    """The verdict and what limits it."""
    if claim.by_construction:
        return WORDS["by construction"]
    scaled = [] if scale.full else ["not at the paper's scale"]
    return ", ".join([WORDS[claim.verdict], *limits(claim), *scaled])


def limits(claim: Claim) -> list[str]:
    """What a verdict does not go beyond, apart from the scale."""
    return (["on one search"] if claim.searches == 1 else []) + ([claim.setting] if claim.setting else [])
