"""Mutated npz files of users: each is read rightly or refused by its name; nothing is unpickled or unpacked blindly."""

import io
import os
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repsearch.data import sources
from repsearch.data.sources import Raw
from tests.faults.judge import CANARY, judge, mutated

pytestmark = pytest.mark.fault
COUNTS = [150, pytest.param(2500, marks=pytest.mark.slow)]


class Touch:
    """Unpickled, it makes the canary."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def arrays() -> dict[str, Any]:
    random = np.random.default_rng(0)
    made: dict[str, Any] = {"classes": np.array(["a", "b", "c"])}
    for part, count in (("train", 12), ("test", 6)):
        made[f"x_{part}"] = random.integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
        made[f"y_{part}"] = np.arange(count) % 3
    return made


def npy(array: Any) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array(held, np.asarray(array), allow_pickle=True)
    return held.getvalue()


def headed(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An npy file with just this header."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header) + 1)
    return b"\x93NUMPY" + bytes(version) + size + header.encode() + b"\n" + data


EVIL = [
    *(np.array([Touch()] * 12), np.array(Touch()), np.zeros(12, [("a", "O"), ("b", "u1")]), np.zeros(12, "M8[s]")),
    *(np.zeros(0), np.zeros(()), np.zeros(12), np.full(12, np.nan), np.zeros(12, complex), np.zeros(12, bool)),
    *(np.full(12, -1), np.full(12, 10**9), np.full(12, 2**63, np.uint64), np.zeros(12, ">i2"), np.zeros((12, 1), int)),
    *(np.zeros((12, 9, 9), np.uint8), np.zeros((12, 9, 8, 3), np.uint8), np.zeros((12, 3, 9, 9), np.uint8)),
    *(np.zeros((0, 9, 9, 3), np.uint8), np.zeros((12, 0, 0, 3), np.uint8), np.zeros((12, 9, 9, 3), np.float32)),
    *(np.asfortranarray(np.ones((12, 9, 9, 3), np.uint8)), np.array(["a"] * 12), np.array([b"a"] * 12), np.array("a")),
    *(np.array(["a"]), np.array(["a\nb", "\x1b[31m", "c"]), np.array([["a", "b", "c"]]), np.array(["x" * 10_000] * 3)),
]
HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 9, 9, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (12, 1000000, 1000000, 3), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-12, 9, 9, 3), }",
    "{'descr': '|u1', 'fortran_order': True, 'shape': (12,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (12,), }",
    "{'descr': '<U999999999', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (10000000000,), }",
    "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (12,), }",
    f"__import__('os').system('touch {CANARY}')",
    f"{{'descr': __import__('os').system('touch {CANARY}'), 'fortran_order': False, 'shape': (12,), }}",
    "(" * 3000, "{" * 300, "", "{'descr': '<i8'}", "[" + "1," * 20_000 + "]", "{'descr': '<i8', 'shape': 12, 'x': 1}",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (12L,), }",
]  # fmt: skip


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return held.getvalue()


def files(count: int, chance: random.Random) -> Iterator[bytes]:
    whole = [(f"{name}.npy", npy(array)) for name, array in arrays().items()]
    bomb = headed("{'descr': '|u1', 'fortran_order': False, 'shape': (5000, 100, 100, 1), }", bytes(5000 * 10**4))
    bombs = [zipped([(name, bomb) for name, _ in whole], zipfile.ZIP_DEFLATED)]
    for _ in range(count):
        members = list(whole)
        place = chance.randrange(len(members))
        name, content = members[place]
        match chance.randrange(12):
            case 0 | 1 | 2:
                members[place] = name, npy(chance.choice(EVIL))
            case 3:
                data = content[128:] if chance.random() < 0.5 else b""
                members[place] = (
                    name,
                    headed(chance.choice(HEADERS), data, chance.choice([(1, 0), (2, 0), (3, 0), (9, 9)])),
                )
            case 4:
                members[place] = name, mutated(content, chance)
            case 5:
                del members[place]
            case 6:
                members[place] = chance.choice(["../x_train.npy", "/etc/x.npy", "x_train", "X_TRAIN.npy"]), content
            case 7:
                members.append((chance.choice(["../../evil.npy", "__init__.py", "x_train.npy/"]), npy(np.zeros(3))))
            case 8:
                other = chance.randrange(len(members))
                members[place], members[other] = (name, members[other][1]), (members[other][0], content)
            case _:
                pass
        content = zipped(members, chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))
        match chance.randrange(8):
            case 0 | 1 | 2:
                content = mutated(content, chance)
            case 3:  # sizes in the directory
                at = content.rfind(b"PK\x01\x02") + chance.choice([20, 24])
                content = (
                    content[:at] + chance.choice([0, 1, 2**31, 2**32 - 1]).to_bytes(4, "little") + content[at + 4 :]
                )
            case 4 if chance.random() < 0.1:
                content = chance.choice([b"", b"PK", b"x" * 100, npy(np.zeros(3)), *bombs])
        yield content


def right(content: bytes, read: tuple[Raw, int]) -> None:
    raw, stated = read
    with np.load(io.BytesIO(content), allow_pickle=False) as given:
        for part, x, y in (("train", raw.x_train, raw.y_train), ("test", raw.x_test, raw.y_test)):
            labels = given[f"y_{part}"]
            assert np.array_equal(y, labels) or [raw.classes[number] for number in y] == labels.astype(str).tolist()
            assert x.sum() == given[f"x_{part}"].astype(np.int64).sum()
            assert x.dtype == np.uint8 and x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[2] == x.shape[3] >= 9
            assert len(x) == len(y) > 0 and y.min() >= 0 and y.max() < len(raw.classes)
    assert stated == len(raw.x_train) and len(raw.classes) >= 2


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_mutated_npz_files(count: int, tmp_path: Path) -> None:
    def work(content: bytes) -> tuple[Raw, int]:
        path = tmp_path / "data.npz"
        path.write_bytes(content)
        sources._npz_size.cache_clear()
        return sources.load("npz:data.npz", tmp_path), sources.size("npz:data.npz").train

    accepted, refused = judge(files(count, random.Random(count)), work, right, r"data\.npz", tmp_path)
    assert accepted > count / 50 and refused > count / 3
