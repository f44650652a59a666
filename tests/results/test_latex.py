import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repsearch.jobs import ReadingsJob
from repsearch.results import latex, readings, tables
from repsearch.results.runs import read_csv
from tests.results import made_up
from tests.results.made_up import DATASETS, read, run

DOCUMENT = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\end{document}\n"


def written(tmp_path):
    """Table 1 of two data sets, one of which is the paper's."""
    runs = [run(tmp_path, dataset=dataset, seed=seed) for dataset in ("mnist", "mine") for seed in (0, 1)]
    tables.best(tables.all_tried(1, read(runs))).to_csv(tmp_path / "table1.csv", index=False)
    tables.redraw(1, tmp_path / "table1.csv", ["latex"])
    return (tmp_path / "table1.tex").read_text(encoding="utf-8")


def study(tmp_path):
    runs, targets = made_up.study(tmp_path)
    readings.make(ReadingsJob(DATASETS), [*runs, *targets], tmp_path / "readings.csv", ["latex"])
    return read_csv(tmp_path / "readings.csv", readings.COLUMNS)


def test_signs_of_latex_are_escaped():
    assert latex.escaped("5 % of A&B_c, 1.2 ± 0.3, -0.5 to 2e-3, a-1 → {~}\\") == (
        r"5 \% of A\&B\_c, 1.2 $\pm$ 0.3, $-$0.5 to 2e-3, a-1 $\rightarrow$ \{\textasciitilde{}\}\textbackslash{}"
    )


@given(st.text(alphabet="ab 1-.&%$#_{}~^\\<>[]±×"))
def test_no_text_is_a_command(text):
    """What is left when the commands that `escaped` may write are taken out has no meaning in LaTeX."""
    commands = r"\\textbackslash\{\}|\\textascii(tilde|circum)\{\}|\$(\\pm|\\times|[<>-])\$|\\[&%$#_{}]"
    assert not set(re.sub(commands, "", latex.escaped(text))) & set("&%$#_{}~^\\<>±×")


def test_a_table_has_booktabs_rules_and_as_many_cells_as_columns(tmp_path):
    text = written(tmp_path)
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    body = re.search(r"\\toprule\n(.*)\\\\\n\\midrule\n(.*)\\\\\n\\bottomrule", text, re.DOTALL)
    rows = [body[1], *body[2].split("\\\\\n")]
    assert columns == "lcc" and [row.count(" & ") for row in rows] == [2, 2]
    assert r"\shortstack{{50.0 $\pm$ 0.0 (n = 2)}\\{[99.0 $\pm$ 0.1]}}" in rows[1]
    assert r"\caption{Test accuracies (\%) without data augmentation.}" in text and r"\label{tab:table1}" in text
    assert not (tmp_path / "table1.pdf").exists()


def test_the_study_of_readings_is_a_table_per_data_set(tmp_path):
    frame = study(tmp_path)
    texts = list(readings.to_latex(frame))
    assert (tmp_path / "readings.tex").read_text(encoding="utf-8") == latex.HEAD + "\n".join(texts)
    assert len(texts) == frame["label"].nunique()
    for text in texts:
        (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
        rows = re.search(r"\\toprule\n(.*)\\bottomrule", text, re.DOTALL)[1].replace("\\midrule\n", "").splitlines()
        assert {row.count(" & ") for row in rows} == {len(columns) - 1} and columns.startswith("llc")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX")
def test_latex_sets_it(tmp_path):
    (tmp_path / "a.tex").write_text(DOCUMENT % (written(tmp_path) + "".join(readings.to_latex(study(tmp_path)))))
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)  # fonts are made first
    assert done.returncode == 0 and (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF"), done.stdout[-2000:]
