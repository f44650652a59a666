import pytest

from repsearch.errors import UserError
from repsearch.results import report


def files(folder):
    results = folder / "results" / "demo"
    for name in ("tables", "figures"):
        (results / name).mkdir(parents=True)
    table, png, caption = (results / n for n in ("tables/table1.md", "figures/figure2.png", "figures/figure2.md"))
    table.write_text("**Table 1.** Made up.\n\n| a |\n| --- |\n")
    caption.write_text("**Figure 2.** Made up.\n")
    return results, table, png, caption


def test_one_page(tmp_path):
    results, table, png, caption = files(tmp_path)
    report.make([png, caption, table, results / "tables/table1.csv"], results / "report.md")
    page = (results / "report.md").read_text()
    assert page.startswith("# Results: demo scale\n")
    assert "[table1.csv](tables/table1.csv)" in page
    assert page.index("![figure2](figures/figure2.png)") < page.index("**Figure 2.** Made up.")


def test_a_missing_caption(tmp_path):
    results, table, png, caption = files(tmp_path)
    caption.unlink()
    with pytest.raises(UserError, match=r"figure2\.md can't be read"):
        report.make([table, png], results / "report.md")
    assert not (results / "report.md").exists()
