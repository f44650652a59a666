from tests.results import golden


def test_results_are_those_kept(tmp_path):
    golden.make(tmp_path / "toy", tmp_path / "inputs")
    made, kept = golden.texts(tmp_path / "toy"), golden.texts(golden.GOLDEN)
    assert sorted(made) == sorted(kept)
    for file, content in made.items():
        assert content.decode() == kept[file].decode(), f"{file}: see tests/results/golden.py"
    assert len(list((tmp_path / "toy").rglob("*.png"))) == 9
