"""Files written atomically, manifests, and what an unfinished job keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repsearch.errors import UserError
from repsearch.jobs import PrepareJob
from repsearch.stages import cache
from repsearch.storage import resume
from repsearch.storage.files import atomic, write_csv, write_rows
from repsearch.storage.manifest import verify, write_manifest
from repsearch.storage.provenance import BACKENDS

JOB, OTHER_JOB = PrepareJob("sklearn:digits", 1), PrepareJob("sklearn:digits", 2)


def test_csvs_hold_no_noise_of_float32(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [float(np.float32(0.15)), 123456789.0], "n": [10**9, 1]}))
    assert (tmp_path / "a.csv").read_text() == "x,n\n0.15,1000000000\n1.23457e+08,1\n"


@given(st.lists(st.fixed_dictionaries({"epoch": st.integers(0, 10**6), "loss": st.floats()}), min_size=1))
def test_rows_are_written_as_pandas_writes_them(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "rows.csv", rows)
    write_csv(folder / "frame.csv", pd.DataFrame(rows))
    assert (folder / "rows.csv").read_bytes() == (folder / "frame.csv").read_bytes()


def test_a_failed_writer_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("former")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "former" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write to .*file"), atomic(tmp_path / "file" / "x.json"):
        pass


def test_outputs_are_kept_only_while_key_and_content_agree(tmp_path: Path) -> None:
    out, manifest = tmp_path / "out.csv", tmp_path / "out.json"
    out.write_text("1")
    for backend in BACKENDS:
        write_manifest(manifest, cache.key(JOB, backend=backend), [out], {"n": 3})
        assert cache.up_to_date(JOB, out)
        assert not cache.up_to_date(OTHER_JOB, out)
    assert verify(manifest)["n"] == 3
    out.write_text("2")
    assert not cache.up_to_date(JOB, out)
    with pytest.raises(UserError, match=r"out\.csv is missing or not what .*out\.json says: delete both"):
        verify(manifest)


def test_what_resume_kept_is_deleted_once_the_output_is_up_to_date(tmp_path: Path) -> None:
    parts = resume.folder(tmp_path / "out.csv")
    resume.seal(parts / "0000.part", {}, b"content")
    write_manifest(tmp_path / "out.json", cache.key(JOB), [], {})
    assert not cache.up_to_date(OTHER_JOB, tmp_path / "out.csv") and parts.exists()
    assert cache.up_to_date(JOB, tmp_path / "out.csv") and not parts.exists()


def test_parts_behind_a_symbolic_link_are_not_this_jobs_to_delete(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "0001.part").write_text("another's")
    resume.folder(tmp_path / "out").symlink_to(tmp_path / "foreign")
    assert resume.Resume(tmp_path / "out", {}).state(torch.device("cpu")) is None
    assert (tmp_path / "foreign" / "0001.part").read_text() == "another's"
