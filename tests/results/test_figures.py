import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from repsearch.errors import UserError
from repsearch.results import figures, reproduction, style
from tests.results.made_up import diversity_probe, figure_inputs, figure_job, fitness_probe, run, traced


def build(name, inputs, **changes):
    return figures.find(name).build(figure_job(name, **changes), inputs)


def made(name, folder):
    return build(name, figure_inputs(name, folder))


def test_fitness(tmp_path):
    frame = made("figure2", tmp_path).set_index(["panel", "block", "x"])
    assert len(frame) == 2 * 3 * 3
    assert frame.loc[("population", "block1", 20), "mean"] == pytest.approx(1 + 1 / 8 + 10 / 20)
    assert frame.loc[("generations", "block2", 2), "mean"] == pytest.approx(2 + 1 / 2 + 10 / 40)
    assert set(frame["n"]) == {40}
    assert frame.loc[("population", "block0", 10), "recipe_digest"] == "000000000010"


def test_fitness_refuses_what_the_probes_lack(tmp_path):
    probes = figure_inputs("figure2", tmp_path)
    with pytest.raises(UserError, match="block0 with population 80 at generation 8"):
        build("figure2", probes, populations=[80])
    with pytest.raises(UserError, match="block0 with population 40 at generation 9"):
        build("figure2", probes, generations=[9])
    with pytest.raises(UserError, match="two probes of the same block"):
        build("figure2", [*probes, fitness_probe(tmp_path, 0, 10, last=4)])
    with pytest.raises(UserError, match="end at different generations"):
        build("figure2", [*probes, fitness_probe(tmp_path, 0, 80, last=4)])


def test_diversity(tmp_path):
    frame = made("figure3", tmp_path)
    assert len(frame) == 3 * 10 * 5
    curve = figures.find("figure3").curves(frame).set_index(["block", "runs"])
    assert curve.loc[("block1", 4)].tolist() == pytest.approx([1.5, 0.05 * np.sqrt(10 / 9), 10])  # of two that count
    with pytest.raises(UserError, match="one probe, not 0"):
        build("figure3", [])


def test_scaling_counts_the_base_in_both_panels(tmp_path):
    frame = made("figure4", tmp_path)
    assert frame[["panel", "x", "n"]].to_numpy().tolist() == [
        ["population", 60, 2],
        ["population", 240, 2],
        ["generations", 30, 2],
        ["generations", 300, 2],
    ]
    assert frame["mean"].tolist() == pytest.approx([36.05, 54.05, 27.05, 54.05])
    assert frame["std"].tolist() == pytest.approx([0.1 / np.sqrt(2)] * 4)


def test_scaling_refuses_other_recipes(tmp_path):
    with pytest.raises(UserError, match="used recipe small, which is not tiny"):
        build("figure4", [run(tmp_path)], recipe="tiny")
    with pytest.raises(UserError, match="which is not sma"):
        build("figure4", [run(tmp_path)], recipe="sma")
    with pytest.raises(UserError, match="one data set"):
        build("figure4", [run(tmp_path), run(tmp_path, dataset="mine")])


@pytest.mark.parametrize(("name", "rows"), [("figure5", 2 * 3 * 4), ("figure6", 2 * 2 * 4), ("figure7", 2 * 2 * 2 * 4)])
def test_trajectories(tmp_path, name, rows):
    frame = made(name, tmp_path)
    assert len(frame) == rows * 2  # seeds
    assert set(frame["series"]) == {"sgd", "search-all"}
    last = frame.query("epoch == 4 and series == 'sgd' and seed == 1").set_index(["block", "kind"])["value"]
    if name == "figure5":
        assert last["block0", ""] == pytest.approx(0.4 + 1)  # its offset
    if name == "figure6":
        assert last["block0", "within-class"] == pytest.approx(3 + 0.4 + 1)
        assert last["block0", "between-class"] == pytest.approx(5 + 0.4 + 1)


def test_trajectories_of_several_searches(tmp_path):
    runs = [
        traced(tmp_path, variant=v, search=s, seed=t) for v in ("sgd", "search-all") for s in (0, 1) for t in (0, 1, 2)
    ]
    frame = build("figure5", runs)
    assert set(frame["recipe"]) == {"small"} and set(frame["search"]) == {0, 1}
    caption = figures.find("figure5").caption(frame)
    assert "n = 2 searches × 3 training seeds." in caption and "small 111111111111+222222222222" in caption
    (line, *_) = figures.find("figure5").draw(frame).axes[0].lines
    assert line.get_ydata() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    with pytest.raises(UserError, match="targets of the same searches"):
        build("figure5", runs[3:])


