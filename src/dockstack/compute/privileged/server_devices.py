# SPDX-License-Identifier: Apache-2.0
"""The volumes inside a server that runs: the rule, the node, and what tells programs of block devices.

At each start the runtime makes all of this itself; here it is done for one that runs already. A server may have changed
its /dev at will: what is made there replaces whatever has the name, and no link of the server's is followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from dockstack.compute.privileged import attaching, device_rules, mounts, volumes
from dockstack.compute.privileged.kernel import checked, in_thread, libc
from dockstack.names import volume_link

DISK_GROUP = 6  # of every distribution
_LINKS = ("disk", "by-id")
_VIEW = re.compile(r"(/[\w.-]+)+")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@attaching.entrypoint
def present(pid: int, container_id: str, server: str, volume: str, views: list[list[str]]) -> bool:
    """Let a server that runs use a volume that it holds; say whether it still ran. Again is fine.

    Args:
        pid: its first process.
        container_id: the engine's id of its container.
        server: its uuid.
        volume: the volume's uuid; what is written down of it says which device that is.
        views: what shows the server its devices: a path of this host, and where it appears in the server.

    Raises:
        OSError: the kernel refused.
    """
    record = volumes.read(server, volume)
    number = volumes.number_of(record)
    try:
        namespace = os.open(f"/proc/{int(pid)}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return False
    trees: dict[str, int] = {}
    try:
        groups = device_rules.find_groups(pid, container_id)
        for source, destination in views:
            if not _VIEW.fullmatch(source) or not _VIEW.fullmatch(destination):
                raise ValueError(f"{source!r} is no view for {destination!r}")
            trees[destination] = mounts.clone(source, read_only=True)
        device_rules.allow(groups, number, read_only=bool(record["read_only"]))
        in_thread(_show, namespace, str(record["device"]), number, volume_link(volume), trees)
    except device_rules.Gone:
        return False
    finally:
        for descriptor in (namespace, *trees.values()):
            os.close(descriptor)
    return True


@attaching.entrypoint
def allow_again(pid: int, container_id: str, server: str) -> None:
    """Let a server that runs use its volumes, if somebody else has changed its rules; one that has ended is fine."""
    with contextlib.suppress(device_rules.Gone):
        groups = device_rules.find_groups(pid, container_id)
        for volume in volumes.list_of(server):
            record = volumes.read(server, volume)
            if record["device"] != volumes.ROOT:
                device_rules.allow(groups, volumes.number_of(record), read_only=bool(record["read_only"]))


@attaching.entrypoint
def withdraw(pid: int, container_id: str, server: str, volume: str) -> bool:
    """Let a server that runs use a volume no more; say whether it did so far. Again is fine.

    What it has mounted is written out and unmounted, or let go of if it is in use.
    """
    try:
        record = volumes.read(server, volume)
        namespace = os.open(f"/proc/{int(pid)}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return False
    number = volumes.number_of(record)
    try:
        groups = device_rules.find_groups(pid, container_id)
        numbers = {number, *volumes.find_own(volume)}  # it may have had another one before
        for each in numbers:
            device_rules.deny(groups, each)
        names = str(record["device"]), volume_link(volume)
        in_thread(_hide, namespace, numbers, names, _list_mounts(pid, *numbers, *volumes.find_mounted(volume)))
        for each in {*numbers, *volumes.find_mounted(volume)}:
            device_rules.limit(groups, each, [0] * 4)
    except device_rules.Gone:
        return False
    finally:
        os.close(namespace)
    return True


@attaching.entrypoint
def require_changeable(pid: int, container_id: str) -> None:
    """Refuse a server that runs and cannot be given devices before it is stopped.

    Raises:
        OSError: saying why.
    """
    with contextlib.suppress(device_rules.Gone):
        device_rules.check(device_rules.find_groups(pid, container_id))


@attaching.entrypoint
def limit(pid: int, container_id: str, server: str, volume: str, rates: list[int]) -> None:
    """Bound what a server that runs moves to and from a volume, as ``device_rules.limit`` has it."""
    with contextlib.suppress(device_rules.Gone):
        groups = device_rules.find_groups(pid, container_id)
        for number in {volumes.number_of(volumes.read(server, volume)), *volumes.find_mounted(volume)}:
            device_rules.limit(groups, number, rates)


@attaching.entrypoint
def is_used(pid: int, container_id: str, server: str, volume: str) -> bool:
    """Say whether a process of a server has a volume open, or whether it is mounted there, or by any mount broker."""
    if volumes.is_mounted(volume):
        return True
    number = volumes.number_of(volumes.read(server, volume))
    try:
        groups = device_rules.find_groups(pid, container_id)
    except device_rules.Gone:
        return False
    processes = _list_processes(groups.get("devices") or groups.get("") or next(iter(groups.values())))
    return bool(_list_mounts(pid, number)) or any(_has_open(process, number) for process in processes)


def _list_processes(group: Path) -> list[int]:
    """List a server's processes. Groups below its own are its own making: they vanish, or do not tell theirs."""
    found: list[int] = []
    for directory, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            found += [int(line) for line in Path(directory, "cgroup.procs").read_text().split()]
    return found


