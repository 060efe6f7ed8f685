# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import stat

import pytest

from dockstack.compute import privileged
from dockstack.compute.privileged import layers, subvolumes
from dockstack.compute.privileged.subvolumes import Entry, changed, locate
from dockstack.compute.privileged.trees import Names

pytestmark = pytest.mark.unit

IDENTITY, MOUNT = "c" * 64, "a" * 64


@pytest.fixture(autouse=True)
def in_process():
    privileged.copying.set_client_mode(False)


def write_mount(root, text):
    directory = root / "image/btrfs/layerdb/mounts" / IDENTITY
    directory.mkdir(parents=True)
    (directory / "mount-id").write_text(text)


def test_a_containers_subvolume_is_found(tmp_path):
    write_mount(tmp_path, MOUNT)
    assert locate(str(tmp_path), IDENTITY) == f"{tmp_path}/btrfs/subvolumes/{MOUNT}"


@pytest.mark.parametrize("text", ["", "../../../../etc", f"{MOUNT}-init", "/etc"])
def test_nothing_else_is_taken_for_one(tmp_path, text):
    write_mount(tmp_path, text)
    with pytest.raises(ValueError, match="is no subvolume"):
        locate(str(tmp_path), IDENTITY)


@pytest.mark.parametrize("identity", ["", "..", "c" * 12, "../" + "c" * 64])
def test_no_other_file_is_read(tmp_path, identity):
    with pytest.raises(ValueError, match="is no container"):
        locate(str(tmp_path), identity)


class Trees:
    """Two trees whose files have inode numbers and change times as a test says; the content is on a real disk."""

    def __init__(self, root, monkeypatch) -> None:
        self.root, self.known = root, {}
        look = os.lstat

        def lstat(path):
            found = look(path)
            inode, changed_at = self.known[os.path.normpath(os.fsdecode(path))]
            return os.stat_result((found.st_mode, inode, *list(found)[2:]), {"st_ctime_ns": changed_at})

        monkeypatch.setattr(subvolumes.os, "lstat", lstat)

    def make(self, tree, **files):
        """Each value: an inode number and a change time; names that end in _d are directories."""
        for name, known in {"": (256, 0), **files}.items():
            path = self.root / tree / name.replace("__", "/")
            self.known[str(path)] = known
            path.mkdir() if not name or name.endswith("_d") else path.touch()
        return os.fsencode(self.root / tree)


def test_what_changed_is_told_with_its_parents_first(tmp_path, monkeypatch):
    trees = Trees(tmp_path, monkeypatch)
    base = trees.make("base", same=(1, 0), edited=(2, 0), gone=(3, 0), a_d=(4, 0), a_d__b_d=(5, 0), a_d__b_d__x=(6, 0))
    layer = trees.make("new", same=(1, 0), edited=(2, 9), a_d=(4, 0), a_d__b_d=(5, 0), a_d__b_d__x=(6, 9), added=(7, 9))
    assert list(changed(base, layer, Names(9))) == [
        Entry(b""),
        Entry(b"gone", deleted=True),
        Entry(b"a_d"),
        Entry(b"a_d/b_d"),
        Entry(b"a_d/b_d/x"),
        Entry(b"added"),
        Entry(b"edited"),
    ]


def test_a_replaced_directory_hides_the_images(tmp_path, monkeypatch):
    trees = Trees(tmp_path, monkeypatch)
    base = trees.make("base", a_d=(4, 0), a_d__x=(5, 0), b=(6, 0))
    layer = trees.make("new", a_d=(9, 9), a_d__x=(5, 0), b_d=(10, 9))
    assert list(changed(base, layer, Names(9))) == [
        Entry(b""),
        Entry(b"b", deleted=True),
        Entry(b"a_d", opaque=True),
        Entry(b"a_d/x"),
        Entry(b"b_d"),
    ]


def test_a_tree_of_too_many_files_is_refused_before_all_are_in_memory(tmp_path, monkeypatch):
    trees = Trees(tmp_path, monkeypatch)
    base = trees.make("base")
    layer = trees.make("new", a_d=(4, 0), a_d__b=(5, 0), a_d__c=(6, 0))
    assert len(list(changed(base, layer, Names(3)))) == 4
    for found in (changed(base, layer, Names(2)), layers._written(layer, Names(2))):
        with pytest.raises(OSError, match="more than 2"):
            list(found)


def test_an_untouched_tree_says_nothing(tmp_path, monkeypatch):
    trees = Trees(tmp_path, monkeypatch)
    files = {"a_d": (4, 0), "a_d__x": (5, 0)}
    assert list(changed(trees.make("base", **files), trees.make("new", **files), Names(9))) == []
    assert stat.S_ISDIR((tmp_path / "new/a_d").stat().st_mode)
