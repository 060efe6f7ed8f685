# SPDX-License-Identifier: Apache-2.0
"""A tree of files copied in two passes, of which only the second needs it to stand still.

The second pass copies what may have changed since the moment before the first, told without reading a file: every
change of a file's content, attributes or links gives it another change time, which nothing but the kernel sets. Two
things could hide a change. A process may write to memory that it has mapped of a file, which tells the kernel only at
the first write to a page that was written out. And the kernel's clock has a grain. So the tree's file system is written
out before the first pass, and whatever changed after shortly before *that* is copied again.
"""

# Names are bytes of strangers, so os and not pathlib:
# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH115, PTH118, PTH208, PTH211

from __future__ import annotations

import errno
import os
import stat
import time

from dockstack.compute.privileged import sparse
from dockstack.compute.privileged.kernel import checked, libc

RESERVE = 256 << 20  # bytes that copies leave free on the engine's disk
NAME_BYTES = 256 << 20  # that all paths of a tree may have together
_GRAIN_NS = 100_000_000  # more than the kernel's clock for files ever lags behind
_VANISHED = frozenset(  # or became something else: a link on the way (ELOOP), a device (EACCES)
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO, errno.ESTALE, errno.ENODATA}
)
# Documentation/filesystems/overlayfs.rst: these tie a layer to the inodes of this host; the kernel makes them anew.
HOST_ONLY = tuple(f"trusted.overlay.{name}" for name in ("origin", "impure", "nlink", "upper", "uuid"))

ACCESS_LISTS = "system.posix_acl_"  # what is made in a directory gets that directory's default one

Known = dict[bytes, tuple[int, int]]  # by name, inode number and kind of what a pass has copied


class Names:
    """The names in a tree, no more of them than this host takes: all are kept in memory, and a server makes them."""

    def __init__(self, entries: int) -> None:
        """Begin with none.

        Args:
            entries: how many there may be.
        """
        self._entries = self._left = entries
        self._bytes = NAME_BYTES

    def list(self, directory: bytes) -> list[bytes]:
        """Return those in a directory, the last first.

        Raises:
            OSError: there are too many (EOVERFLOW).
        """
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                self._left -= 1
                self._bytes -= len(entry.path)
                if self._left < 0 or self._bytes < 0:
                    raise OSError(
                        errno.EOVERFLOW,
                        f"they are more than {self._entries}, or their names have {NAME_BYTES >> 20} MiB together",
                    )
                found.append(entry.name)
        return sorted(found, reverse=True)


def allocated(tree: bytes, names: Names) -> int:
    """Return the bytes that a tree takes on its disk; what vanishes meanwhile does not count.

    Raises:
        OSError: it has too many names (EOVERFLOW), or cannot be read.
    """
    total, waiting = 0, [(tree, [b""])]
    while waiting:
        directory, left = waiting[-1]
        if not left:
            waiting.pop()
            continue
        name = left.pop()
        path = os.path.join(directory, name) if name else directory
        try:
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                waiting.append((path, names.list(path)))
        except OSError as error:
            _require_vanished(error)
            continue
        total += found.st_blocks * 512 // max(found.st_nlink, 1) if stat.S_ISREG(found.st_mode) else 0
    return total


def write_out(tree: bytes) -> int:
    """Have a tree's file system write to its disk what it holds; return since when changes tell themselves."""
    since_ns = time.time_ns() - _GRAIN_NS
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        checked(libc.syncfs(descriptor), "writing the server's files to the disk")
    finally:
        os.close(descriptor)
    return since_ns