@attaching.entrypoint
def write_out(pid: int, container_id: str, server: str) -> None:
    """Have what a server that runs has written on its volumes: to the devices, and to file systems wherever mounted.

    A device knows what is mounted of it in any namespace, but not whether content of files was lost; a file system
    does, since it was opened. One that has ended is fine.

    Raises:
        OSError: some of it is lost.
    """
    numbers: set[int] = set()
    for volume in volumes.list_of(server):
        numbers |= {volumes.number_of(volumes.read(server, volume)), *volumes.find_mounted(volume)}
    try:
        device_rules.find_groups(pid, container_id)
        namespace = os.open(f"/proc/{int(pid)}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, device_rules.Gone):
        return
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, namespace)
        roots = in_thread(_open_roots, namespace, _list_mounts(pid, *numbers), numbers)
        for root in roots:
            opened.callback(os.close, root)
        for number in numbers:
            volumes.write_out(number)
        for root in roots:
            checked(libc.syncfs(root), "writing out a file system")


def _open_roots(namespace: int, mounted: list[str], numbers: set[int]) -> list[int]:
    """Work in the server's mount namespace; the thread ends in there.

    The server may have put anything in the place of what was mounted: no device is opened, and no other file system
    taken for its own.
    """
    mounts.enter(namespace)
    found: list[int] = []
    for path in mounted:
        with contextlib.suppress(OSError):
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if os.fstat(root).st_dev in numbers:
                found.append(root)
            else:
                os.close(root)
    return found


def _show(namespace: int, name: str, number: int, link: str, trees: dict[str, int]) -> None:
    """Work in the server's mount namespace; the thread ends in there."""
    mounts.enter(namespace)
    directory = os.open("/dev", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    opened = [directory]
    try:
        new = f".{name}.new"
        _unlink(new, directory)
        os.mknod(new, stat.S_IFBLK | 0o600, number, dir_fd=directory)
        os.chown(new, 0, DISK_GROUP, dir_fd=directory, follow_symlinks=False)
        os.chmod(new, 0o660, dir_fd=directory)  # a node that was just made here, under a name that is no link
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
        for part in _LINKS:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=opened[-1])
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            opened.append(os.open(part, flags, dir_fd=opened[-1]))
        _unlink(link, opened[-1])
        os.symlink(f"../../{name}", link, dir_fd=opened[-1])
    finally:
        for descriptor in opened:
            os.close(descriptor)
    for path, tree in trees.items():
        _cover(path, tree)


def _hide(namespace: int, numbers: set[int], names: tuple[str, str], mounted: list[str]) -> None:
    """Work in the server's mount namespace; the thread ends in there."""
    mounts.enter(namespace)
    for path in reversed(mounted):
        mounts.unmount(path, busy=False) or mounts.unmount(path, busy=True)
    name, link = names
    node, found = Path("/dev", name), Path("/dev", *_LINKS, link)
    with contextlib.suppress(OSError):
        if node.lstat().st_rdev in numbers:
            node.unlink()
    with contextlib.suppress(OSError):
        if found.is_symlink():
            found.unlink()


def _unlink(name: str, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _cover(path: str, tree: int) -> None:
    """Mount a view over a path of the server, unless it is there; a path that the kernel lacks is passed over."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return
    wanted = os.fstat(tree)
    if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
        mounts.move(tree, path)


def _list_mounts(pid: int, *numbers: int) -> list[str]:
    """List where a process sees devices mounted, in the order of mounting."""
    wanted = {f"{os.major(number)}:{os.minor(number)}" for number in numbers}
    try:
        lines = Path(f"/proc/{int(pid)}/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = [line.split() for line in lines]
    return [_ESCAPED.sub(lambda code: chr(int(code[1], 8)), words[4]) for words in found if words[2] in wanted]


def _has_open(pid: int, number: int) -> bool:
    """Say whether a process has a device open; one that is gone has nothing open."""
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found = path.stat()
                if stat.S_ISBLK(found.st_mode) and found.st_rdev == number:
                    return True
    return False
