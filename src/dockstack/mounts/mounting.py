# SPDX-License-Identifier: Apache-2.0
"""The two stories: a volume's file system is mounted into a server, and taken off again.

Each may be told anew after it was broken off anywhere: what was done already is found done.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from dockstack.mounts import checking, kernel, loops, rates, requests
from dockstack.mounts.requests import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.mounts.caller import Standing
    from dockstack.mounts.loops import Loop
    from dockstack.mounts.records import Attached
    from dockstack.mounts.requests import Wish

LOCK_SECONDS = 60.0
_ROOT_INODE = {"ext4": 2, "vfat": 1}
_NOBODY = 65534


def find_device(standing: Standing, path: bytes, attached: tuple[Attached, ...]) -> Attached:
    """Return which of a server's volumes a path in it means.

    Raises:
        Refusal: none.
    """
    descriptor, _ = standing.find(path, 0)
    found = os.fstat(descriptor)
    os.close(descriptor)
    number = os.major(found.st_rdev), os.minor(found.st_rdev)
    for one in attached:
        if stat.S_ISBLK(found.st_mode) and (one.major, one.minor) == number:
            return one
    raise Refusal(f"{path!r} is no volume of this server")


def mount(
    standing: Standing, source: bytes, target: bytes, wish: Wish, *, attached: Callable[[], tuple[Attached, ...]]
) -> bytes:
    """Mount a volume's file system onto a directory of a server; return the directory's true name.

    Args:
        standing: where the caller stands.
        source: the device, in its words.
        target: the directory, likewise.
        wish: how.
        attached: reads the server's volumes; anew after the mount, as one may be taken away meanwhile.

    Raises:
        Refusal: it may not be, or the file system is not whole.
        FileExistsError: it is mounted there already.
    """
    had = attached()  # while we stand on the host
    with standing.entered():
        one = find_device(standing, source, had)
        place, name = standing.find(target, os.O_DIRECTORY)
    requests.check_place(name)
    if one.read_only and not wish.read_only:
        raise Refusal("the volume is attached read-only", errno.EROFS)
    device = loops.name_of(one.major, one.minor)
    if device is None:
        raise Refusal(f"{one.name} is no loop device: its writers cannot be kept away from a mounted file system")
    with loops.locked(device, LOCK_SECONDS) as volumes:

        def check() -> None:
            if one not in attached() or not loops.is_volume(volumes[0], one.volume):
                raise Refusal(f"{one.name} is no volume of this server any more")

        try:
            check()
            with _still(volumes, read_only=one.read_only) as (still, fresh):
                found = os.fstat(place)
                if (found.st_dev, found.st_ino) == (still.device, _ROOT_INODE[wish.kind]):
                    raise FileExistsError(errno.EBUSY, "it is mounted there already")
                if wish.kind == "vfat" and not fresh:
                    # Nothing tells whether the kernel has read it already, and what is mounted cannot be checked.
                    raise Refusal(f"{one.name} is mounted elsewhere", errno.EBUSY)
                made = _make(still, one, wish)
                try:
                    rates.follow(standing.caller, os.makedev(one.major, one.minor), still.device)
                    with standing.entered():
                        kernel.place_mount(made, place)
                finally:
                    os.close(made)  # or the device has a mount when the volume's size is settled
                try:
                    check()
                except Refusal:
                    _take_off(standing, name, still.device, kernel.DETACH)
                    raise
        finally:
            settle(volumes)
    return name


def unmount(standing: Standing, target: bytes, flags: int, *, again: bool) -> None:
    """Take a volume's file system off a directory of a server.

    Args:
        standing: where the caller stands.
        target: the directory, in its words.
        flags: of umount2(2).
        again: it may have been taken off already.

    Raises:
        Refusal: what is mounted there is something else.
    """
    with standing.entered():
        descriptor, name = standing.find(target, 0)
        device = os.fstat(descriptor).st_dev
        os.close(descriptor)
        standing.go_above(name)
        is_top = os.lstat(".").st_dev != device
    if not is_top and again:
        return
    unmount_device(standing, name, device, flags)


def unmount_device(standing: Standing, name: bytes, device: int, flags: int) -> None:
    """Take the file system of one of our second devices off a directory, by its true name."""
    mounted = loops.name_of(os.major(device), os.minor(device))
    if mounted is None:
        raise Refusal(f"{name!r} is no mount of a volume")
    with loops.opened(mounted) as loop:
        if not loop.status.label.startswith(loops.MOUNTED_LABEL):
            raise Refusal(f"{name!r} is no mount of a volume")
        volume = loops.find_volume(loop)
    # A volume that is detached has no device of its own any more.
    with loops.locked(volume, LOCK_SECONDS) if volume else nullcontext() as locked:
        _take_off(standing, name, device, flags)
        if locked:
            settle(locked)


def _take_off(standing: Standing, name: bytes, device: int, flags: int) -> None:
    with standing.entered():
        word = standing.go_above(name)
        if os.lstat(word).st_dev != device:
            raise Refusal(f"{name!r} has changed")
        kernel.unmount(word, flags)


def settle(volumes: tuple[Loop, ...]) -> None:
    """Give a volume's own devices their size back when nothing of it is mounted, else take it; they are locked."""
    mounted = loops.find_mounted(volumes[0])
    for volume in volumes:
        if mounted is None:
            loops.give_back(volume)
        else:
            loops.shorten(volume)


def device_at(standing: Standing, name: bytes) -> int:
    """Return the number of the device whose file system is at a true name."""
    with standing.entered():
        return os.lstat(standing.go_above(name)).st_dev


@contextmanager
def _still(volumes: tuple[Loop, ...], *, read_only: bool) -> Iterator[tuple[Loop, bool]]:
    """Have a device over a volume's file that nobody else writes to: that which is mounted already, or a fresh one."""
    mounted = loops.find_mounted(volumes[0])
    for volume in volumes:
        loops.shorten(volume)
    with loops.opened(mounted) if mounted else loops.second(volumes[0], read_only=read_only) as loop:
        yield loop, mounted is None


def _make(still: Loop, one: Attached, wish: Wish) -> int:
    """Return the mount, after a check of what the kernel is to read.

    It is made in a mount namespace of this process, where the device has the name that the server knows it by: that
    name is what its mount table shows.
    """
    node = f"/dev/{one.name}"
    kernel.leave_for_a_copy()
    kernel.mount_memory(b"/dev")
    os.mknod(node, 0o600 | stat.S_IFBLK, still.device)
    os.chown(node, _NOBODY, _NOBODY)
    os.mknod(os.devnull, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    shared = loops.is_mounted_as_ext4(still.name)
    if not shared:
        checking.check(wish.kind, node, read_only=one.read_only)
    options = wish.options | ({"ro": None} if wish.read_only else {})
    try:
        return kernel.make_mount(wish.kind, node, options, wish.attributes)
    except OSError as error:
        if not (shared and wish.read_only and error.errno == errno.EBUSY):
            raise
    return kernel.make_mount(
        wish.kind, node, wish.options, wish.attributes
    )  # it is mounted elsewhere, to be written to