class Pass:
    """One pass over a tree."""

    def __init__(self, source: bytes, target: bytes, known: Known, since_ns: int, *, still: bool, entries: int) -> None:
        """Prepare it.

        Args:
            source: the tree.
            target: its copy, of an earlier pass or empty.
            known: what the earlier pass has copied.
            since_ns: what has not changed since then is as the earlier pass has copied it.
            still: nothing changes meanwhile, and no pass follows. Otherwise, what vanishes is left out.
            entries: how many files there may be.
        """
        self._source, self._target, self._still = source, target, still
        self._known, self._since_ns = known, since_ns
        self._names = Names(entries)
        self._links: dict[tuple[int, int], bytes] = {}
        self._directories: list[tuple[bytes, os.stat_result]] = []
        self.found: Known = {}

    def go(self) -> None:
        """Copy.

        Raises:
            OSError: a file cannot be copied, there are too many (EOVERFLOW), or the disk would have less than
                ``RESERVE`` left.
        """
        waiting = [(b"", [b""], False)]
        while waiting:
            directory, left, anew = waiting[-1]
            if not left:
                waiting.pop()
                continue
            name = os.path.join(directory, left.pop())
            try:
                waiting.append((name, *self._bring(name, anew=anew)))
            except OSError as error:
                if self._still:
                    raise
                _require_vanished(error)
        for name, found in reversed(self._directories):
            path = os.path.join(self._target, name)
            os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))

    def _bring(self, name: bytes, *, anew: bool) -> tuple[list[bytes], bool]:
        """Copy one file; return the names in it if it is a directory, and whether it is another than before."""
        source, target = os.path.join(self._source, name), os.path.join(self._target, name)
        found = os.lstat(source)
        identity = (found.st_ino, stat.S_IFMT(found.st_mode))
        same = not anew and self._known.get(name) == identity
        changed = not same or found.st_ctime_ns >= self._since_ns
        if stat.S_ISDIR(found.st_mode):
            inside = self._directory(source, target, name, found, same=same, changed=changed)
        else:
            inside = []
            if changed:
                self._file(source, target, name, found)
        if not self._still:
            self.found[name] = identity
        return inside, not same and bool(name)

    def _directory(
        self, source: bytes, target: bytes, name: bytes, found: os.stat_result, *, same: bool, changed: bool
    ) -> list[bytes]:
        names = self._names.list(source)
        if not same and name:
            remove(target)
            os.mkdir(target, 0o700)
        if same and changed:
            for gone in set(os.listdir(target)) - set(names):
                remove(os.path.join(target, gone))
        if changed:
            give(target, found, attributes(source))
        self._directories.append((name, found))
        return names

    def _file(self, source: bytes, target: bytes, name: bytes, found: os.stat_result) -> None:
        remove(target)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFSOCK:
            return  # nobody listens there in a copy
        deleted = kind == stat.S_IFCHR and found.st_rdev == 0  # the overlay file system's mark; it links them together
        if found.st_nlink > 1 and not deleted:
            first = self._links.setdefault((found.st_dev, found.st_ino), name)
            if first != name:
                os.link(os.path.join(self._target, first), target, follow_symlinks=False)
                return
        if kind == stat.S_IFREG:
            self._regular(source, target, found)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source), target)
        else:
            os.mknod(target, kind | 0o600, found.st_rdev)
        if deleted:
            return
        give(target, found, attributes(source))
        os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns), follow_symlinks=False)

    def _regular(self, source: bytes, target: bytes, found: os.stat_result) -> None:
        # a running server may have put a pipe there meanwhile, whose other end nobody opens
        origin = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOATIME | os.O_CLOEXEC)
        try:
            now = os.fstat(origin)
            if not stat.S_ISREG(now.st_mode) or now.st_ino != found.st_ino:
                raise OSError(errno.ESTALE, "a file became another while it was copied")
            copied = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                extents = sparse.find_extents(origin)
                extents = [(0, now.st_size)] if extents is None else extents
                require_room(copied, sparse.stored_bytes(extents))
                sparse.copy(origin, copied, extents)
                os.ftruncate(copied, now.st_size)
            finally:
                os.close(copied)
        finally:
            os.close(origin)


def require_room(descriptor: int, size: int) -> None:
    """See to it that a disk keeps its reserve.

    Args:
        descriptor: a file on it.
        size: bytes that are about to be written.

    Raises:
        OSError: it would not (ENOSPC).
    """
    disk = os.fstatvfs(descriptor)
    free = disk.f_bavail * disk.f_frsize
    if size + RESERVE > free:
        raise OSError(
            errno.ENOSPC, f"a copy of {size >> 20} MiB does not fit: {free >> 20} MiB are free, {RESERVE >> 20} stay so"
        )


def attributes(path: bytes) -> dict[str, bytes]:
    """Return a file's extended attributes, without those that mean something on this host alone."""
    names = sorted(name for name in os.listxattr(path, follow_symlinks=False) if name not in HOST_ONLY)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def give(path: bytes, like: os.stat_result, wanted: dict[str, bytes]) -> None:
    """Give a file an owner, a mode and its extended attributes, in the order in which none undoes another."""
    os.chown(path, like.st_uid, like.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(like.st_mode):
        os.chmod(path, stat.S_IMODE(like.st_mode))
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in wanted:
            os.removexattr(path, name, follow_symlinks=False)
    for name, value in wanted.items():
        os.setxattr(path, name, value, follow_symlinks=False)


def remove(path: bytes) -> None:
    """Remove whatever stands there, however deep it is; nothing is fine."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
        return
    directories = [path]
    for directory in directories:  # it grows
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                else:
                    os.unlink(entry.path)
    for directory in reversed(directories):
        os.rmdir(directory)


def _require_vanished(error: OSError) -> None:
    """Accept that a running server removed or replaced a file; raise what is anything else."""
    if error.errno not in _VANISHED:
        raise error
