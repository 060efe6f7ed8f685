# SPDX-License-Identifier: Apache-2.0
"""What root's part does with the files of a server that is out to hurt it; no engine is needed for that."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dockstack.compute.privileged import copies, trees
from dockstack.compute.privileged.kernel import in_thread

NAME = "6f9f2f0e-9d7c-4b8c-8b36-6a4f0e3d7c01"
BENEATH = "A" * 26, "B" * 26


class Engine:
    """As much of an engine's data root as the storage driver overlay2 makes for a container."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layer = root / "overlay2" / ("c" * 64) / "diff"
        image, initial = root / "overlay2" / ("1" * 64), root / "overlay2" / ("c" * 64 + "-init")
        for directory in (
            self.layer,
            image / "diff",
            initial / "diff",
            root / "overlay2/l",
            self.layer.parent / "work",
        ):
            directory.mkdir(parents=True)
        for name, layer in zip(BENEATH, (initial, image), strict=True):
            (root / "overlay2/l" / name).symlink_to(f"../{layer.name}/diff")
        (self.layer.parent / "lower").write_text(":".join(f"l/{name}" for name in BENEATH))
        self.image, self.copy = image / "diff", root / "dockstack-copies/host" / NAME

    def begin(self) -> Path:
        copies.begin(str(self.root), "host", NAME, str(self.layer))
        return self.copy / "files"

    def complete(self) -> None:
        copies.complete(str(self.root), "host", NAME, str(self.layer))

    def remove(self) -> None:
        copies.remove(str(self.root), "host", NAME)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "RESERVE", 0)
    monkeypatch.setattr(trees, "write_out", lambda _tree: 0)  # else each test waits for all that others write
    engine = Engine(tmp_path.resolve())
    yield engine
    in_thread(copies._empty, str(engine.layer))


def swap(monkeypatch, engine, at: bytes, change) -> None:
    """Have a server change something right after root's part has looked at one of its files."""
    bring, seen = trees.Pass._bring, []

    def bring_and_change(self, name, **how):
        inside = bring(self, name, **how)
        if name == at and not self._still:
            seen.append(name)
            os.fchdir(layer)  # the thread has another root directory, and by then no way to this one
            change()
            os.chdir("/")
        return inside

    layer = os.open(engine.layer, os.O_RDONLY | os.O_DIRECTORY)
    monkeypatch.setattr(trees.Pass, "_bring", bring_and_change)
    try:
        engine.begin()
    finally:
        os.close(layer)
    assert seen == [at]


def test_a_link_in_the_place_of_a_directory_leads_nowhere(engine, monkeypatch) -> None:
    (engine.layer / "a").mkdir()
    (engine.layer / "a/lower").write_text("the server's own")

    def change() -> None:
        Path("a").rename("b")
        Path("a").symlink_to("/")  # where the copy's note is

    swap(monkeypatch, engine, b"a", change)
    assert list((engine.copy / "files/a").iterdir()) == []
    engine.complete()
    assert (engine.copy / "files/a").is_symlink()
    assert (engine.copy / "files/b/lower").read_text() == "the server's own"


def test_a_device_in_the_place_of_a_file_is_not_opened(engine, monkeypatch) -> None:
    (engine.layer / "a").write_text("the server's own")
    look = os.lstat

    def look_first(path):
        found = look(path)
        if path == b"/source/a" and stat.S_ISREG(found.st_mode):
            os.fchdir(layer)
            Path("a").unlink()
            os.mknod("a", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, as the watchdog is one that matters
            os.chdir("/")
        return found

    opened, opening = [], os.open
    layer = os.open(engine.layer, os.O_RDONLY | os.O_DIRECTORY)

    def note_open(path, *how, **more):
        descriptor = opening(path, *how, **more)
        opened.append(os.fstat(descriptor).st_rdev)
        return descriptor

    monkeypatch.setattr(trees, "allocated", lambda _tree: 0)
    monkeypatch.setattr(trees.os, "lstat", look_first)
    monkeypatch.setattr(trees.os, "open", note_open)
    engine.begin()
    os.close(layer)
    assert os.makedev(1, 5) not in opened
    assert not (engine.copy / "files/a").exists()


def test_a_kernel_that_would_follow_links_is_not_worked_with(engine, monkeypatch) -> None:
    monkeypatch.setattr(copies, "_MS_NOSYMFOLLOW", 0)  # as an older kernel takes it
    with pytest.raises(OSError, match=r"Linux 5\.10"):
        engine.begin()


def test_directories_may_be_as_deep_as_they_like(engine) -> None:
    depth = 1980  # within a root directory of its own just what a path may have, and from ours more
    directory = os.open(engine.layer, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=directory)
        inside = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = inside
    os.close(directory)
    engine.begin()
    engine.remove()
    assert not engine.copy.exists()
