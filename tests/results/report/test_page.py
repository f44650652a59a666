"""The report: everything in order, nothing loaded, nothing of a label taken for HTML."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from repsearch.errors import UserError
from repsearch.results.report import page
from tests.results.report.conftest import JOB

VOID = {"meta", "link", "br", "img"}


class Reader(HTMLParser):
    """Tags that were opened and not closed; addresses; ids; text outside and inside <details>."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.seen, self.folded = "", ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.addresses += [str(values[name]) for name in ("src", "href") if name in values]
        self.ids += [str(values["id"])] if "id" in values else []
        self.images += [values] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "details" in self.open and "summary" not in self.open:
            self.folded += data
        elif "style" not in self.open:
            self.seen += data


def read(html: Path) -> Reader:
    reader = Reader()
    reader.feed(html.read_text(encoding="utf-8"))
    assert not reader.open
    return reader


def test_the_page_is_one_file_that_loads_nothing(results: Path) -> None:
    html, reader = (results / "report.html").read_text(encoding="utf-8"), read(results / "report.html")
    assert len(html) < 10_000_000 and "<script" not in html and "@import" not in html and "url(" not in html
    others = [address for address in reader.addresses if not address.startswith(("data:", "#"))]
    assert [address for address in others if ":" in address] == [page.PAPER]  # a link, which loads nothing
    made_here = [address for address in others if address.endswith(".csv")]
    assert made_here and all(
        (results / address).exists() or "gallery" in address or "curves" in address for address in made_here
    )
    assert all(anchor[1:] in reader.ids for anchor in reader.addresses if anchor.startswith("#"))
    assert len(reader.ids) == len(set(reader.ids))
    assert [bool(image["alt"]) and bool(image["width"]) for image in reader.images] == [True] * 4


def test_the_parts_are_in_order_and_details_are_folded_away(results: Path) -> None:
    reader = read(results / "report.html")
    order = ["Table 1.", "Claim", "Figure 2.", "Figure 3.", "Gallery.", "Curves.", "Search a shard", "Made with"]
    places = [reader.seen.index(text) for text in order]
    assert places == sorted(places)
    assert "the toy scale" in reader.seen and "width 4 <narrow>" in reader.seen
    assert "Data set set0 <b>" in reader.seen  # as text
    for hidden in (
        "Code version: ",
        "Welch's t-test",
        "snakemake results/toy/figures/figure2.csv --configfile toy.yaml",
    ):
        assert hidden in reader.folded and hidden not in reader.seen
    assert "Recipe digest" not in reader.seen.replace("Recipe digests and code versions", "")
    assert "(sees: " in reader.folded and "sees" not in reader.seen.lower()  # explained where the word stands
    assert "Made up." in reader.seen and "And more." in reader.folded


def test_a_scale_that_is_too_small_says_so_in_one_sentence(results: Path) -> None:
    reader = read(results / "report.html")
    assert re.search(r"This scale is too small to decide \d+ of the \d+ claims", reader.seen)
    visible, folded = (text.count("undecided") for text in (reader.seen, reader.folded))
    assert folded > 0 and visible == 2  # in the tally, and in the line that unfolds them


def test_the_jobs_are_added_up(results: Path) -> None:
    text = re.sub(r"\s+", " ", read(results / "report.html").seen)
    assert not re.search(r"\b1 (claims hold|do not hold|jobs ran)", text)
    assert "Search a shard" in text and "2 h 01 min" in text and "1.5 GB" in text
    assert "1 training run on cpu, bfloat16, torch 2" in text


def test_results_at_the_papers_scale(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    page.make(replace(JOB, name="paper", full=True), [], folder / "report.html")
    seen = read(folder / "report.html").seen
    assert "the scale of config.yaml" in seen and "the paper’s scale" in seen and "too small" not in seen
    assert "These results do not decide" in seen


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("figures/figure2.md", None, r"figure2\.md can't be read"),
        ("figures/figure2.png", b"GIF89a", r"figure2\.png is not a PNG"),
        ("tables/table1.md", b"| a |\n| --- |\n| b |", r"table1\.md has no caption"),
    ],
)
def test_what_cannot_be_read_is_named(
    results: Path, tmp_path: Path, file: str, content: bytes | None, said: str
) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(results, folder)
    (folder / "report.html").unlink()
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    files = [folder / "tables/table1.md", folder / "figures/figure2.png"]
    with pytest.raises(UserError, match=said):
        page.make(JOB, files, folder / "report.html")
    assert not (folder / "report.html").exists()
