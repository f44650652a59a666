import numpy as np
import pandas as pd
import pytest

from repsearch.errors import UserError
from repsearch.results import figures, plots
from tests.results.made_up import diversity_probe, fitness_probe, run, traced


def probes(folder):
    return [fitness_probe(folder, block, population) for block in range(3) for population in (10, 20, 40)]


def sweep(folder):
    sizes = {"small": (240, 300), "small-population-60": (60, 300), "small-generations-30": (240, 30)}
    return [
        run(folder, recipe=name, population=p, generations=g, seed=s, validation_accuracy=(p + g + s) / 1000)
        for name, (p, g) in sizes.items()
        for s in (0, 1)
    ]


def trajectory_runs(folder):
    return [traced(folder, offset=s, variant=v, seed=s) for v in ("sgd", "search-all") for s in (0, 1)]


def inputs(number, folder):
    if number == 2:
        return probes(folder), {"populations": [10, 20, 40], "generations": [1, 2, 8], "base_population": 40}
    if number == 3:
        return [diversity_probe(folder)], {}
    return (sweep(folder), {"base": "small"}) if number == 4 else (trajectory_runs(folder), {})


def made(number, folder):
    paths, settings = inputs(number, folder)
    return figures.build(number, paths, **settings)


def test_fitness(tmp_path):
    frame = made(2, tmp_path).set_index(["panel", "block", "x"])
    assert len(frame) == 2 * 3 * 3
    assert frame.loc[("population", "block1", 20), "mean"] == pytest.approx(1 + 1 / 8 + 10 / 20)
    assert frame.loc[("generations", "block2", 2), "mean"] == pytest.approx(2 + 1 / 2 + 10 / 40)
    assert set(frame["n"]) == {40}
    assert frame.loc[("population", "block0", 10), "recipe_digest"] == "000000000010"


def test_fitness_refuses_what_the_probes_lack(tmp_path):
    paths, settings = inputs(2, tmp_path)
    with pytest.raises(UserError, match="block0 with population 80 at generation 8"):
        figures.fitness(paths, **{**settings, "populations": [80]})
    with pytest.raises(UserError, match="block0 with population 40 at generation 9"):
        figures.fitness(paths, **{**settings, "generations": [9]})
    with pytest.raises(UserError, match="two probes of the same block"):
        figures.fitness([*paths, fitness_probe(tmp_path, 0, 10, last=4)], **settings)
    with pytest.raises(UserError, match="end at different generations"):
        figures.fitness([*paths, fitness_probe(tmp_path, 0, 80, last=4)], **settings)


def test_diversity(tmp_path):
    frame = made(3, tmp_path)
    assert len(frame) == 15
    assert frame.query("block == 'block1' and runs == 4")["mean"].item() == 2
    with pytest.raises(UserError, match="one probe, not 0"):
        figures.diversity([])


def test_scaling_counts_the_base_in_both_panels(tmp_path):
    frame = made(4, tmp_path)
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
        figures.scaling([run(tmp_path)], "tiny")
    with pytest.raises(UserError, match="which is not sma"):
        figures.scaling([run(tmp_path)], "sma")
    with pytest.raises(UserError, match="one data set"):
        figures.scaling([run(tmp_path), run(tmp_path, dataset="other")], "small")


@pytest.mark.parametrize(("number", "rows"), [(5, 2 * 3 * 4), (6, 2 * 2 * 4), (7, 2 * 2 * 2 * 4)])
def test_trajectories(tmp_path, number, rows):
    frame = made(number, tmp_path)
    assert len(frame) == rows
    assert set(frame["n"]) == {2}
    assert set(frame["series"]) == {"sgd", "search-all"}
    last = frame.query("block == 'block0' and epoch == 4 and series == 'sgd'").set_index("kind")
    if number == 5:
        assert last.loc["", "mean"] == pytest.approx(0.4 + 0.5)  # offsets 0 and 1
        assert last.loc["", "std"] == pytest.approx(np.sqrt(0.5))
    if number == 6:
        assert last.loc["within-class", "mean"] == pytest.approx(3 + 0.4 + 0.5)
        assert last.loc["between-class", "mean"] == pytest.approx(5 + 0.4 + 0.5)