def test_trajectories_refuse(tmp_path):
    with pytest.raises(UserError, match=r"epochs\.csv is missing"):
        build("figure5", [run(tmp_path, seed=7)])
    bare = traced(tmp_path, seed=8)
    pd.DataFrame({"epoch": [1], "train_loss": [1.0]}).to_csv(bare.parent / "epochs.csv", index=False)
    with pytest.raises(UserError, match="has no column cosine_distance_block0"):
        build("figure5", [bare])
    with pytest.raises(UserError, match="at one depth"):
        build("figure6", [traced(tmp_path, depth=1), traced(tmp_path, depth=2)])
    other = traced(tmp_path, variant="sgd", recipe="other", recipe_digest="other")
    with pytest.raises(UserError, match="same searches of one recipe"):
        build("figure5", [traced(tmp_path, depth=4), other])
    with pytest.raises(UserError, match="differ in code_version"):
        build("figure5", [traced(tmp_path, depth=5), traced(tmp_path, depth=5, seed=1, code_version="x")])


def test_unknown_figure(tmp_path):
    for name in ("figure1", "figures", "../runs", "os"):
        with pytest.raises(UserError, match=f"no figure '{name}': choose curves, cycles, ensembles, figure2, figure3"):
            figures.make(figure_job(name), [], tmp_path / "a.csv")


def test_an_altered_input_is_not_shown(tmp_path):
    (probe,) = figure_inputs("figure3", tmp_path)
    probe.write_text(probe.read_text().replace("0.5", "0.1"))
    with pytest.raises(UserError, match=r"diversity\.csv is missing or not what"):
        figures.make(figure_job("figure3"), [probe], tmp_path / "figure3.csv")
    assert not (tmp_path / "figure3.csv").exists()


FIGURE = """
import pandas as pd

from repsearch.results import style
from repsearch.results.runs import COUNTS, RUN_FACTS, counts, percent, points, read

COLUMNS = ["mean", "std", *COUNTS, *RUN_FACTS]


def build(job, inputs):
    rows = [
        {**percent(runs, "test_accuracy"), **counts(runs), **runs.iloc[0][RUN_FACTS]}
        for runs in points(read(inputs, job.datasets))
    ]
    return pd.DataFrame(rows)[COLUMNS]


def draw(frame):
    figure, axes = style.panels(1, 1, 3, 3)
    style.line(axes[0], frame, "depth", style.LOOKS[0], "test")
    return style.legend(figure, axes)


def caption(frame):
    return style.caption(f"**By depth** on {frame['label'].iloc[0]}.", frame)
"""


def test_a_figure_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/by_depth.py").write_text(FIGURE)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path / "figures")])
    monkeypatch.delitem(sys.modules, "repsearch.results.figures.by_depth", raising=False)
    out = tmp_path / "results/figures/by_depth.csv"
    figures.make(figure_job("by_depth"), [run(tmp_path, depth=depth) for depth in (1, 2)], out)
    assert out.read_text().startswith("mean,std,n,searches,seeds,variant,depth,")
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert (
        out.with_suffix(".md")
        .read_text()
        .startswith("**By depth** on Toy (made up). n = one training seed, one search. Conv")
    )
    assert reproduction.claims(out, figures.find("by_depth")) == []
    (tmp_path / "figures/empty.py").write_text("COLUMNS = []\n")
    with pytest.raises(UserError, match="figure empty has no build, draw, caption"):
        figures.make(figure_job("empty"), [], out)


NEFF = r"Effective number of solutions $N_\mathrm{eff}$"
BLOCKS = ["Block 0", "Block 1", "Block 2"]
SCALING = ["Scaling population size", "Scaling generations"]
BOTH = ["SGD", "Search-based (All layers)"]


