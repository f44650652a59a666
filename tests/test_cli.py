"""Commands: what their help says, and which values and settings they refuse."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from repsearch import jobs
from repsearch.cli import app
from repsearch.errors import UserError
from repsearch.jobs import Job, from_json, to_json
from tests.faults import made

SEARCH = jobs.SearchJob(made.RECIPE, 0, 10)
TRAIN = made.train_job("targets")
TABLE = jobs.TableJob(1, {"digits": jobs.DatasetName("Digits")})
JOBS: list[Job] = [jobs.PrepareJob("sklearn:digits", 10), made.NETWORK, SEARCH, TRAIN, TABLE]


def said(*words: str) -> str:
    """What a command that is refused or asked for help prints, on one line, without the boxes around it."""
    output = CliRunner().invoke(app, [*words]).output
    return " ".join(output.translate({ord(mark): " " for mark in "│╭╮╰╯─"}).split())


def test_help_says_which_commands_are_for_people() -> None:
    people, _, rules = said("--help").partition("For people")[2].partition("For the workflow's rules")
    assert "check" in people and "bench" in people and "Train one network" not in people
    assert "prepare" in rules and "Train one network" in rules
    assert "auto|cpu|cuda" in said("search", "--help") and "auto|fused|dense" in said("search", "--help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "--device", "tpu"], "'--device': .*'auto', 'cpu', 'cuda'"),
        (["statistics", "--path", "quick"], "'--path': .*'auto', 'fused', 'dense'"),
        (["train", "--threads", "0"], "'--threads': .*1"),
        (["bench", "train", "--precision", "float16"], "'--precision': .*'auto', 'float32', 'bfloat16'"),
        (["bench", "train", "--depth", "4"], "'--depth': .*3"),
        (["bench", "search", "--classes", "one"], "'--classes': .*integer"),
    ],
)
def test_a_wrong_value_is_refused_with_those_there_are(words: list[str], message: str) -> None:
    assert re.search(message, said(*words))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "^--settings is not JSON: "),
        ("[" * 100_000, "^--settings is not JSON: "),
        ("[]", "^--settings must be a JSON object with the keys of a SearchJob$"),
        (json.dumps(asdict(SEARCH) | {"stopp": 3}), r"^--settings \(SearchJob\): stopp: .*\(did you mean stop\?\)$"),
        (
            json.dumps(asdict(SEARCH) | {"stop": "3"}),
            r"^--settings \(SearchJob\): stop: must be .*integer \(got '3'\)$",
        ),
        (json.dumps({"recipe": asdict(made.RECIPE), "start": 0}), r"^--settings \(SearchJob\): stop: is missing$"),
        ('{"\\ud800": 1}', r"^--settings \(SearchJob\): invalid JSON"),
    ],
)
def test_settings_that_are_no_job_are_refused_by_key(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        from_json(jobs.SearchJob, text)
    assert "\n" not in str(caught.value)


_ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)


def _places(node: Any) -> list[tuple[dict[str, Any], str]]:
    here = [(node, key) for key in node] if isinstance(node, dict) else []
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return here + [place for child in inner for place in _places(child)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(JOBS), st.data())
def test_any_settings_are_a_job_or_refused(job: Job, data: st.DataObject) -> None:
    """A key that is renamed, removed or of another value."""
    plain = json.loads(to_json(job))
    place, key = data.draw(st.sampled_from(_places(plain)))
    match data.draw(st.sampled_from(["rename", "remove", "change"])):
        case "rename":
            place[data.draw(st.text(max_size=5))] = place.pop(key)
        case "remove":
            del place[key]
        case "change":
            place[key] = data.draw(_ODD)
    try:
        assert to_json(from_json(type(job), json.dumps(plain)))
    except UserError as error:
        assert str(error).startswith("--settings")


def test_lines_on_the_terminal_begin_with_their_job(tmp_path: Path) -> None:
    log = tmp_path / "logs/network/100%.log"
    code = f"""
import logging
from pathlib import Path
from repsearch.cli.common import start
start(Path({str(log)!r}))
logging.info("50 %% %s", "done")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert re.fullmatch(r"\d\d:\d\d:\d\d network/100%: 50 % done\n", run.stderr)
    assert log.read_text().endswith(" 50 % done\n") and "network" not in log.read_text()
