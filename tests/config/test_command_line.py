"""What is understood of Snakemake's command line, and which words of it are refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.cli import parse_config

from repsearch.config.command_line import check_configuration_files, check_made, check_targets, settings
from repsearch.config.load import merge
from repsearch.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ROOT / "workflow/presets"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text("abcxyz", min_size=1, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["training", "seeds", "table1", "device"]), VALUES, min_size=1))
def test_what_config_says_is_read_as_a_file_would_be(given: dict[str, Any]) -> None:
    words = [f"{key}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}" for key, value in given.items()]
    words = [word.removesuffix("\n").removesuffix("...").strip() for word in words]
    assert merge(parse_config(words), settings(words)) == given


def test_what_is_no_yaml_stays_text() -> None:
    assert settings(["training={epochs: 3", "results=results/mine", "seeds=2"]) == {}
    assert settings(["training={epochs: 3}", "training={batch: 20}"]) == {"training": {"epochs": 3, "batch": 20}}


@pytest.mark.parametrize(
    ("results", "word", "remedy"),
    [
        ("results", "results/demo/tables/table1.csv", "add --configfile .*workflow/presets/demo.yaml after it"),
        ("results", "results/mine/report.html", "after it, with the file that says results: results/mine"),
        ("results/demo", "results/tables/table1.csv", "leave out --configfile"),
        ("results/demo", "results/a/b/figures/figure2.png", "says results: results/a/b"),
        (
            "results/five",
            "results/fiv/tables/table1.csv",
            r"did you mean results/five\? If not, .* results: results/fiv",
        ),
        ("results/demos", "results/demo/report.html", "add --configfile .*workflow/presets/demo.yaml after it"),
    ],
)
def test_a_result_of_another_folder_is_refused_with_what_makes_it(results: str, word: str, remedy: str) -> None:
    with pytest.raises(UserError, match=rf"{word} can't be made by .* are in {results}: .*{remedy}$"):
        check_targets(["snakemake", "-n", word], results, PRESETS)


def test_a_result_of_a_given_file_that_a_later_one_overrides(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("results: results/mine")
    given = [str(ROOT / "config.yaml"), str(PRESETS / "demo.yaml"), str(mine)]
    with pytest.raises(UserError, match=rf": leave out {mine}, which says results: results/mine$"):
        check_targets(["results/demo/report.html"], "results/mine", PRESETS, given)


@pytest.mark.parametrize(
    ("results", "word"),
    [
        *[(results, f"{results}/tables/table1.csv") for results in ("results", "results/demo", "results/tables")],
        *[("results", word) for word in ("all", "--report", "results/demo/all.html", "results/demo.zip", "--cores=2")],
        ("results/demo", "results/demo/nonsense"),  # Snakemake says that no rule makes it
    ],
)
def test_other_words_of_the_command_line_are_snakemakes(results: str, word: str) -> None:
    check_targets([word], results, PRESETS)


def test_a_target_that_configfile_took_is_no_configuration() -> None:
    check_configuration_files(["config.yaml", "workflow/presets/demo.yaml", "results.yaml"])
    with pytest.raises(UserError, match=r"summary.json is not a configuration: --configfile takes .*before it$"):
        check_configuration_files(["config.yaml", "results/demo/runs/a/summary.json"])


MADE = [f"results/five/{name}" for name in ("report.html", "tables/table1.csv", "tables/table2.csv")]
MADE += [f"results/five/{folder}.{kind}" for folder in ("tables/table1", "figures/figure2") for kind in ("md", "png")]
MADE += ["results/five/runs/digits/plain/sgd/none/depth1/seed0/summary.json"]


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("results/five/tables/tabel1.csv", "did you mean results/five/tables/table1.csv?"),
        ("results/five/tabels/table2.csv", "did you mean results/five/tables/table2.csv?"),
        ("result/five/report.html", "did you mean results/five/report.html?"),
        ("results/five/figures/figur2.png", "did you mean results/five/figures/figure2.png?"),
        (MADE[-1].replace("sgd", "sdg"), f"did you mean {MADE[-1]}?"),
        ("results/five/figures/figure2.pdf", "add pdf to formats"),
        ("results/five/figures/figure2.svg", "add svg to formats"),
        ("results/five/tables/table1.tex", "add latex to formats"),
        ("results/five/tables/table1.pdf", "did you mean results/five/tables/table1.md?"),
    ],
)
def test_a_target_like_a_result_is_refused_with_what_was_meant(target: str, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        check_made(target, MADE)
    assert str(caught.value) == f"{target} can't be made by this configuration: {remedy}"


@pytest.mark.parametrize(
    ("target", "file"),
    [("table1", "tables/table1.csv"), ("figure2", "figures/figure2.md"), ("report", "report.html")]
    + [
        (path, path)
        for path in ("tables/table1.png", "report.html", "runs/digits/plain/sgd/none/depth1/seed0/summary.json")
    ],
)
def test_a_result_without_its_folders_is_answered_with_its_file(target: str, file: str) -> None:
    with pytest.raises(UserError) as caught:
        check_made(target, MADE)
    assert str(caught.value) == f"{target} can't be made by this configuration: give its file, results/five/{file}"


@pytest.mark.parametrize(
    "target", ["results/five/tables/table3.csv", "results/five/figures/figure10.png", "alll", "x.pdf"]
)
def test_a_target_like_no_result_is_left_to_snakemake(target: str) -> None:
    check_made(target, MADE)
