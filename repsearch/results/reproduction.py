"""docs/reproduction.md: claim by claim, what reproduces, from the CSVs of one or more results folders."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from repsearch.config.parsing import parse
from repsearch.errors import UserError
from repsearch.results.claims import SIGNIFICANT, Claim, claims
from repsearch.results.runs import markdown
from repsearch.storage.files import atomic, read_json, write_json, write_text

SCALE = "scale.json"  # beside the CSVs of a published folder
WORDS = {  # verdict → in words, at the paper's scale and at another
    "holds": ("**holds**", "**holds at a smaller scale**"),
    "does not": ("**does not hold**", "**does not hold at this scale**"),
    "undecided": ("undecided", "undecided at this scale"),
}
NOT_TESTED = [  # section, claim, why; what figures and tables show is claimed in claims.py
    ("§3.1", "Normalisation is crucial for the convergence of evolution", "the search has no reading without it"),
    (
        "§4.1",
        "Regressing to different searched solutions yields different models",
        "a hypothesis of the paper, which does not test it either",
    ),
]


@dataclass(frozen=True)
class Scale:
    """A results folder's name, what was done there, and how to make a file of it. full: the paper's scale."""

    name: str
    what: str
    results: str
    options: str
    full: bool

    def command(self, file: str) -> str:
        return f"snakemake {self.results}/{file} {self.options}".strip()


def publish(results: Path, out: Path, scale: Scale) -> None:
    """Copy a results folder's CSVs, and its scale, to a folder of the scale's name in `out`; the readings whole."""
    for pattern in ("tables/*.csv", "figures/*.csv", "tables/readings.*"):
        for made in sorted(results.glob(pattern)):
            with atomic(out / scale.name / made.relative_to(results)) as temporary:
                shutil.copyfile(made, temporary)
    write_json(out / scale.name / SCALE, asdict(scale))


def published(folder: Path) -> list[tuple[Scale, Path]]:
    """The published scales, in the order of their names."""
    found = [(parse(Scale, read_json(path), str(path)), path.parent) for path in sorted(folder.glob(f"*/{SCALE}"))]
    if not found:
        raise UserError(f"{folder} holds no published results: snakemake publish --configfile PRESET makes them")
    return found


def write(out: Path, folders: Sequence[tuple[Scale, Path]]) -> None:
    write_text(out, to_markdown(folders))


def to_markdown(folders: Sequence[tuple[Scale, Path]]) -> str:
    """Every claim with a line for each scale and data set that says something of it; then what was not tested."""
    lines: dict[tuple[str, str], list[tuple[Scale, Claim]]] = {}
    for scale, folder in folders:
        for claim in claims(folder):
            lines.setdefault((claim.section, claim.claim), []).append((scale, claim))
    order = sorted(lines, key=lambda key: _place(key[0]))
    parts = ["# What reproduces", _introduction(folders)]
    if not lines:
        parts.append("None of the paper's claims can be held against these results.")
    else:
        parts += [_summary([(key, lines[key]) for key in order]), "## Claim by claim"]
        parts += [_section(key, lines[key]) for key in order]
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

A difference counts where Welch's t-test gives p < {significant} (one test a comparison, not corrected for their
number). A claim of several differences holds where all do, fails where one is refuted, and is else undecided. "Holds at
a smaller scale" says nothing about the paper's own."""


def _introduction(folders: Sequence[tuple[Scale, Path]]) -> str:
    papers = {True: " (the paper's)", False: ""}
    scales = "\n".join(f"- `{scale.name}`{papers[scale.full]}: {scale.what}" for scale, _ in folders)
    return INTRODUCTION.format(scales=scales, significant=SIGNIFICANT)


def _summary(claimed: Sequence[tuple[tuple[str, str], list[tuple[Scale, Claim]]]]) -> str:
    header = ["where", "claim", "verdicts"]
    rows = []
    for (section, text), found in claimed:
        counts: dict[str, list[str]] = {}
        for scale, claim in found:
            counts.setdefault(_in_words(scale, claim), []).append(f"{claim.scale.split(':')[0]}, {scale.name}")
        rows.append([section, text, "; ".join(f"{words}: {', '.join(where)}" for words, where in counts.items())])
    return markdown(header, rows, left=len(header))


def _section(key: tuple[str, str], found: Sequence[tuple[Scale, Claim]]) -> str:
    section, text = key
    rows = [
        [
            claim.paper,
            claim.ours,
            claim.n,
            f"{scale.name}: {claim.scale}",
            _in_words(scale, claim),
            f"`{scale.command(claim.file)}`",
        ]
        for scale, claim in found
    ]
    return f"### {text} ({section})\n\n" + markdown(["paper", "ours", "n", "scale", "verdict", "made by"], rows, left=6)


def _not_tested(full: bool) -> str:
    rows = [[section, text, why] for section, text, why in NOT_TESTED]
    if not full:
        why = "no GPU was at hand; `snakemake --cores 8 publish` on a machine with one makes these lines"
        rows.insert(0, ["all", "Every claim at the paper's own scale (width 256, all images, population 240)", why])
        rows.insert(1, ["§4.3", "SGD's own accuracies (99.1, 89.1, 62.3; augmented 93.0, 71.8)", "as above"])
    return markdown(["where", "claim", "why not"], rows, left=3)


def _in_words(scale: Scale, claim: Claim) -> str:
    at_papers, elsewhere = WORDS[claim.verdict]
    return at_papers if scale.full else elsewhere
