# SPDX-License-Identifier: Apache-2.0
"""The process that waits for its answer: what it asked for, who it is, and where it stands.

Its memory and its links change as it likes, so each is read once, through descriptors that stay its own even when its
number becomes another process's.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.mounts import kernel
from dockstack.mounts.requests import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH = 4096  # PATH_MAX; mount's options take a page, too
_PAGE = 4096


@dataclass(frozen=True)
class Caller:
    """An open process.

    Attributes:
        process: its directory in /proc.
        memory: its memory.
        root: its root directory.
        directory: its working directory.
        namespace: of its mounts.
    """

    process: int
    memory: int
    root: int
    directory: int
    namespace: int


@contextmanager
def opened(pid: int) -> Iterator[Caller]:
    """Open a process for as long as the block runs; whether it is still the right one is for the caller to ask.

    Raises:
        OSError: it is gone.
    """
    descriptors: list[int] = []
    try:
        descriptors.append(os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for name, flags in (("mem", os.O_RDONLY), ("root", os.O_PATH), ("cwd", os.O_PATH), ("ns/mnt", os.O_RDONLY)):
            descriptors.append(os.open(name, flags | os.O_CLOEXEC, dir_fd=descriptors[0]))
        yield Caller(*descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def read_text(caller: Caller, address: int) -> bytes:
    """Read a string of the process, which may end just where its memory does.

    Raises:
        Refusal: there is none, or it has no end.
    """
    if not address:
        return b""
    text = b""
    while len(text) < _PATH:
        length = _PAGE - (address + len(text)) % _PAGE
        try:
            part = os.pread(caller.memory, length, address + len(text))
        except (OSError, OverflowError):
            part = b""
        if not part:
            raise Refusal("no text", errno.EFAULT)
        text += part
        if b"\0" in part:
            return text.partition(b"\0")[0]
    raise Refusal("a text without end", errno.ENAMETOOLONG)


def check_root(caller: Caller, namespace: int) -> None:
    """Refuse everybody but root, in the mount namespace of the server itself.

    Args:
        caller: the process.
        namespace: the number of the server's.

    Raises:
        Refusal: it is somebody else, or elsewhere.
    """
    status = os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=caller.process)
    with open(status, "rb") as file:  # noqa: PTH123 - it has no path
        found = re.search(rb"^Uid:\t\d+\t(\d+)\t", file.read(), re.MULTILINE)
    if not found or found[1] != b"0":
        raise Refusal("not root")
    if os.fstat(caller.namespace).st_ino != namespace:
        raise Refusal("a mount namespace that is not the server's")


class Standing:
    """This process where the caller stands: in its namespace, at its root and in its directory."""

    def __init__(self, caller: Caller) -> None:
        """Look where we stand ourselves, which is where ``left`` brings us back to."""
        self.caller = caller
        self._own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._links = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._top = -1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Stand there for as long as the block runs."""
        kernel.enter(self.caller.namespace)
        try:
            self._top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            _change_root(self.caller.root)
            os.fchdir(self.caller.directory)
            yield
        finally:
            kernel.enter(self._own)

    def find(self, path: bytes, flags: int) -> tuple[int, bytes]:
        """Open a path as the caller would; return it with its true name from the server's own root."""
        descriptor = kernel.open_path(path, os.O_PATH | flags)
        _change_root(self._top)
        name = os.readlink(b"%d" % descriptor, dir_fd=self._links)
        _change_root(self.caller.root)
        os.fchdir(self.caller.directory)
        return descriptor, name

    def go_above(self, name: bytes) -> bytes:
        """Make the directory that holds a true name the working one; return the last word."""
        _change_root(self._top)
        above, _, word = name.rpartition(b"/")
        descriptor = kernel.open_path(above or b"/", os.O_PATH | os.O_DIRECTORY, links=False)
        os.fchdir(descriptor)
        os.close(descriptor)
        return word


def _change_root(directory: int) -> None:
    os.fchdir(directory)
    os.chroot(".")
