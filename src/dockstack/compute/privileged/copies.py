# SPDX-License-Identifier: Apache-2.0
"""Copies of what servers have written, of which their images are made; the server stands still for a moment only.

A copy lies beside the engine's own directories, on the same file system: there, btrfs makes one at once, XFS copies by
reference, and no other disk has to have room. On overlay2 it is the container's writable layer and the engine's own one
beneath it, which goes with the container; the layers of the server's image stay for as long as the engine has that.

What reads a running server's files is confined to the copy's own directory, where they are mounted for it alone. A
server may put a link where a directory has just been: by way of that mount, none is followed and no device is opened.
"""

# Names are bytes of strangers, so os and not pathlib:
# ruff: noqa: PTH102, PTH103, PTH106, PTH110, PTH112, PTH118, PTH119, PTH120, PTH123, PTH208

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from dockstack.compute.privileged import context, copying, layers, trees
from dockstack.compute.privileged.kernel import checked, in_thread, libc
from dockstack.names import COPIES_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

FILES, INITIAL, LOWER, MERGED, SOURCE, STANDS = (b"files", b"init", b"lower", b"merged", b"source", b"stands-still")

# linux/btrfs.h
_SNAP_CREATE_V2 = 0x50009417  # btrfs_ioctl_vol_args_v2: descriptor, transaction, flags, four unused, name
_SNAP_DESTROY = 0x5000940F  # btrfs_ioctl_vol_args: descriptor, name
_READ_ONLY = 1 << 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_LOWER = re.compile(rb"l/[A-Z0-9]{26}(:l/[A-Z0-9]{26})*")
_MOUNT_BYTES = 4095  # of one mount's options
# linux/mount.h, linux/sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_NOSYMFOLLOW = 1, 2, 4, 32, 256
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19
_ST_NOSYMFOLLOW = 0x2000  # linux/statfs.h
_CLONE_NEWNS = 0x20000

_parents = threading.Lock()  # held while one of the directories above is made or removed
_known: dict[str, tuple[trees.Known, int]] = {}  # by copy: what its first pass found, and since when changes tell


@copying.entrypoint
def begin(root: str, owner: str, name: str, layer: str, entries: int) -> None:
    """Make the first pass over what a server has written, which may go on with it meanwhile.

    Args:
        root: the engine's data root.
        owner: whose copies these are: the host's name.
        name: the copy's; one of this name is made anew.
        layer: the container's writable layer, or its subvolume.
        entries: how many files there may be.

    Raises:
        OSError: it does not fit on the disk (ENOSPC), has too many files (EOVERFLOW), or cannot be read.
        ValueError: there can be no such copy.
    """
    layers.check_layer(layer)
    path = locate(root, owner, name)
    with _parents:
        _remove(path)
        os.makedirs(path, mode=0o700)
    if layers.is_subvolume(layer):
        trees.write_out(os.fsencode(layer))  # what is written is not waited for while the server stands still
        return
    for inside in (FILES, INITIAL, MERGED, SOURCE):
        os.mkdir(os.path.join(os.fsencode(path), inside), 0o700)
    beneath, lower = _beneath(layer)
    with open(os.path.join(os.fsencode(path), LOWER), "wb") as file:
        file.write(lower)

    def copy_beneath(source: bytes) -> None:
        trees.Pass(source, b"/" + INITIAL, {}, 0, still=True, entries=entries).go()

    in_thread(_confined, path, beneath, copy_beneath)
    _known[path] = in_thread(_confined, path, layer, lambda source: _first(source, entries))


@copying.entrypoint
def complete(root: str, owner: str, name: str, layer: str, entries: int) -> None:
    """Bring a copy up to date, while its server stands still.

    Raises:
        OSError: as ``begin``.
        ValueError: as ``begin``.
    """
    layers.check_layer(layer)
    path = locate(root, owner, name)
    if layers.is_subvolume(layer):
        _snapshot(layer, path)
    else:
        known, since_ns = _known.pop(path, ({}, 0))

        def copy_changed(source: bytes) -> None:
            trees.Pass(source, b"/" + FILES, known, since_ns, still=True, entries=entries).go()

        in_thread(_confined, path, layer, copy_changed)


@copying.entrypoint
def note(root: str, owner: str, name: str, container_id: str) -> None:
    """Note which container stands still for a copy, so that whoever finds it lets that go on; none if empty."""
    path = os.path.join(os.fsencode(locate(root, owner, name)), STANDS)
    with open(path, "w", encoding="ascii") as file:
        file.write(container_id)
        file.flush()
        os.fsync(file.fileno())


@context.entrypoint
def list_all(root: str, owner: str) -> list[tuple[str, str]]:
    """List a host's copies, each with the id of the container that stands still for it, or an empty one.

    Each start of the service asks, and mostly there is none: that is no reason to start the daemon that copies.
    """
    directory = os.path.dirname(locate(root, owner, "any"))
    found = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        try:
            with open(os.path.join(directory, name, os.fsdecode(STANDS)), encoding="ascii") as file:
                found.append((name, file.read(100)))
        except FileNotFoundError:
            found.append((name, ""))
    return found


@copying.entrypoint
def remove(root: str, owner: str, name: str) -> None:
    """Remove a copy; absent is success."""
    path = locate(root, owner, name)
    _known.pop(path, None)
    with _parents:
        _remove(path)
        with suppress(OSError):  # others are there
            os.removedirs(os.path.dirname(path))


def show(path: str, work: Callable[[bytes], None]) -> None:
    """Work on the root file system that a copy shows, confined to it.

    Args:
        path: the copy's directory.
        work: gets the place of the root file system.
    """
    in_thread(_merged, path, work)


