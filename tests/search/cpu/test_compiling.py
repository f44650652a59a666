"""Where compiled functions are stored."""

from pathlib import Path

from repsearch.search.cpu import compiling


def test_compiled_functions_are_stored_by_the_state_of_all_their_sources(tmp_path: Path) -> None:
    first, second = tmp_path / "one.py", tmp_path / "other.py"
    first.write_text("a = 1")
    second.write_text("b = 1")
    folder = compiling.cache_folder([first, second])
    assert folder == compiling.cache_folder([first, second]) and folder.is_dir()
    second.write_text("b = 2")
    assert compiling.cache_folder([first, second]) != folder
    assert compiling.cache_folder([first, second], str(tmp_path / "aside")).parent == tmp_path / "aside"
