# SPDX-License-Identifier: Apache-2.0
"""Root file systems as the only layer of an image, and sparse files of such a layer made whole again.

The engine's own archives lose access control lists and users' attributes; it unpacks them, though, where an archive has
them. Of sparse files it unpacks every hole as zeros. So in our layers such a file is no longer than its data, and a
file at the root, the archive's last, says where the data belong. Whoever makes a container of the image has them put
there before it starts, and that file removed.
"""

# Names are bytes of strangers, so os and not pathlib:
# ruff: noqa: PTH104, PTH108, PTH115, PTH116, PTH118, PTH120, PTH123

from __future__ import annotations

import errno
import json
import os
import stat
import tarfile
from collections import Counter
from typing import TYPE_CHECKING, Any

from dockstack.compute.privileged import copies, copying, layers, sparse, trees
from dockstack.compute.privileged.kernel import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

INDEX = b".dockstack-sparse-files"  # JSON: a list of {"names", "size", "parts"}
OF_ONE_SERVER = (b"etc/hostname", b"etc/hosts", b"etc/resolv.conf")  # empty in an image: the next server has its own
INDEX_BYTES = 4 << 20
_NEW, _LINK = b"/" + INDEX + b".new", b"/" + INDEX + b".link"  # files that are being made whole
_NONSENSE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
)
_CARRIED = ("user.", trees.ACCESS_LISTS, "security.capability")
_XATTR = "SCHILY.xattr."
_DEFAULT = f"{_XATTR}{trees.ACCESS_LISTS}default"
_BLOCK = tarfile.BLOCKSIZE
_SEND = 1 << 20
_SHORTER = "a file of a copy is shorter than it was"
_GATHERED = 64 << 10  # bytes of what is small, which are written at once: a system has ten thousand headers and files


@copying.entrypoint
def read(root: str, owner: str, name: str, fifo: str, entries: int) -> dict[str, Any]:
    """Write the root file system that a copy shows into a FIFO that somebody reads; the same bytes each time.

    Args:
        root: as of ``copies.begin``.
        owner: as of ``copies.begin``.
        name: as of ``copies.begin``.
        fifo: where to write.
        entries: how many files there may be.

    Returns:
        "sparse": how many sparse files are in it; "left_out": how many of each kind of thing an image cannot carry.

    Raises:
        OSError: the reader went away (BrokenPipeError), a file cannot be read, its holes cannot be told (E2BIG), or
            there are too many files (EOVERFLOW).
    """
    path = copies.locate(root, owner, name)
    descriptor = layers.open_fifo(fifo)
    try:
        archive = _Archive(descriptor, trees.Names(entries))
        copies.show(path, archive.write)
        return {"sparse": len(archive.index), "left_out": dict(archive.left_out)}
    finally:
        os.close(descriptor)


@copying.entrypoint
def restore(layer: str) -> int:
    """Give the sparse files of a container that never ran their holes, and return how many it has.

    Args:
        layer: the container's writable layer, or its subvolume.

    Raises:
        OSError: a file cannot be written.
        ValueError: what the image says of them makes no sense.
    """
    layers.check_layer(layer)
    return in_thread(_restore_confined, layer)


