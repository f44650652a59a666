"""Lines about steps: few, with the pace of the work and the time left."""

import logging
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repsearch import progress
from repsearch.progress import Pace, duration, pace


def shown(times: Sequence[tuple[float, int]], total: int, between: bool = True) -> list[tuple[int, str]]:
    """(step, pace) of the lines that are kept, of steps that are done at some times, in seconds."""
    kept, chosen = [], Pace(between)
    for created, done in times:
        record = logging.makeLogRecord({"msg": "%d", "args": (done,), "created": created, "done": done, "total": total})
        if chosen.filter(record):
            kept.append((done, record.pace))  # type: ignore[attr-defined]
    return kept


def test_a_line_says_how_fast_the_work_goes_and_what_is_left() -> None:
    epochs = [(100.0 + 12 * epoch, epoch) for epoch in range(91)]
    kept = shown(epochs, 90)
    assert kept[:3] == [(0, ""), (1, ", 12.0 s each, 18 min left"), (2, ", 12.0 s each, 18 min left")]
    assert kept[-1] == (90, ", 12.0 s each, 18 min in all") and len(kept) == 91
    resumed = shown([(100.0, 3), (124.0, 5), (136.0, 6)], 10)
    assert resumed == [(3, ""), (5, ", 12.0 s each, 60 s left"), (6, ", 12.0 s each, 48 s left")]


def test_a_tiny_job_has_a_first_and_a_last_line() -> None:
    steps = [(100 + step / 1000, step) for step in range(1001)]
    assert [done for done, _ in shown(steps, 1000)] == [0, 1000]
    assert shown(steps, 1000)[-1][1] == ", 1,000.0 per second, 1 s in all"
    assert [done for done, _ in shown([(100.0, 0), (100.0, 1)], 1)] == [0, 1]  # in no time


def test_a_terminal_with_a_bar_gets_the_first_and_the_last_line() -> None:
    assert [done for done, _ in shown([(12.0 * n, n) for n in range(9)], 8, between=False)] == [0, 8]


def test_work_after_work_has_its_own_clock() -> None:
    first = [(10.0, 0), (30.0, 2)]
    second = shown([*first, (100.0, 0), (150.0, 1), (200.0, 2)], 2)[2:]
    assert second == [(0, ""), (1, ", 50.0 s each, 50 s left"), (2, ", 50.0 s each, 100 s in all")]


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=300))
def test_a_log_stays_readable(durations: list[float]) -> None:
    """Two lines are ten seconds and a hundredth of the work's time apart, but for the last; few are lost."""
    times = [(1e9, 0)]
    for each in durations:
        times.append((times[-1][0] + each, len(times)))
    when = {done: created for created, done in times}
    kept = [done for done, _ in shown(times, len(durations))]
    assert kept[0] == 0 and kept[-1] == len(durations)
    for before, after in pairwise(kept[:-1]):
        assert when[after] - when[before] >= progress.SECONDS - 1e-6
    passed = when[kept[-1]] - 1e9
    assert len(kept) <= 2 + passed / progress.SECONDS


def test_other_lines_are_kept_as_they_are() -> None:
    record = logging.makeLogRecord({"msg": "search path: fused"})
    assert Pace(between=False).filter(record) and record.pace == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (119, "119 s"), (1000, "17 min"), (7140, "119 min"), (8280, "2.3 h"), (354_240, "4.1 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_pace_of_many_steps() -> None:
    assert pace(10, 216, 216 * 18) == ", 21.6 per second, 3 min left"
