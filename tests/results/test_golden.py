from tests.golden import results_folder as golden


def test_results_are_those_kept(tmp_path):
    golden.make(tmp_path / "toy", tmp_path / "inputs")
    made, kept = golden.texts(tmp_path / "toy"), golden.texts(golden.FOLDER)
    assert sorted(made) == sorted(kept)
    for file, content in made.items():
        assert content.decode() == kept[file].decode(), f"{file}: if it is meant, python -m tests.golden"
    assert len(list((tmp_path / "toy").rglob("*.png"))) == 9
