# SPDX-License-Identifier: Apache-2.0
"""The system calls that Python does not have: seccomp's notifications, openat2, the mount API, setns."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass

# linux/audit.h, and the numbers of mount and umount2 on each machine (asm/unistd.h)
_MACHINES = {"x86_64": (0xC000003E, 165, 166), "aarch64": (0xC00000B7, 40, 39)}
ARCHITECTURE, MOUNT, UMOUNT = _MACHINES.get(platform.machine(), (0, -1, -1))

# linux/seccomp.h
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, then seccomp_data: nr, arch, instruction pointer, args
_RESPONSE = struct.Struct("=Qqii")
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102

# The same on all machines: the numbers of calls that came after Linux 5.1.
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2 = 429, 430, 431, 432, 437
_NO_MAGIC_LINKS, _NO_SYMLINKS = 0x02, 0x04  # linux/openat2.h: RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS
# linux/mount.h
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_EMPTY_PATHS = 0x04 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
DETACH, UMOUNT_NOFOLLOW = 2, 8  # umount2(2)'s
_PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True)
class Notification:
    """A call of a process that waits for its answer.

    Attributes:
        cookie: by which it is answered.
        pid: the thread's, as this process sees it.
        number: of the system call, on ``architecture``.
        arguments: as they stood in its registers.
    """

    cookie: int
    pid: int
    number: int
    architecture: int
    arguments: tuple[int, ...]


def receive(listener: int) -> bytes | None:
    """Take the next call off a listener; None if whoever made it is gone already."""
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer, True)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    return bytes(buffer)


def decode(notification: bytes) -> Notification:
    """Read what ``receive`` returned."""
    cookie, pid, _, number, architecture, _, *arguments = _NOTIFICATION.unpack(notification)
    return Notification(cookie, pid, number, architecture, tuple(arguments))


def is_waiting(listener: int, cookie: int) -> bool:
    """Whether the call still waits for its answer."""
    try:
        fcntl.ioctl(listener, _ID_VALID, struct.pack("=Q", cookie))
    except OSError:
        return False
    return True


def answer(listener: int, cookie: int, error: int) -> bool:
    """Let a call return 0, or fail with ``error``; say whether its caller got that."""
    try:
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(cookie, 0, -error, 0))
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.EINPROGRESS):  # it is gone, or has its answer
            return False
        raise
    return True


def open_path(path: bytes, flags: int, *, links: bool = True) -> int:
    """Open a path as this process stands, but never by way of a magic link of /proc, which leads to files of ours.

    Args:
        path: a stranger's.
        flags: open(2)'s.
        links: follow symbolic links.
    """
    resolve = _NO_MAGIC_LINKS | (0 if links else _NO_SYMLINKS)
    how = ctypes.create_string_buffer(struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve))
    return _call(_OPENAT2, -100, ctypes.c_char_p(path), how, 24)


def make_mount(kind: str, source: str, options: dict[str, str | None], attributes: int) -> int:
    """Return a mount of a file system that stands nowhere yet.

    Args:
        kind: the file system's.
        source: of its bytes.
        options: what fsconfig(2) takes; None for flags.
        attributes: of the mount: MOUNT_ATTR_*.
    """
    context = _call(_FSOPEN, ctypes.c_char_p(kind.encode()), _CLOEXEC)
    try:
        for key, value in {"source": source, **options}.items():
            text = None if value is None else ctypes.c_char_p(value.encode())
            command = _SET_FLAG if value is None else _SET_STRING
            _call(_FSCONFIG, context, command, ctypes.c_char_p(key.encode()), text, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)


def place_mount(mount: int, directory: int) -> None:
    """Attach a mount to a directory of the namespace that this process is in."""
    _call(_MOVE_MOUNT, mount, ctypes.c_char_p(b""), directory, ctypes.c_char_p(b""), _EMPTY_PATHS)


def unmount(name: bytes, flags: int) -> None:
    """Take a mount off ``name``, below the working directory."""
    _check(_libc.umount2(ctypes.c_char_p(name), flags | UMOUNT_NOFOLLOW))


def enter(namespace: int) -> None:
    """Be in a mount namespace, at its root."""
    _check(_libc.setns(namespace, CLONE_NEWNS))


def leave_for_a_copy() -> None:
    """Be in a mount namespace of one's own, out of which nothing gets."""
    _check(_libc.unshare(CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None))


def mount_memory(path: bytes) -> None:
    """Mount a small file system in memory."""
    _check(_libc.mount(b"tmpfs", path, b"tmpfs", ctypes.c_ulong(0), b"size=64k,mode=755"))


def end_with_parent(signal: int) -> None:
    """Have this process killed when the one that forked it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0))


def _call(number: int, *arguments: object) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *words))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