def test_trajectories_refuse(tmp_path):
    with pytest.raises(UserError, match=r"epochs\.csv is missing"):
        figures.build(5, [run(tmp_path, seed=7)])
    bare = traced(tmp_path, seed=8)
    pd.DataFrame({"epoch": [1], "train_loss": [1.0]}).to_csv(bare.parent / "epochs.csv", index=False)
    with pytest.raises(UserError, match="has no column cosine_distance_block0"):
        figures.build(5, [bare])
    with pytest.raises(UserError, match="at one depth"):
        figures.build(6, [traced(tmp_path, depth=1), traced(tmp_path, depth=2)])
    other = traced(tmp_path, variant="sgd", recipe="other", recipe_digest="other")
    with pytest.raises(UserError, match="targets of one recipe"):
        figures.build(5, [traced(tmp_path, depth=4), other])
    with pytest.raises(UserError, match="differ in code_version"):
        figures.build(5, [traced(tmp_path, depth=5), traced(tmp_path, depth=5, seed=1, code_version="x")])


def test_unknown_figure(tmp_path):
    with pytest.raises(UserError, match="no figure 1"):
        figures.build(1, [])
    with pytest.raises(UserError, match="no figure 8"):
        figures.draw(8, tmp_path / "a.csv", tmp_path / "a.png", tmp_path / "a.md")


NEFF = r"Effective number of solutions $N_\mathrm{eff}$"
BLOCKS = ["Block 0", "Block 1", "Block 2"]
BOTH = ["SGD", "Search-based (All layers)"]


@pytest.mark.parametrize(
    ("number", "x", "y", "titles", "legend"),
    [
        (2, "Population size", "Cross-entropy (nats)", ["Scaling population size", "Scaling generations"], BLOCKS),
        (3, "Independent runs", NEFF, [""], [r"$N_\mathrm{eff}$ = runs", *(f"{block} (n = 10)" for block in BLOCKS)]),
        (
            *(4, "Population size", "Validation accuracy (%)", ["Scaling population size", "Scaling generations"]),
            ["Search-based (All layers), 6 convolutions a block"],
        ),
        (5, "Epoch", "Cosine distance to targets", BLOCKS, BOTH),
        (6, "Epoch", "Collision entropy (nats)", ["Block 0, within class", "Block 0, between classes"], BOTH),
        (
            *(7, "", "Collision entropy (nats)"),
            [f"Block {block}, {kind}" for block in (1, 2) for kind in ("within class", "between classes")],
            BOTH,
        ),
    ],
)
def test_drawn_from_the_csv_alone(tmp_path, number, x, y, titles, legend):
    frame = made(number, tmp_path)
    csv, png, caption = (tmp_path / f"figure.{suffix}" for suffix in ("csv", "png", "md"))
    frame.to_csv(csv, index=False)
    figure = plots.plot(number, frame)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == (x, y)
    assert [ax.get_title() for ax in figure.axes] == titles
    assert [text.get_text() for text in figure.legends[0].get_texts()] == legend
    figures.draw(number, csv, png, caption)
    assert png.read_bytes().startswith(b"\x89PNG")
    text = caption.read_text(encoding="utf-8")
    images = {2: "n = 40 images", 3: "n = 10 (images"}
    assert text.startswith(f"**Figure {number}.**")
    assert images.get(number, "n = 2 runs") in text
    assert ("222222222222" if number < 4 else "12e456789012") in text
    assert "standard deviation" in text


def bands(ax):
    """(lowest, highest) of each band, in the order drawn."""
    return [(band.get_datalim(ax.transData).y0, band.get_datalim(ax.transData).y1) for band in ax.collections]


