"""Tables in LaTeX, with the rules of its package booktabs."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from repsearch.storage.files import write_text

SIGNS = {
    "\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$",
    "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--", "→": r"$\rightarrow$", "λ": r"$\lambda$", "α": r"$\alpha$",
    "≤": r"$\leq$", "≥": r"$\geq$", "▲": r"$\bigtriangleup$", "▼": r"$\bigtriangledown$",
}  # fmt: skip
HEAD = "% For a document with \\usepackage{booktabs}; the numbers are those of the CSV of the same name.\n"


def write(csv: Path, tables: Iterable[str]) -> None:
    """Write tables beside their CSV."""
    write_text(csv.with_suffix(".tex"), HEAD + "\n".join(tables))


def table(label: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: str, left: int) -> str:
    """A table with its caption above and its notes below: the first `left` columns left-aligned, the others centred.

    A cell's lines stand below each other. label: for \\ref.
    """
    lines = [" & ".join(map(_cell, row)) + r" \\" for row in (header, *rows)]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    parts = [
        r"\begin{table}", r"\centering", rf"\caption{{{escaped(title)}}}", rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{left * 'l'}{(len(header) - left) * 'c'}}}", *body, r"\end{tabular}",
        r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize {escaped(notes)}}}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    lines = [escaped(line) for line in text.split("\n")]
    # Braces, since a line that begins with a bracket would be taken for the distance to it.
    return lines[0] if len(lines) == 1 else rf"\shortstack{{{(chr(92) * 2).join(f'{{{line}}}' for line in lines)}}}"


def escaped(text: str) -> str:
    """Text as LaTeX prints it; a minus before a number is one."""
    text = "".join(SIGNS.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)
