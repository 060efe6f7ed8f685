# SPDX-License-Identifier: Apache-2.0
"""What a server has written, as root sees it: its container's writable layer, out of and into the engine's storage.

On overlay2 that layer is a directory; on btrfs it is what differs between the container's subvolume and its image's.
Both give and take the same archive, so that a server may move from one to the other.

A layer travels as a tar archive of its own kind: the engine's archives lose all extended attributes but one. What tar
has no word for stands as JSON in an extended header: times to the nanosecond, extended attributes, and what the overlay
file system means by some of them. The same layer gives the same bytes each time, so that a broken transfer can go on.
"""

# Names are bytes of strangers, so os and not pathlib:
# ruff: noqa: PTH101, PTH102, PTH115, PTH118, PTH123, PTH211

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import tarfile
from typing import TYPE_CHECKING, Any

from dockstack.compute.privileged import copying, sparse, subvolumes, trees
from dockstack.compute.privileged.kernel import checked, in_thread, libc
from dockstack.compute.privileged.subvolumes import Entry

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_LAYER = re.compile(r"/[^\0]*/overlay2/[0-9a-z]{20,64}/diff")
_SUBVOLUME = re.compile(r"/[^\0]*/btrfs/subvolumes/[0-9a-f]{64}")
_CLONE_FS = 0x200  # linux/sched.h
_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_HEADER = "DOCKSTACK.file"
_OVERLAY = "trusted.overlay."
_OPAQUE = f"{_OVERLAY}opaque"


@copying.entrypoint
def pack(layer: str, fifo: str, skip: int, entries: int) -> tuple[int, str]:
    """Write a layer's archive into a FIFO that somebody reads, and return the whole archive's size and SHA-256.

    Args:
        layer: the directory that the overlay file system writes into, or a container's subvolume; nothing may use it
            meanwhile.
        fifo: where to write.
        skip: bytes at the beginning that the reader has already.
        entries: how many files there may be.

    Raises:
        OSError: the reader went away (BrokenPipeError), there are too many files (EOVERFLOW), or one cannot be read.
    """
    check_layer(layer)
    descriptor = open_fifo(fifo)
    try:
        return _stream(_archive(os.fsencode(layer), trees.Names(entries)), descriptor, skip)
    finally:
        os.close(descriptor)


@copying.entrypoint
def unpack(layer: str, archive: str, sha256: str) -> None:
    """Write an archive's files into the layer of a container that never ran.

    They are written by a thread whose root directory is the layer, so that no name or link in the archive leads out.
    Into a subvolume, which holds the image already, go their effects instead of the overlay file system's marks.

    Raises:
        ValueError: the archive is not the one that was sent; the layer must not be used.
        OSError: a file cannot be written.
    """
    check_layer(layer)
    descriptor = os.open(archive, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        source = _Hashed(file)
        in_thread(_unpack_confined, layer, source, is_subvolume(layer))
        source.read_rest()
    _reach_disk(layer)
    if source.sha256.hexdigest() != sha256:
        raise ValueError("the archive of the server's files is not the one that was sent")


def _reach_disk(layer: str) -> None:
    """Have the disk hold all that was written: the sender's copy and the archive may be gone a moment later."""
    descriptor = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        checked(libc.syncfs(descriptor), "writing the server's files to the disk")
    finally:
        os.close(descriptor)


class _Hashed:
    """A file that is read once, from beginning to end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self.sha256.update(data)
        return data

    def read_rest(self) -> None:
        while self.read(_CHUNK):
            pass


def open_fifo(path: str) -> int:
    """Open the writing end of a FIFO that somebody reads, and nothing else.

    Raises:
        OSError: nobody reads it.
        ValueError: it is no FIFO.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path!r} is no FIFO")
    os.set_blocking(descriptor, True)
    return descriptor


def check_layer(path: str) -> None:
    """Refuse what is no layer of an engine: the caller may be mistaken, root must not."""
    if not (_LAYER.fullmatch(path) or is_subvolume(path)) or os.path.realpath(path) != path:
        raise ValueError(f"{path!r} is no writable layer of a container")


def is_subvolume(path: str) -> bool:
    """Say whether a layer is a subvolume of btrfs, with the files of its image."""
    return _SUBVOLUME.fullmatch(path) is not None


