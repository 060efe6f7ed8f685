# SPDX-License-Identifier: Apache-2.0
"""A pool: a directory whose files are volumes and snapshots; nothing here knows Cinder.

A file is made under another name and gets its own when all of it is on the disk, so that whoever finds it finds it
whole, whatever was killed. What takes long (a copy, a flush) is done by programs: cinder-volume's threads share one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

UNFINISHED = ".new"
LOCK = ".lock"
OTHERS = 0o007
PRIVATE = 0o600
FICLONE = 0x40049409  # linux/fs.h
NO_CLONES = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS}
BLOCK = 4096


class PoolError(DockstackError):
    """What was asked of a pool cannot be done."""


class Pool:
    """One directory; it belongs to one process, which has opened it.

    Attributes:
        directory: where the files are.
        clones: whether its file system shares blocks between files: a copy is then made at one moment, and at once.
    """

    def __init__(self, directory: Path, run: Callable[..., object]) -> None:
        """Use a directory.

        Args:
            directory: it must exist, closed to other users.
            run: runs a program with arguments, and raises if that fails.
        """
        self.directory = directory
        self.clones = False
        self._run = run
        self._lock: int | None = None

    def open(self) -> list[str]:
        """Make the pool this process's own, and ready; return the names of what a killed one had not finished.

        Raises:
            PoolError: the directory does not do, or another process has it.
        """
        self._refuse_unfit()
        self._take()
        left = self._sweep()
        self.clones = self._probe()
        return left

    def path(self, name: str) -> Path:
        """Return the file of a volume or a snapshot."""
        return self.directory / name

    def size(self, name: str) -> int:
        """Return the bytes that a file pretends to have.

        Raises:
            PoolError: it is not there, or no file.
        """
        try:
            found = self.path(name).lstat()
        except FileNotFoundError as error:
            raise PoolError(
                f"{self.path(name)} is missing.", "Was it removed by hand, or is a mount missing?"
            ) from error
        if not stat.S_ISREG(found.st_mode):
            raise PoolError(f"{self.path(name)} is no file.", "Put back what belongs there.")
        return found.st_size

    @contextmanager
    def new(self, name: str, size: int = 0) -> Iterator[Path]:
        """Yield an empty file that becomes ``name``, grown to a size, when the block ends; or is gone if that fails."""
        unfinished = self.directory / f".{name}{UNFINISHED}"
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE))
        try:
            yield unfinished
            _grow(unfinished, size)
            self._run("sync", str(unfinished))
            unfinished.replace(self.path(name))
            self._run("sync", str(self.directory))
        finally:
            unfinished.unlink(missing_ok=True)

    def create(self, name: str, size: int) -> None:
        """Make a file of zeros, which takes no room until it is written to."""
        with self.new(name, size):
            pass

    def copy(self, source: Path, name: str, size: int = 0) -> None:
        """Make a file like another one, of at least a size, in place of one that has that name.

        Where the pool has clones, it is the other at one moment, also while somebody writes to that. Elsewhere it is
        read bit by bit, so nobody may write meanwhile.
        """
        with self.new(name, size) as unfinished:
            how = "always" if self.clones and source.parent == self.directory else "auto"
            self._run("cp", f"--reflink={how}", "--sparse=auto", "--", str(source), str(unfinished))

    def grow(self, name: str, size: int) -> None:
        """Have a file of at least a size, in place, also while it is in use.

        Raises:
            PoolError: it is not there.
        """
        self.size(name)
        if _grow(self.path(name), size):
            self._run("sync", str(self.path(name)))

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        self.path(name).unlink(missing_ok=True)

    def adopt(self, present: str, name: str, size: int) -> None:
        """Give a file of the pool another name, and at least a size.

        Raises:
            PoolError: there is no such file, or the name is taken.
        """
        self.size(present)
        if os.path.lexists(self.path(name)):
            raise PoolError(f"{self.path(name)} is there already.", "Take it away, or choose another name.")
        try:
            self.path(present).chmod(PRIVATE)
        except PermissionError as error:
            raise PoolError(f"{self.path(present)} belongs to somebody else.", "Give it to cinder's user.") from error
        _grow(self.path(present), size)
        self.path(present).rename(self.path(name))
        self._run("sync", str(self.directory))

    def files(self) -> dict[str, int]:
        """Return the bytes that each finished file pretends to have, by its name."""
        found = {}
        with os.scandir(self.directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                        found[entry.name] = entry.stat(follow_symlinks=False).st_size
        return found

    def room(self) -> tuple[int, int]:
        """Return the bytes of the file system, and those that are free."""
        found = os.statvfs(self.directory)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def _refuse_unfit(self) -> None:
        try:
            found = self.directory.lstat()
        except FileNotFoundError as error:
            raise PoolError(f"{self.directory} is missing.", "Make it, or mount what it is on.") from error
        if not stat.S_ISDIR(found.st_mode):
            raise PoolError(f"{self.directory} is no directory.", "Name one.")
        if found.st_mode & OTHERS:
            raise PoolError(f"{self.directory} is open to all users.", f"Close it: chmod o= {self.directory}")
        if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            raise PoolError(f"{self.directory} belongs to somebody else.", "Give it to cinder's user.")

    def _take(self) -> None:
        """Hold the pool as long as this process lives: two would sweep away each other's unfinished files."""
        if self._lock is not None:
            return
        lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise PoolError(
                f"Another process uses {self.directory}.", "Give each backend a pool of its own."
            ) from error
        self._lock = lock

    def _sweep(self) -> list[str]:
        left = sorted(path.name for path in self.directory.glob(f".*{UNFINISHED}"))
        for name in left:
            self.remove(name)
        return left

    def _probe(self) -> bool:
        """Ask the file system by cloning a block: what it is called does not tell."""
        one, other = (self.directory / f".{name}{UNFINISHED}" for name in ("probe", "probe-clone"))
        try:
            with one.open("w+b") as source, other.open("w+b") as target:
                source.write(bytes(BLOCK))
                source.flush()
                fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        except OSError as error:
            if error.errno not in NO_CLONES:
                raise
            return False
        finally:
            one.unlink(missing_ok=True)
            other.unlink(missing_ok=True)
        return True


def _grow(path: Path, size: int) -> bool:
    """Have a file of at least a size; never shorten one. Return whether it grew."""
    grows = path.stat().st_size < size
    if grows:
        os.truncate(path, size)
    return grows
