"""Snakemake's command line, as far as Snakemake misreads it: nested settings, and results that no rule makes."""

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from repsearch.config.load import merge
from repsearch.errors import UserError

_KINDS = "tables|figures|data|network|statistics|targets|probes|runs|ensembles|logs|benchmarks"
_BELOW = rf"(?:(?:{_KINDS})/.+|report\.html|reproduction\.md)"  # what a results folder holds
_RESULT = re.compile(rf"(results(?:/[A-Za-z0-9._-]+)*?)/{_BELOW}")


def settings(words: Iterable[str]) -> dict[str, Any]:
    """What Snakemake gets wrong of `--config KEY=VALUE …`, as YAML has it.

    words: those after `--config`. To Snakemake every value inside a mapping or a list is text, and so are `true`,
    `false` and `null`.
    """
    overlay: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        with contextlib.suppress(Exception):  # no YAML: it stays text, which the schema refuses by its key
            value = yaml.safe_load(text)
            if value is None or isinstance(value, bool | dict | list):
                overlay = merge(overlay, {key: value})
    return overlay


def check_configuration_files(paths: Iterable[str]) -> None:
    """Raise UserError where a configuration file is a result: `--configfile` took what was meant as a target."""
    for path in paths:
        if _RESULT.fullmatch(path):
            raise UserError(
                f"{path} is not a configuration: --configfile takes every word up to the next option, so name the "
                "results that you want before it"
            )


def check_targets(words: Iterable[str], results: str, presets: Path, given: Sequence[str] = ()) -> None:
    """Raise UserError where a word of the command line is a result of another folder than `results`.

    presets: the folder of the presets, one of which may make it. given: the configuration files, later ones override.
    """
    for word in words:
        asked = _RESULT.fullmatch(word)
        if asked and not re.fullmatch(f"{re.escape(results)}/{_BELOW}", word):
            remedy = _remedy(asked[1], results, presets, given)
            raise UserError(f"{word} can't be made by this configuration, whose results are in {results}: {remedy}")


def check_made(target: str, results: Sequence[str]) -> None:
    """Raise UserError where a target that no rule makes is one of `results` in another format, or has a name like it.

    One of which only the number differs, such as table 7, is not misspelt: Snakemake says that no rule makes it. A
    target may be the end of a result's path alone, such as table1 or tables/table1.csv.
    """
    named = [path for path in results if target in (Path(path).stem, *_ends(path))]
    if named:
        raise UserError(f"{target} can't be made by this configuration: give its file, {named[0]}")
    stem, _, suffix = target.rpartition(".")
    wanted = {"tex": "latex"} if "/tables/" in stem else {"pdf": "pdf", "svg": "svg"}
    remedy = f"add {wanted[suffix]} to formats" if suffix in wanted and f"{stem}.png" in results else ""
    for close in [] if remedy else get_close_matches(target, results, 1, 0.85):
        if re.sub(r"\d+", "#", close) != re.sub(r"\d+", "#", target):
            remedy = f"did you mean {close}?"
    if remedy:
        raise UserError(f"{target} can't be made by this configuration: {remedy}")


def _ends(path: str) -> list[str]:
    """A path without its first folders: of a/b/c, b/c and c."""
    return [path.split("/", count)[-1] for count in range(1, path.count("/") + 1)]


def _remedy(folder: str, results: str, presets: Path, given: Sequence[str]) -> str:
    if folder == "results":
        return "leave out --configfile"
    said = {path: _results(Path(path)) for path in given}
    overriding = [path for path, name in said.items() if name == results]
    if folder in said.values() and overriding:
        return f"leave out {overriding[-1]}, which says results: {results}"
    for path in sorted(presets.glob("*.yaml")):
        if _results(path) == folder:
            return f"add --configfile {os.path.relpath(path)} after it"
    remedy = f"add --configfile after it, with the file that says results: {folder}"
    near = folder.count("/") == results.count("/") and get_close_matches(folder, [results], 1, 0.85)
    return f"did you mean {results}? If not, {remedy}" if near else remedy


def _results(path: Path) -> str | None:
    """The results folder that a configuration file names."""
    name: str | None = yaml.safe_load(path.read_text(encoding="utf-8")).get("results")
    return name
