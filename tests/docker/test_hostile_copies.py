# SPDX-License-Identifier: Apache-2.0
"""What root's part does with the files of a server that is out to hurt it; no engine is needed for that."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from dockstack.compute.privileged import archives, copies, trees
from dockstack.compute.privileged.kernel import in_thread

NAME = "6f9f2f0e-9d7c-4b8c-8b36-6a4f0e3d7c01"
ENTRIES = 10_000
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
        copies.begin(str(self.root), "host", NAME, str(self.layer), ENTRIES)
        return self.copy / "files"

    def complete(self) -> None:
        copies.complete(str(self.root), "host", NAME, str(self.layer), ENTRIES)

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

    monkeypatch.setattr(trees, "allocated", lambda _tree, _names: 0)
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
    depth = 990  # within a root directory of its own just what a path may have, and from ours more
    directory = os.open(engine.layer, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("ddd", dir_fd=directory)
        inside = os.open("ddd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = inside
    os.close(directory)
    engine.begin()
    engine.remove()
    assert not engine.copy.exists()


def sparse(engine, index) -> int:
    (engine.layer / ".dockstack-sparse-files").write_text(json.dumps(index))
    return archives.restore(str(engine.layer))


def entry(*names: str, size: int = 1 << 40, parts: object = ((1 << 20, 4), (1 << 30, 6))) -> dict[str, object]:
    return {"names": names, "size": size, "parts": parts}


@pytest.fixture(params=["overlay2", "btrfs"])
def storage(request, engine):
    """A container of each storage driver; a directory does for the subvolume."""
    if request.param == "btrfs":
        engine.layer = engine.root / "btrfs/subvolumes" / ("a" * 64)
        engine.layer.mkdir(parents=True)
        engine.image = engine.layer
    engine.seen = engine.layer
    return engine


def test_a_map_makes_a_file_whole_under_all_of_its_names(storage) -> None:
    (storage.image / "file").write_bytes(b"onefellow!"[:10])
    os.link(storage.image / "file", storage.image / "other")
    assert sparse(storage, [entry("file", "other")]) == 1
    with (storage.layer / "other").open("rb") as file:
        assert os.pread(file.fileno(), 6, 1 << 30) == b"ellow!"
    assert (storage.layer / "file").samefile(storage.layer / "other")
    assert [path.name for path in storage.layer.iterdir() if path.name.startswith(".")] in ([], [".whiteout"])


@pytest.mark.parametrize("step", ["unlink", "rename", "link", "copy_file_range", "utime", "chown"])
def test_what_was_broken_off_is_done_again(storage, monkeypatch, step) -> None:
    for name in ("one", "two"):
        (storage.image / name).write_bytes(b"onefellow!")
        os.link(storage.image / name, storage.image / f"{name}-linked")
    index = [entry("one", "one-linked"), entry("two", "two-linked")]
    do = getattr(os, step)
    for after in range(4):
        done: list[object] = []

        def die(*arguments, _done=done, _after=after, **more):
            if len(_done) == _after:
                raise InterruptedError
            _done.append(arguments)
            return do(*arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(archives.os, step, die)
            try:
                sparse(storage, index)
            except InterruptedError:
                continue
            break
    assert sparse(storage, index) == 2
    for name in ("one", "two"):
        assert (storage.layer / name).samefile(storage.layer / f"{name}-linked")
        assert (storage.layer / name).stat().st_size == 1 << 40


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
@pytest.mark.parametrize("name", ["device", ".dockstack-sparse-files"])
def test_a_map_opens_no_device(storage, monkeypatch, kind, name) -> None:
    os.mknod(storage.image / name, kind | 0o600, os.makedev(1, 5))
    if name == "device":
        (storage.layer / ".dockstack-sparse-files").write_text(json.dumps([entry(name, size=10, parts=[])]))
    opened, opening = [], os.open

    def note_open(path, *how, **more):
        opened.append(path)
        return opening(path, *how, **more)

    monkeypatch.setattr(archives.os, "open", note_open)
    with pytest.raises(ValueError, match="is no file"):
        archives.restore(str(storage.layer))
    assert os.fsencode("/" + name) not in opened


def test_the_mount_of_a_root_file_system_opens_no_device(storage) -> None:
    os.mknod(storage.image / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))

    def enter() -> None:
        copies.enter_root(str(storage.layer))
        os.close(os.open("/device", os.O_RDONLY))

    with pytest.raises(PermissionError):
        in_thread(enter)


@pytest.mark.parametrize(
    "index",
    [
        [entry("file"), entry("file", parts=[[0, 1 << 40]])],
        [entry("file"), entry("linked", parts=[[0, 1 << 40]])],
        [entry("file", "file")],
        [entry("file", "directory")],
        [entry("file", "unlike")],
        [entry("file", "gone")],
        [entry("file", "file/inside")],
        [entry("file", "link/file")],
        [entry("gone")],
        [entry("file/inside")],
        [entry("link/file")],
        [entry("directory")],
        [entry("x" * 300)],
        [entry()],
        [entry("a\0b")],
    ],
)
def test_a_map_that_makes_no_sense_is_refused(storage, index) -> None:
    (storage.image / "directory").mkdir()
    (storage.image / "directory/file").write_text("stays")
    (storage.image / "link").symlink_to("directory")
    (storage.image / "file").write_bytes(b"onefellow!")
    (storage.image / "unlike").write_bytes(b"of another size")
    os.link(storage.image / "file", storage.image / "linked")
    with pytest.raises(ValueError, match=r"is|are|make|values|null"):
        sparse(storage, index)
    assert (storage.image / "directory/file").read_text() == "stays"


def test_attributes_whose_names_no_archive_can_carry_are_left_out(tmp_path) -> None:
    file = tmp_path / "root/file"
    file.parent.mkdir()
    file.write_text("it")
    for name in ("user.good", "user.a=b", "user.a\nb", os.fsdecode(b"user.\xff")):
        os.setxattr(file, name, b"value")
    with (tmp_path / "archive").open("wb") as written:
        archive = archives._Archive(written.fileno(), trees.Names(ENTRIES))
        archive.write(os.fsencode(tmp_path / "root"))
    with tarfile.open(tmp_path / "archive") as read:
        assert read.getmember("file").pax_headers == {"SCHILY.xattr.user.good": "value"} | {
            name: value for name, value in read.getmember("file").pax_headers.items() if name == "mtime"
        }
    assert archive.left_out == {"attributes of a name that no archive can carry": 3}


def test_small_files_are_written_together_and_all_come_as_they_are(tmp_path, monkeypatch) -> None:
    sizes = [*range(0, 2000, 50), archives._GATHERED - 1, archives._GATHERED, archives._GATHERED + 1, 3_000_000]
    root = tmp_path / "root"
    root.mkdir()
    for number, size in enumerate(sizes):
        (root / str(number)).write_bytes(os.urandom(size))
    writes = []
    really_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: writes.append(1) or really_write(descriptor, data))
    with (tmp_path / "archive").open("wb") as written:
        archives._Archive(written.fileno(), trees.Names(ENTRIES)).write(os.fsencode(root))
    with tarfile.open(tmp_path / "archive") as read:
        for number in range(len(sizes)):
            assert read.extractfile(str(number)).read() == (root / str(number)).read_bytes()
    assert len(writes) <= 12, "each is a piece that others have to take, check and send on"