class _Archive:
    """A tar archive that is being written."""

    def __init__(self, descriptor: int, names: trees.Names) -> None:
        self._descriptor, self._names = descriptor, names
        self._gathered = bytearray()
        self._links: dict[tuple[int, int], tuple[str, dict[str, Any] | None]] = {}
        self._directories: list[tarfile.TarInfo] = []  # that come at the end
        self.index: list[dict[str, Any]] = []
        self.left_out: Counter[str] = Counter()

    def write(self, root: bytes) -> None:
        for name in _walk(root, self._names):
            if name == INDEX:
                continue
            path = os.path.join(root, name) if name else root
            found = os.lstat(path)
            if stat.S_ISSOCK(found.st_mode):
                self.left_out["sockets"] += 1
            elif stat.S_ISREG(found.st_mode):
                self._file(name, path, found)
            else:
                self._other(self._describe(name, path, found))
        for member in self._directories:
            self._head(member)
        if self.index:
            self._index()
        self._put(bytes(2 * _BLOCK))
        self._flush()

    def _file(self, name: bytes, path: bytes, found: os.stat_result) -> None:
        member = self._describe(name, path, found)
        if member.islnk():
            self._head(member)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC)
        try:
            emptied = name in OF_ONE_SERVER and found.st_nlink == 1
            parts = [] if emptied else sparse.find_extents(descriptor)
            if parts is not None and not emptied:
                said = {"names": [member.name], "size": found.st_size, "parts": parts}
                self.index.append(said)
                self._links[found.st_dev, found.st_ino] = (member.name, said)
            parts = [(0, found.st_size)] if parts is None else parts
            member.size = sparse.stored_bytes(parts)
            self._head(member)
            for start, length in parts:
                self._send(descriptor, start, length)
            self._put(bytes(-member.size % _BLOCK))
        finally:
            os.close(descriptor)

    def _other(self, member: tarfile.TarInfo) -> None:
        """Write what has no content; a directory with a default access list only when all that is in it was made."""
        if _DEFAULT in member.pax_headers:
            self._directories.append(member)  # the engine makes it without, for what comes first
        else:
            self._head(member)

    def _describe(self, name: bytes, path: bytes, found: os.stat_result) -> tarfile.TarInfo:
        member = tarfile.TarInfo(os.fsdecode(name) or ".")
        member.mode, member.uid, member.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
        member.mtime = found.st_mtime_ns // 10**9
        records: dict[str, str] = {}
        member.pax_headers = records
        if found.st_mtime_ns % 10**9 and found.st_mtime_ns > 0:
            records["mtime"] = f"{member.mtime}.{found.st_mtime_ns % 10**9:09}"
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            member.type = tarfile.DIRTYPE
        elif found.st_nlink > 1 and (first := self._first(member.name, found)) is not None:
            member.type, member.linkname = tarfile.LNKTYPE, first
            return member
        elif kind == stat.S_IFLNK:
            member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(path))
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            member.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
            member.devmajor, member.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
        elif kind == stat.S_IFIFO:
            member.type = tarfile.FIFOTYPE
        self._describe_attributes(path, records)
        return member

    def _describe_attributes(self, path: bytes, records: dict[str, str]) -> None:
        for attribute in os.listxattr(path, follow_symlinks=False):
            if not attribute.isprintable() or "=" in attribute:  # it would be read as another, or not at all
                self.left_out["attributes of a name that no archive can carry"] += 1
            elif attribute.startswith(_CARRIED):
                value = os.getxattr(path, attribute, follow_symlinks=False)
                records[_XATTR + attribute] = value.decode("utf-8", "surrogateescape")
            elif attribute not in trees.HOST_ONLY:
                self.left_out[f"attributes {attribute}"] += 1

    def _first(self, name: str, found: os.stat_result) -> str | None:
        """Return the name by which a file of several is in the archive already."""
        first, said = self._links.setdefault((found.st_dev, found.st_ino), (name, None))
        if first == name:
            return None
        if said is not None:
            said["names"].append(name)
        return first

    def _index(self) -> None:
        data = json.dumps(self.index).encode()
        if len(data) > INDEX_BYTES:
            largest = max(self.index, key=lambda said: len(said["parts"]))
            raise OSError(errno.E2BIG, f"sparse files have too many holes, most of them {largest['names'][0]!r}")
        member = tarfile.TarInfo(INDEX.decode())
        member.size = len(data)
        self._head(member)
        self._put(data + bytes(-len(data) % _BLOCK))

    def _head(self, member: tarfile.TarInfo) -> None:
        self._put(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _put(self, data: bytes) -> None:
        self._gathered += data
        if len(self._gathered) >= _GATHERED:
            self._flush()

    def _flush(self) -> None:
        with memoryview(self._gathered) as gathered:
            done = 0
            while done < len(gathered):
                done += os.write(self._descriptor, gathered[done:])
        self._gathered.clear()

    def _send(self, source: int, start: int, length: int) -> None:
        if length < _GATHERED:
            data = os.pread(source, length, start)
            if len(data) < length:
                raise OSError(_SHORTER)
            self._put(data)
            return
        self._flush()
        end = start + length
        while start < end:
            count = os.sendfile(self._descriptor, source, start, min(end - start, _SEND))
            if not count:
                raise OSError(_SHORTER)
            start += count


def _walk(root: bytes, names: trees.Names) -> Iterator[bytes]:
    """Yield all names below a directory, parents first, in an order that is always the same."""
    waiting = [(b"", [b""])]
    while waiting:
        directory, left = waiting[-1]
        if not left:
            waiting.pop()
            continue
        name = os.path.join(directory, left.pop())
        yield name
        path = os.path.join(root, name) if name else root
        if stat.S_ISDIR(os.lstat(path).st_mode):
            waiting.append((name, names.list(path)))


def _restore_confined(layer: str) -> int:
    copies.enter_root(layer)
    try:
        return _restore()
    except OSError as error:
        if error.errno not in _NONSENSE:
            raise
        raise ValueError(f"it names what is not there: {error}") from error


def _restore() -> int:
    index = b"/" + INDEX
    if not os.path.lexists(index):
        return 0
    _require_file(index)
    with open(os.open(index, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        data = file.read(INDEX_BYTES + 1)
    try:
        said = [
            (list(map(str, each["names"])), int(each["size"]), each["parts"]) for each in json.loads(data[:INDEX_BYTES])
        ]
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError("it is malformed") from error
    wanted = [([b"/" + os.fsencode(name).lstrip(b"/") for name in names], size, parts) for names, size, parts in said]
    directories = {b"/", *(os.path.dirname(name) for names, _, _ in wanted for name in names)}
    times = {directory: os.stat(directory).st_mtime_ns for directory in directories}
    made: set[tuple[int, int]] = set()
    for names, size, parts in wanted:
        if size >= 1 << 62:
            raise ValueError("no file is so large")
        made.add(_spread(names, size, parts, made))
    os.unlink(index)
    for directory, time_ns in times.items():
        os.utime(directory, ns=(time_ns, time_ns))
    return len(wanted)


def _spread(names: list[bytes], size: int, parts: object, made: set[tuple[int, int]]) -> tuple[int, int]:
    """Make a sparse file of what it holds, under all of its names, the first one last: it can be broken off and redone.

    Args:
        names: the file's.
        size: its bytes, with its holes.
        parts: where what it holds belongs.
        made: by device and inode, the files made before: nobody has their holes copied as if they were data.

    Returns:
        The device and inode of the new file, which has the same attributes.
    """
    first, *others = names
    found = _require_file(first)
    if _identity(found) in made or len(set(names)) < len(names):
        raise ValueError("a sparse file is named twice")
    if found.st_size == size:
        return _identity(found)  # an earlier try was broken off after it
    extents = sparse.parse(parts, size, found.st_size)
    for other in others:
        now = _require_file(other)
        if _identity(now) != _identity(found) and now.st_size != size:
            raise ValueError("the names of a sparse file are those of several")
    trees.remove(_NEW)
    _write_spread(first, extents, size)
    trees.give(_NEW, found, trees.attributes(first))
    os.utime(_NEW, ns=(found.st_mtime_ns, found.st_mtime_ns))
    for other in others:
        trees.remove(_LINK)
        os.link(_NEW, _LINK, follow_symlinks=False)
        os.rename(_LINK, other)
    os.rename(_NEW, first)
    return _identity(os.lstat(first))


def _write_spread(source: bytes, extents: sparse.Extents, size: int) -> None:
    origin = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        descriptor = os.open(_NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            position = 0
            for start, length in extents:
                sparse.copy_part(origin, position, descriptor, start, length)
                position += length
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
    finally:
        os.close(origin)


def _require_file(path: bytes) -> os.stat_result:
    """Look at a file before it is opened: what an image says is one may be a device, and opening some does things."""
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path!r} is no file")
    return found


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