def _stream(chunks: Iterator[bytes], descriptor: int, skip: int) -> tuple[int, str]:
    size, sha256 = 0, hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
        unread = memoryview(chunk)[max(skip - size, 0) :]
        size += len(chunk)
        while unread:
            unread = unread[os.write(descriptor, unread) :]
    return size, sha256.hexdigest()


def _archive(layer: bytes, names: trees.Names) -> Iterator[bytes]:
    for header, path, parts in _members(layer, names):
        yield header
        if parts:
            yield from _contents(path, parts)
            yield bytes(-sparse.stored_bytes(parts) % _BLOCK)
    yield bytes(2 * _BLOCK)


def _members(layer: bytes, names: trees.Names) -> Iterator[tuple[bytes, bytes, sparse.Extents]]:
    """Yield each file's header, its path and which parts of it follow; parents first, in the order of names."""
    links: dict[tuple[int, int], str] = {}
    on_btrfs = is_subvolume(os.fsdecode(layer))
    base = layer + os.fsencode(subvolumes.BASE)
    for entry in subvolumes.changed(base, layer, names) if on_btrfs else _written(layer, names):
        path = os.path.join(layer, entry.name) if entry.name else layer
        if entry.deleted:
            member = _describe_deleted(entry.name)
        elif stat.S_ISSOCK(os.lstat(path).st_mode):
            continue  # nobody listens there any more; whoever listens again makes it anew
        else:
            opaque = {_OPAQUE: base64.b64encode(b"y").decode()} if entry.opaque else {}
            attributes = {_escaped(name) if on_btrfs else name: value for name, value in _attributes(path).items()}
            member = _describe(entry.name, path, links, attributes | opaque)
        parts = _find_parts(member, path) if member.isreg() and member.size else []
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"), path, parts


def _written(layer: bytes, names: trees.Names) -> Iterator[Entry]:
    """Yield everything below a directory."""
    waiting = [b""]
    while waiting:
        name = waiting.pop()
        path = os.path.join(layer, name) if name else layer
        yield Entry(name)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            waiting += [os.path.join(name, inside) for inside in names.list(path)]


def _describe_deleted(name: bytes) -> tarfile.TarInfo:
    """Describe a file of the image that the server deleted: the overlay file system marks it by a device 0/0."""
    member = tarfile.TarInfo(os.fsdecode(name))
    member.type, member.mode = tarfile.CHRTYPE, 0
    member.pax_headers = {_HEADER: json.dumps({"mtime_ns": 0, "xattrs": {}})}
    return member


def _describe(
    name: bytes, path: bytes, links: dict[tuple[int, int], str], attributes: dict[str, str]
) -> tarfile.TarInfo:
    found = os.lstat(path)
    member = tarfile.TarInfo(os.fsdecode(name) or ".")
    member.mode, member.uid, member.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    member.mtime = int(found.st_mtime)
    member.pax_headers = {_HEADER: json.dumps({"mtime_ns": found.st_mtime_ns, "xattrs": attributes})}
    kind = stat.S_IFMT(found.st_mode)
    deleted = kind == stat.S_IFCHR and found.st_rdev == 0  # the overlay file system's mark; it links them together
    if kind != stat.S_IFDIR and not deleted and found.st_nlink > 1:
        first = links.setdefault((found.st_dev, found.st_ino), member.name)
        if first != member.name:
            member.type, member.linkname = tarfile.LNKTYPE, first
            return member
    if kind == stat.S_IFREG:
        member.size = found.st_size
    elif kind == stat.S_IFLNK:
        member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(path))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        member.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        member.devmajor, member.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    else:
        member.type = tarfile.DIRTYPE if kind == stat.S_IFDIR else tarfile.FIFOTYPE
    return member


def _attributes(path: bytes) -> dict[str, str]:
    names = sorted(name for name in os.listxattr(path, follow_symlinks=False) if name not in trees.HOST_ONLY)
    return {name: base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode() for name in names}


def _escaped(name: str) -> str:
    """Keep apart what a server itself wrote and what the archive means; the overlay file system has the same way."""
    return f"{_OVERLAY}overlay.{name.removeprefix(_OVERLAY)}" if name.startswith(_OVERLAY) else name