@pytest.mark.parametrize(
    ("name", "x", "y", "titles", "legend"),
    [
        ("figure2", "Population size", "Cross-entropy (nats)", SCALING, BLOCKS),
        (
            *("figure3", "Independent runs", NEFF, [""]),
            [r"$N_\mathrm{eff}$ = runs", *(f"{block} (n = 10)" for block in BLOCKS)],
        ),
        (
            *("figure4", "Population size", "Validation accuracy (%)", SCALING),
            ["Search-based (All layers), 6 convolutions per block"],
        ),
        ("figure5", "Epoch", "Cosine distance to targets", BLOCKS, BOTH),
        ("figure6", "Epoch", "Collision entropy (nats)", ["Block 0, within class", "Block 0, between classes"], BOTH),
        (
            *("figure7", "", "Collision entropy (nats)"),
            [f"Block {block}, {kind}" for block in (1, 2) for kind in ("within class", "between classes")],
            BOTH,
        ),
    ],
)
def test_drawn_from_the_csv_alone(tmp_path, name, x, y, titles, legend):
    frame = made(name, tmp_path)
    csv, png, caption = (tmp_path / f"figure.{suffix}" for suffix in ("csv", "png", "md"))
    frame.to_csv(csv, index=False)
    figure = figures.find(name).draw(frame)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == (x, y)
    assert [ax.get_title() for ax in figure.axes] == titles
    assert [text.get_text() for text in figure.legends[0].get_texts()] == legend
    assert figure.legends[0].get_title().get_text() == "Toy (made up)"
    figures.redraw(name, csv)
    assert png.read_bytes().startswith(b"\x89PNG")
    text = caption.read_text(encoding="utf-8")
    images = {"figure2": "n = 40 images", "figure3": "n = 10 (images"}
    assert text.startswith(f"**Figure {name[-1]}.**")
    assert images.get(name, "n = 2 training seeds, one search.") in text
    assert ("222222222222" if name in images else "12e456789012") in text
    assert "standard deviation" in text or "standard error of the mean" in text


def test_redrawing_gives_the_same_bytes_in_every_format(tmp_path):
    """Text is embedded as TrueType in PDF, and text in SVG."""
    csv = tmp_path / "figure3.csv"
    made("figure3", tmp_path).to_csv(csv, index=False)
    pictures = [csv.with_suffix(f".{kind}") for kind in ("png", "pdf", "svg")]
    figures.redraw("figure3", csv)
    assert not any(picture.exists() for picture in pictures[1:])
    figures.redraw("figure3", csv, ["png", "pdf", "svg"])
    before = [picture.read_bytes() for picture in pictures]
    figures.redraw("figure3", csv, ["svg", "pdf"])
    assert [picture.read_bytes() for picture in pictures] == before
    _, pdf, svg = before
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf
    assert b">Independent runs</text>" in svg and b"dc:date" not in svg


def bands(ax):
    """(lowest, highest) of each band, in the order drawn."""
    return [(band.get_datalim(ax.transData).y0, band.get_datalim(ax.transData).y1) for band in ax.collections]


def test_figure_2_shows_the_standard_error(tmp_path):
    frame = made("figure2", tmp_path)
    block0 = frame[(frame["panel"] == "population") & (frame["block"] == "block0")]["mean"]
    error = 0.1 / np.sqrt(40)
    assert bands(figures.find("figure2").draw(frame).axes[0])[0] == pytest.approx(
        (block0.min() - error, block0.max() + error)
    )
    assert "± 1 standard error of the mean" in figures.find("figure2").caption(frame)


def test_figure_3_is_as_high_as_its_data_and_shows_the_standard_error(tmp_path):
    frame = build("figure3", [diversity_probe(tmp_path, runs=30)])
    frame["effective"] = 1 + (frame["image"] % 2) * frame["effective"] / 60  # far below one per run; of some 1
    ax = figures.find("figure3").draw(frame).axes[0]
    assert 0.9 < ax.get_ylim()[0] < 1 and ax.get_ylim()[1] < 2
    of_runs = frame[frame["block"] == "block0"].groupby("runs")["effective"]
    mean, error = of_runs.mean(), of_runs.std() / np.sqrt(of_runs.size())
    assert bands(ax)[0] == pytest.approx(((mean - error).min(), (mean + error).max()))


def test_figure_3_states_n_by_block(tmp_path):
    frame = made("figure3", tmp_path)
    late = (frame["block"] == "block1") & (frame["runs"] < frame["image"] - 101)  # of some the first runs don't count
    frame.loc[late, ["accepted", "effective"]] = [0, np.nan]
    text = figures.find("figure3").caption(frame)
    assert "n = 10 for block 0 and block 2, 3 to 7 for block 1 (images" in text
    assert "Block 1 (n = 3–7)" in [
        label.get_text() for label in figures.find("figure3").draw(frame).legends[0].get_texts()
    ]


