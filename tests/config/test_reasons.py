"""Snakemake's reasons name the settings that differ."""

import json
import logging

import pytest

from repsearch.config.reasons import Readable, changes, readable

START = "Params have changed since last execution: Union of exclusive params before and now across all output: "
OLD = {"recipe": {"smooth": "child", "layers": [{"blur": 5}, {"blur": 1}]}, "start": 0}
NEW = {"recipe": {"smooth": "noise", "layers": [{"blur": 5}, {"blur": 0}]}, "start": 0}
CHANGED = 'recipe.smooth: "child" → "noise", recipe.layers.1.blur: 1 → 0'


def reason(before: str, now: str) -> str:
    """As Snakemake 9 writes it."""
    return f"{START}before: {before} now: {now} "


def quoted(settings: object) -> str:
    return repr(json.dumps(settings))


CODE = ("'94c6b66e57c7'", "'5a81c0de0000'")
OF_CODE = "the code that makes it: 94c6b66e57c7 → 5a81c0de0000"


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (quoted(OLD), quoted(NEW), CHANGED),
        (*CODE, OF_CODE),
        (f"{quoted(OLD)},{CODE[0]}", f"{CODE[1]},{quoted(NEW)}", f"{CHANGED}, {OF_CODE}"),
        (quoted({"label": "my 'own'"}), quoted({"label": "yours"}), 'label: "my \'own\'" → "yours"'),
        (quoted({}), quoted({"runs": 2}), "runs: nothing → 2"),
        (quoted({"a": [1]}), quoted({"a": [1, 2]}), "a: [1] → [1, 2]"),
    ],
)
def test_a_change_is_named(before: str, now: str, said: str) -> None:
    about = "Params have changed since last execution: "
    assert readable(reason(before, now)) == about + said
    assert readable(f"Missing output files: a; {reason(before, now)}; Set of input files has changed") == (
        f"Missing output files: a; {about}{said}; Set of input files has changed"
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [("'--a 1'", "'--a 2'"), (quoted(OLD), "<nothing exclusive>"), (quoted(OLD) + ",'x'", quoted(NEW))],
)
def test_what_is_not_understood_stays(before: str, now: str) -> None:
    assert readable(reason(before, now)) == reason(before, now)


def test_many_changes_are_counted() -> None:
    before, now = ({f"key{number}": value for number in range(9)} for value in (1, 2))
    assert readable(reason(quoted(before), quoted(now))).endswith("key5: 1 → 2, and 3 more settings")


def test_equal_values_are_no_change() -> None:
    assert [*changes(OLD, OLD)] == []


def test_the_filter_changes_reasons_alone() -> None:
    record = logging.makeLogRecord({"msg": "Job 1", "reason": reason(*CODE)})
    assert Readable().filter(record) and OF_CODE in record.reason and record.getMessage() == "Job 1"
    assert Readable().filter(logging.makeLogRecord({"msg": "no job"}))