def test_figure_2_shows_the_standard_error(tmp_path):
    frame = made(2, tmp_path)
    block0 = frame[(frame["panel"] == "population") & (frame["block"] == "block0")]["mean"]
    error = 0.1 / np.sqrt(40)
    assert bands(plots.plot(2, frame).axes[0])[0] == pytest.approx((block0.min() - error, block0.max() + error))
    assert "± 1 standard error of the mean" in figures.describe(2, frame)


def test_figure_3_is_as_high_as_its_data_and_its_bands_stay_above_1(tmp_path):
    frame = figures.build(3, [diversity_probe(tmp_path, runs=30)])
    frame["mean"] = 1 + frame["mean"] / 60  # far below one a run
    ax = plots.plot(3, frame).axes[0]
    assert 0.9 < ax.get_ylim()[0] < 1 and ax.get_ylim()[1] < 2
    assert min(low for low, _ in bands(ax)) == 1


def test_figure_3_states_n_by_block(tmp_path):
    frame = made(3, tmp_path)
    frame.loc[frame["block"] == "block1", "n"] = [3, 4, 4, 5, 7]
    text = figures.describe(3, frame)
    assert "n = 10 for block 0 and block 2, 3 to 7 for block 1 (images" in text
    assert "Block 1 (n = 3–7)" in [label.get_text() for label in plots.plot(3, frame).legends[0].get_texts()]


def test_a_block_s_entropies_share_their_range(tmp_path):
    first, second, third, fourth = (ax.get_ylim() for ax in plots.plot(7, made(7, tmp_path)).axes)
    assert first == second and third == fourth and first != third


def test_probes_captions_name_their_recipes(tmp_path):
    paths, settings = inputs(2, tmp_path)
    text = figures.describe(2, figures.fitness(paths, **settings, recipe="small"))
    assert "small with population 10 000000000010" in text
    assert "small 111111111111" in figures.describe(3, figures.diversity([diversity_probe(tmp_path)], recipe="small"))


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_captions_state_data_and_scale(tmp_path, number):
    text = figures.describe(number, made(number, tmp_path))
    for words in ("Toy (made up)", "46,000 training images", "width 256", "4 epochs", "Convolutions a block: 6."):
        assert words in text


def test_probes_take_a_label(tmp_path):
    paths, settings = inputs(2, tmp_path)
    assert "on Toy:" in figures.describe(2, figures.fitness(paths, **settings, label="Toy"))
    assert " on " not in figures.describe(3, made(3, tmp_path)).split(":")[0]


def test_compute_axes_are_logarithmic_with_plain_ticks_at_the_data(tmp_path):
    figure = plots.plot(2, made(2, tmp_path))
    figure.draw_without_rendering()
    for ax, ticks in zip(figure.axes, (["10", "20", "40"], ["1", "2", "8"]), strict=True):
        assert ax.get_xscale() == "log"
        assert [label.get_text() for label in ax.get_xticklabels()] == ticks


def test_no_band_for_one_run(tmp_path):
    frame = figures.build(6, [traced(tmp_path)])
    assert frame["std"].isna().all()
    assert "Bands" not in figures.describe(6, frame)
    plots.plot(6, frame).draw_without_rendering()


def test_generation_zero_can_be_drawn(tmp_path):
    paths, settings = inputs(2, tmp_path)
    plots.plot(2, figures.fitness(paths, **{**settings, "generations": [0, 8]})).draw_without_rendering()


def test_a_csv_without_its_columns(tmp_path):
    (tmp_path / "a.csv").write_text("panel,x\npopulation,1\n")
    with pytest.raises(UserError, match=r"a\.csv has no column mean"):
        figures.draw(4, tmp_path / "a.csv", tmp_path / "a.png", tmp_path / "a.md")
    assert not (tmp_path / "a.png").exists()