def test_a_block_s_entropies_share_their_range(tmp_path):
    first, second, third, fourth = (
        ax.get_ylim() for ax in figures.find("figure7").draw(made("figure7", tmp_path)).axes
    )
    assert first == second and third == fourth and first != third


def test_captions_of_probes_name_their_recipes_and_the_data_set(tmp_path):
    text = figures.find("figure2").caption(made("figure2", tmp_path))
    assert "small with population 10 000000000010" in text and "on Toy (made up):" in text
    text = figures.find("figure3").caption(made("figure3", tmp_path))
    assert "small 111111111111" in text and "on Toy (made up):" in text
    with pytest.raises(UserError, match="'else' has no label: the job names toy"):
        build("figure3", [diversity_probe(tmp_path)], dataset="else")


@pytest.mark.parametrize("name", ["figure4", "figure5", "figure6", "figure7"])
def test_captions_state_data_and_scale(tmp_path, name):
    text = figures.find(name).caption(made(name, tmp_path))
    for words in ("Toy (made up)", "46,000 training images", "width 256", "4 epochs", "Convolutions per block: 6."):
        assert words in text


def test_compute_axes_are_logarithmic_with_plain_ticks_at_the_data(tmp_path):
    figure = figures.find("figure2").draw(made("figure2", tmp_path))
    figure.draw_without_rendering()
    for ax, ticks in zip(figure.axes, (["10", "20", "40"], ["1", "2", "8"]), strict=True):
        assert ax.get_xscale() == "log"
        assert [label.get_text() for label in ax.get_xticklabels()] == ticks


def test_no_band_for_one_run(tmp_path):
    frame = build("figure6", [traced(tmp_path)])
    assert "Bands" not in figures.find("figure6").caption(frame)
    figures.find("figure6").draw(frame).draw_without_rendering()


def test_generation_zero_can_be_drawn(tmp_path):
    frame = build("figure2", figure_inputs("figure2", tmp_path), generations=[0, 8])
    figures.find("figure2").draw(frame).draw_without_rendering()


def test_a_csv_without_its_columns(tmp_path):
    (tmp_path / "a.csv").write_text("panel,x\npopulation,1\n")
    with pytest.raises(UserError, match=r"a\.csv has no column mean"):
        figures.redraw("figure4", tmp_path / "a.csv")
    assert not (tmp_path / "a.png").exists()


def test_a_compute_axis_leaves_out_a_number_that_would_touch_the_next():
    figure = Figure(figsize=(3.3, 2.5))
    ax = figure.subplots()
    for values, labels in (
        ([400, 1600, 6400, 25600, 46000], ["400", "1600", "6400", "46000"]),
        ([400, 1600, 6400, 25600, 56000], ["400", "1600", "6400", "25600", "56000"]),
        ([0, 1, 2, 8], ["0", "1", "2", "8"]),
        ([20, 240, 250], ["20", "250"]),
    ):
        style.compute_axis(ax, pd.Series(values))
        assert [label.get_text() for label in ax.get_xticklabels()] == labels


@pytest.mark.parametrize(("width", "rows"), [(3.3, 4), (6.6, 2), (12.0, 1)])
def test_a_legend_has_as_many_entries_in_a_row_as_fit(width, rows):
    figure = Figure(figsize=(width, 3))
    ax = figure.subplots()
    for number in range(4):
        ax.plot([0, 1], label=f"Search-based (Skip block {number})")
    (legend,) = style.legend(figure, [ax]).legends
    assert legend.get_window_extent().width <= figure.bbox.width
    columns = legend._ncols
    assert -(-4 // columns) == rows


def test_curves_of_one_figure_look_different_and_the_paper_s_variants_look_as_ever():
    others = [f"own-{number}" for number in range(12)]
    looks = style.variant_looks(["search-skip0", *others, "sgd"])
    assert {name: looks[name] for name in ("search-skip0", "sgd")} == {
        name: style.VARIANT_LOOKS[name] for name in ("search-skip0", "sgd")
    }
    assert len({tuple(look.values()) for look in looks.values()}) == len(looks) == 14
    assert len({look["color"] for look in style.variant_looks(others[:6]).values()}) == 6
