# SPDX-License-Identifier: Apache-2.0
"""Where sparse files hold data, and what a stranger may say of it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from dockstack.compute.privileged import archives, sparse, trees

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

MIB = 1 << 20


def test_only_what_holds_something_is_found_and_copied(tmp_path: Path):
    path, copy = tmp_path / "sparse", tmp_path / "copy"
    with path.open("wb") as file:
        file.write(b"begin")
        file.truncate(300 << 30)
        for place in (8 * MIB, 8 * MIB + 8192, 100 << 30):
            file.seek(place)
            file.write(b"inside")
    with path.open("rb") as source, copy.open("wb") as target:
        parts = sparse.find_extents(source.fileno())
        assert [start // MIB for start, _ in parts] == [0, 8, 102400], "near ones are one"
        assert sparse.stored_bytes(parts) < MIB
        sparse.copy(source.fileno(), target.fileno(), parts)
        target.truncate(300 << 30)
    assert copy.stat().st_blocks * 512 < MIB
    with copy.open("rb") as file:
        assert os.pread(file.fileno(), 6, 100 << 30) == b"inside"
        assert os.pread(file.fileno(), 6, 8 * MIB + 8192) == b"inside"


def test_a_file_that_is_not_sparse_has_no_map(tmp_path: Path):
    (tmp_path / "full").write_bytes(b"x" * MIB)
    (tmp_path / "empty").touch()
    for name in ("full", "empty"):
        with (tmp_path / name).open("rb") as file:
            assert sparse.find_extents(file.fileno()) is None


@pytest.mark.parametrize(
    "parts",
    [None, 3, [[0]],
     [[0, 5], [3, 5]], [[5, 5], [0, 5]], [[-1, 10]], [[0, 0], [0, 10]], [[95, 10]], [[0, 9]], [["x", 1]],
     [[float("inf"), 10]], {"0": 10}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(parts):
    with pytest.raises(ValueError, match=r"sparse file|invalid literal|not enough values"):
        sparse.parse(parts, 100, 10)


def test_what_makes_sense_is_taken():
    assert sparse.parse([[0, 4], [90, 6]], 100, 10) == [(0, 4), (90, 6)]
    assert sparse.parse([], 100, 0) == []


def test_the_second_pass_copies_what_changed_and_reads_nothing_else(tmp_path: Path, monkeypatch):
    source, target = os.fsencode(tmp_path / "source"), os.fsencode(tmp_path / "target")
    for path in (tmp_path / "source/kept", tmp_path / "source/goes", tmp_path / "target"):
        path.mkdir(parents=True)
    (tmp_path / "source/kept/same").write_text("same")
    (tmp_path / "source/kept/changes").write_text("old")
    (tmp_path / "source/goes/inside").write_text("gone")
    first = trees.Pass(source, target, {}, 0, still=False, entries=100)
    first.go()
    changed = max(path.lstat().st_ctime_ns for path in (tmp_path / "source").rglob("*")) + 1
    monkeypatch.setattr(os, "copy_file_range", _counted(os.copy_file_range, copied := []))
    (tmp_path / "source/goes/inside").unlink()
    (tmp_path / "source/goes").rmdir()
    (tmp_path / "source/goes").write_text("a file now")
    while (tmp_path / "source/kept/changes").stat().st_ctime_ns < changed:  # the clock has a grain
        (tmp_path / "source/kept/changes").write_text("new")
    trees.Pass(source, target, first.found, changed, still=True, entries=100).go()
    assert (tmp_path / "target/kept/same").read_text() == "same"
    assert (tmp_path / "target/kept/changes").read_text() == "new"
    assert (tmp_path / "target/goes").read_text() == "a file now"
    assert sorted(copied) == [3, 10]


def _counted(copy, copied):
    def counting(*arguments):
        count = copy(*arguments)
        if count:
            copied.append(count)
        return count

    return counting


def test_a_copy_leaves_room_for_others(tmp_path: Path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="does not fit"):
            trees.require_room(descriptor, 1 << 60)
        trees.require_room(descriptor, -trees.RESERVE)
    finally:
        os.close(descriptor)


def test_a_tree_of_more_names_than_memory_has_room_for_is_refused(tmp_path: Path, monkeypatch):
    for name in ("a/b/c", "d/e/f"):
        (tmp_path / "source" / name).mkdir(parents=True)
    source = os.fsencode(tmp_path / "source")
    target = os.fsencode(tmp_path)
    trees.allocated(source, trees.Names(6))
    with pytest.raises(OSError, match="more than 5"):
        trees.allocated(source, trees.Names(5))
    with pytest.raises(OSError, match="more than 5") as refused:
        trees.Pass(source, target, {}, 0, still=False, entries=5).go()
    assert refused.value.errno == errno.EOVERFLOW
    with pytest.raises(OSError, match="more than 5"):
        list(archives._walk(source, trees.Names(5)))
    assert list(archives._walk(source, trees.Names(6))) == [b"", b"a", b"a/b", b"a/b/c", b"d", b"d/e", b"d/e/f"]
    monkeypatch.setattr(trees, "NAME_BYTES", 6 * len(source))
    with pytest.raises(OSError, match="names"):
        trees.allocated(source, trees.Names(6))