def enter_root(layer: str) -> None:
    """Give the calling thread the root file system of a container that does not run, and no device in it."""
    enter_own_mounts()
    if not layers.is_subvolume(layer):
        directory = os.path.dirname(layer)
        beneath, lower = _beneath(layer)
        os.chdir(os.path.dirname(directory))
        names = [os.path.basename(os.path.dirname(beneath)), os.fsdecode(lower), *[os.path.basename(directory)] * 2]
        options = "lowerdir={}/diff:{},upperdir={}/diff,workdir={}/work".format(*names)
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOSYMFOLLOW
        mount(b"overlay", os.fsencode(layer), b"overlay", flags, os.fsencode(options))
    else:
        show_guarded(layer, layer)
    os.chroot(layer)
    os.chdir("/")


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes = b"") -> None:
    """Do what the system call of this name does.

    Raises:
        OSError: refused.
    """
    if len(options) > _MOUNT_BYTES:
        raise OSError(errno.E2BIG, "the server's image has more layers than can be mounted at a time")
    checked(
        libc.mount(source, target, kind, ctypes.c_ulong(flags), options or None),
        f"mounting {os.fsdecode(source)} at {os.fsdecode(target)}",
    )


def show_guarded(source: str, place: str, flags: int = 0) -> None:
    """Show a directory at a place where no device can be opened, and on Linux 5.10 and later no link is followed.

    Args:
        source: the directory.
        place: where; may be itself.
        flags: more of them, as of ``mount``.
    """
    where = os.fsencode(place)
    mount(os.fsencode(source), where, None, _MS_BIND)
    flags |= _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_NODEV | _MS_NOSYMFOLLOW
    mount(b"none", where, None, flags)


def enter_own_mounts() -> None:
    """Give the calling thread mounts of its own, which end with it and which nobody else sees."""
    checked(libc.unshare(_CLONE_NEWNS), "separating a thread's mounts")
    mount(b"none", b"/", None, _MS_REC | _MS_SLAVE)


def locate(root: str, owner: str, name: str) -> str:
    """Return a copy's directory.

    Raises:
        ValueError: there can be no such copy.
    """
    if not root.startswith("/") or os.path.realpath(root) != root:
        raise ValueError(f"{root!r} is no data root of an engine")
    if not _NAME.fullmatch(owner) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} of {owner!r} is no name of a copy")
    return os.path.join(root, COPIES_DIRECTORY, owner, name)


def _beneath(layer: str) -> tuple[str, bytes]:
    """Return the engine's own layer beneath a container's, and the image's layers as the engine names them."""
    directory = os.path.dirname(layer)
    with open(os.path.join(directory, "lower"), "rb") as file:
        initial, _, lower = file.read().strip().partition(b":")
    beneath = f"{directory}-init/diff"
    known = _LOWER.fullmatch(initial) and _LOWER.fullmatch(lower)
    if not known or os.path.realpath(os.path.join(os.path.dirname(directory), os.fsdecode(initial))) != beneath:
        raise ValueError(f"the engine does not say what is beneath {layer!r} in a way that is known")
    return beneath, lower


def _first(source: bytes, entries: int) -> tuple[trees.Known, int]:
    target = b"/" + FILES
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        trees.require_room(descriptor, trees.allocated(source, trees.Names(entries)))
    finally:
        os.close(descriptor)
    since_ns = trees.write_out(source)
    done = trees.Pass(source, target, {}, since_ns, still=False, entries=entries)
    done.go()
    return done.found, since_ns


def _confined(path: str, layer: str, work: Callable[[bytes], _T]) -> _T:
    """Show a layer in a copy's directory, make that the root directory, and work."""
    enter_own_mounts()
    place = os.path.join(path, os.fsdecode(SOURCE))
    show_guarded(layer, place, _MS_RDONLY)
    if not os.statvfs(place).f_flag & _ST_NOSYMFOLLOW:  # an older kernel says nothing when it is asked
        raise OSError(errno.EOPNOTSUPP, "copying what a server may change meanwhile needs Linux 5.10 or later")
    os.chroot(path)
    os.chdir("/")
    return work(b"/" + SOURCE)


def _merged(path: str, work: Callable[[bytes], None]) -> None:
    enter_own_mounts()
    inside = os.fsencode(path)
    place = FILES
    if os.path.exists(os.path.join(inside, LOWER)):
        with open(os.path.join(inside, LOWER), "rb") as file:
            lower = file.read()
        if not _LOWER.fullmatch(lower):
            raise ValueError("the note of what is beneath a copy is damaged")
        place = MERGED
        os.chdir(os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(path))), "overlay2"))
        above = os.path.join(b"..", *inside.split(b"/")[-3:])
        options = b"lowerdir=%s/%s:%s/%s:%s" % (above, FILES, above, INITIAL, lower)
        mount(b"overlay", os.path.join(inside, MERGED), b"overlay", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, options)
    os.chroot(path)
    os.chdir("/")
    work(b"/" + place)


def _snapshot(layer: str, path: str) -> None:
    name = FILES.ljust(4040, b"\0")
    source = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    target = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.ioctl(target, _SNAP_CREATE_V2, bytearray(struct.pack("=qQQ32x", source, 0, _READ_ONLY) + name))
    finally:
        os.close(source)
        os.close(target)


def _remove(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.ioctl(descriptor, _SNAP_DESTROY, bytearray(struct.pack("=q", 0) + FILES.ljust(4088, b"\0")))
    except OSError as error:  # it is no subvolume, or not there
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)
    in_thread(_empty, path)
    os.rmdir(path)


def _empty(path: str) -> None:
    """Remove what is in a directory, as the root directory: a whole path could be longer than the kernel takes."""
    enter_own_mounts()
    os.chroot(path)
    os.chdir("/")
    for name in os.listdir(b"/"):
        trees.remove(b"/" + name)
