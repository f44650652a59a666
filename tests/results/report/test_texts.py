"""Captions and tables come out of the Markdown as they went in."""

from hypothesis import given
from hypothesis import strategies as st

from repsearch.results import phrases
from repsearch.results.report import texts
from repsearch.results.report.resources import duration, memory

WORDS = st.text(st.characters(exclude_characters="|*`\n\r<", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(st.lists(WORDS, min_size=1, max_size=4).flatmap(lambda header: st.tuples(
    st.just(header), st.lists(st.lists(WORDS, min_size=len(header), max_size=len(header)), max_size=4)
)))  # fmt: skip
def test_a_table_has_the_cells_it_was_made_of(table: tuple[list[str], list[list[str]]]) -> None:
    header, rows = table
    (found,) = texts.blocks(phrases.markdown(header, rows, left=1))
    assert isinstance(found, texts.Table)
    assert [cell.unescape() for cell in found.header] == header
    assert [[cell.unescape() for cell in row] for row in found.rows] == rows


@given(st.text(st.characters(exclude_characters="*`")))
def test_text_stays_text(text: str) -> None:
    assert "<" not in texts.inline(text).replace("<br>", "")


def test_a_caption_in_parts() -> None:
    provenance = "Recipe digest: demo 07b5. Code version: 3a39."
    found = texts.caption(f"**Figure 2.** N_eff of 1.5 < 2 on **A**. More `x`. Even more. {provenance}")
    assert found == texts.Caption("Figure 2", found.first, found.rest, provenance)
    assert found.first == "N_eff of 1.5 &lt; 2 on <strong>A</strong>."
    assert found.rest == "More <code>x</code>. Even more."
    assert texts.caption("Nothing but this") == texts.Caption(
        "", found.first[:0] + "Nothing but this", found.first[:0], ""
    )


def test_numbers_are_as_people_say_them() -> None:
    said = [duration(seconds) for seconds in (0.2, 12.4, 59.7, 200, 3600 * 4 + 300, 3600 * 5000)]
    assert said == ["< 1 s", "12 s", "60 s", "3 min 20 s", "4 h 05 min", "5,000 h 00 min"]
    assert [memory(size) for size in (90.4, 1500)] == ["90 MB", "1.5 GB"]