def _find_parts(member: tarfile.TarInfo, path: bytes) -> sparse.Extents:
    """Return which parts of a file follow its header: all of it, or what a sparse one holds, which the header says."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC)
    try:
        parts = sparse.find_extents(descriptor)
    finally:
        os.close(descriptor)
    if parts is None:
        return [(0, member.size)]
    said = json.loads(member.pax_headers[_HEADER])
    member.pax_headers = {_HEADER: json.dumps(said | {"size": member.size, "parts": parts})}
    member.size = sparse.stored_bytes(parts)
    return parts


def _contents(path: bytes, parts: sparse.Extents) -> Iterator[bytes]:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME), "rb") as file:
        for start, length in parts:
            file.seek(start)
            left = length
            while left:
                chunk = file.read(min(left, _CHUNK))
                if not chunk:
                    raise OSError(f"a file of the server shrank while it was read: {os.fsdecode(path)!r}")
                left -= len(chunk)
                yield chunk


def _unpack_confined(layer: str, source: _Hashed, merged: bool) -> None:
    checked(libc.unshare(_CLONE_FS), "separating a thread's root directory")
    os.chroot(layer)
    os.chdir("/")
    directories: list[tuple[str, int]] = []
    with tarfile.open(fileobj=source, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
        for member in archive:
            _write(archive, member, directories, merged=merged)
            archive.members.clear()  # it would remember every one
    for path, mtime_ns in reversed(directories):
        os.utime(path, ns=(mtime_ns, mtime_ns))


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, directories: list[tuple[str, int]], *, merged: bool
) -> None:
    path = "/" + member.name.removeprefix("./").strip("/") if member.name != "." else "/"
    meta = json.loads(member.pax_headers[_HEADER])
    attributes = {name: base64.b64decode(value) for name, value in meta["xattrs"].items()}
    opaque = merged and attributes.pop(_OPAQUE, b"") == b"y"
    deleted = merged and member.ischr() and (member.devmajor, member.devminor) == (0, 0)
    if not _is_directory(path) or not member.isdir() or opaque:
        trees.remove(os.fsencode(path))
    if deleted:
        return
    if member.islnk():
        os.link("/" + member.linkname, path, follow_symlinks=False)
        return
    _make(archive, member, path, meta)
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode)
    if merged:
        attributes = {_unescaped(name): value for name, value in attributes.items()}
    _strip(path, keep=attributes, merged=merged)
    for name, value in attributes.items():
        os.setxattr(path, name, value, follow_symlinks=False)
    if member.isdir():
        directories.append((path, meta["mtime_ns"]))
    else:
        os.utime(path, ns=(meta["mtime_ns"], meta["mtime_ns"]), follow_symlinks=False)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _strip(path: str, keep: Container[str], *, merged: bool) -> None:
    """Remove other extended attributes: those of the image that the server took away, and what directories pass on."""
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in keep and (merged or name.startswith(trees.ACCESS_LISTS)):
            os.removexattr(path, name, follow_symlinks=False)


def _unescaped(name: str) -> str:
    """Return the name that a server itself gave.

    Raises:
        ValueError: it means something to the overlay file system that can be said nowhere else.
    """
    if not name.startswith(_OVERLAY):
        return name
    inner = name.removeprefix(_OVERLAY)
    if not inner.startswith("overlay."):
        raise ValueError(f"a directory was renamed in a way that only the overlay file system knows ({name})")
    return _OVERLAY + inner.removeprefix("overlay.")


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, meta: dict[str, Any]) -> None:
    if member.isdir():
        if not _is_directory(path):
            os.mkdir(path, 0o700)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.isreg():
        size = int(meta.get("size", member.size))
        parts = sparse.parse(meta["parts"], size, member.size) if "parts" in meta else [(0, size)]
        _copy(archive.extractfile(member), path, size, parts)
    else:
        kinds = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
        os.mknod(path, kinds[member.type] | 0o600, os.makedev(member.devmajor, member.devminor))


def _copy(content: Any, path: str, size: int, parts: sparse.Extents) -> None:
    """Write a file, each part at its place; blocks of zeros become holes, as they may have been in a sparse one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        for start, length in parts:
            file.seek(start)
            left = length
            while chunk := content.read(min(_CHUNK, left)):
                left -= len(chunk)
                if chunk.count(0) == len(chunk):
                    file.seek(len(chunk), os.SEEK_CUR)
                else:
                    file.write(chunk)
        file.truncate(size)
