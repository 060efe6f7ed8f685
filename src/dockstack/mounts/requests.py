# SPDX-License-Identifier: Apache-2.0
"""What a server asks for, and what it may have of that. Pure."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field

# linux/mount.h: what mount(2) takes. Everything else has another meaning than a new mount: bind, move, remount.
READ_ONLY, NO_EXEC = 1, 8
_MAGIC, _MAGIC_BITS = 0xC0ED0000, 0xFFFF0000
_ATTRIBUTES = {1: 0x1, 8: 0x8, 256: 0x200000, 1 << 10: 0x10, 1 << 11: 0x80, 1 << 24: 0x20}  # flag: MOUNT_ATTR_*
_FORCED = 0x2 | 0x4  # MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV
_FLAGS_OF_FILE_SYSTEM = {16: "sync", 128: "dirsync", 1 << 25: "lazytime"}
_WITHOUT_MEANING = 2 | 4 | (1 << 15) | (1 << 21)  # nosuid and nodev hold anyway; silent; relatime is the default

_TYPES = {b"ext2": "ext4", b"ext3": "ext4", b"ext4": "ext4", b"vfat": "vfat"}  # ext4's code reads all three
# Of ext4's own options, those that change neither where a journal or a quota file is nor what the kernel believes.
_OPTIONS_OF_EXT4 = {
    b"discard",
    b"nodiscard",
    b"acl",
    b"noacl",
    b"user_xattr",
    b"nouser_xattr",
    b"data=ordered",
    b"barrier=1",
}
# Of vfat's, those that say who may do what there, which is the server's root's to say.
_OPTION_OF_VFAT = re.compile(rb"(uid|gid)=\d{1,9}|[ufd]mask=[0-7]{1,4}|discard|quiet|flush")
_OF_THE_BROKER = {b"errors=remount-ro", b"defaults", b"nofail", b"rw", b"ro"}

# umount(2)
_UMOUNT_NOFOLLOW, _FORCE, _DETACH = 8, 1, 2

_BARRED = (b"/proc", b"/sys", b"/dev")


class Refusal(Exception):  # noqa: N818 - the broker refuses
    """Why a server does not get what it asks for.

    Attributes:
        number: the error that its process sees.
    """

    def __init__(self, reason: str, number: int = errno.EPERM) -> None:
        """Say why, and what the process sees."""
        super().__init__(reason)
        self.number = number


@dataclass(frozen=True)
class Wish:
    """How a file system is to be mounted.

    Attributes:
        kind: the file system, as the kernel calls it: ext4 or vfat.
        attributes: of the mount: MOUNT_ATTR_*.
        options: of the file system.
        read_only: it is not to be written to.
    """

    kind: str
    attributes: int
    options: dict[str, str | None] = field(default_factory=dict)
    read_only: bool = False


def read_mount(kind: bytes, flags: int, data: bytes) -> Wish:
    """Decide on the words of a mount(2): its file system's type, its flags and its options.

    Raises:
        Refusal: it is none of a file system on a device, or asks for what no server gets.
    """
    if flags & _MAGIC_BITS == _MAGIC:
        flags &= ~_MAGIC_BITS
    known = sum(_ATTRIBUTES) | sum(_FLAGS_OF_FILE_SYSTEM) | _WITHOUT_MEANING
    if flags & ~known:
        raise Refusal(f"flags {flags & ~known:#x}")
    if kind not in _TYPES:
        raise Refusal(f"the file system {kind!r}", errno.ENODEV)
    options: dict[str, str | None] = {"errors": "remount-ro"}
    for word in data.split(b",") if data else ():
        if word in _OPTIONS_OF_EXT4 if _TYPES[kind] == "ext4" else _OPTION_OF_VFAT.fullmatch(word):
            name, _, value = word.decode().partition("=")
            options[name] = value or None
        elif word not in _OF_THE_BROKER:
            raise Refusal(f"the option {word!r}", errno.EINVAL)
    options |= {name: None for flag, name in _FLAGS_OF_FILE_SYSTEM.items() if flags & flag}
    attributes = sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
    return Wish(_TYPES[kind], attributes | _FORCED, options, bool(flags & READ_ONLY))


def read_umount(flags: int) -> int:
    """Decide on the flags of an umount2(2).

    Raises:
        Refusal: they ask for something that is not known here.
    """
    if flags & ~(_UMOUNT_NOFOLLOW | _FORCE | _DETACH):
        raise Refusal(f"flags {flags:#x}", errno.EINVAL)
    return flags & _DETACH


def check_place(path: bytes) -> None:
    """Refuse directories where the system's own file systems are, and the root.

    Args:
        path: without links, from the server's own root.

    Raises:
        Refusal: it is one.
    """
    if not path.startswith(b"/") or path == b"/":
        raise Refusal(f"the place {path!r}")
    if any(path == barred or path.startswith(barred + b"/") for barred in _BARRED):
        raise Refusal(f"the place {path!r}, where the system's own files are")
