# SPDX-License-Identifier: Apache-2.0
"""The mounts of LXCFS inside servers that run."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from dockstack.compute.privileged import context, mounts
from dockstack.compute.privileged.kernel import in_thread

_FILE = re.compile(r"(proc|sys/devices/system/cpu)/[a-z]+")
_CONTAINER = re.compile(r"[0-9a-f]{64}")

_DEAD = (errno.ENOTCONN, errno.ESHUTDOWN, errno.EIO)


@context.entrypoint
def renew(pid: int, container_id: str, source: str, files: list[str]) -> bool:
    """Replace the files of a dead LXCFS in a container by those of a living one; say whether any was replaced.

    Args:
        pid: the container's first process; one that is gone, or another container's, is passed over.
        container_id: the engine's id of the container.
        source: where LXCFS is mounted; empty to take dead files away only.
        files: paths below it, which are paths below the container's root, too.
    """
    if not _CONTAINER.fullmatch(container_id) or not all(_FILE.fullmatch(file) for file in files):
        raise ValueError(f"{container_id!r} with {files!r} is no view of a server")
    try:
        # The namespace first: if the number has gone to another process by now, its control group tells.
        namespace = os.open(f"/proc/{int(pid)}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return False
    trees: dict[str, int] = {}
    try:
        if not _belongs(int(pid), container_id):
            return False
        for file in files if source else ():
            trees[file] = mounts.clone(f"{source}/{file}")
        return bool(in_thread(_replace, namespace, files, trees))
    finally:
        for descriptor in (namespace, *trees.values()):
            os.close(descriptor)


def _belongs(pid: int, container_id: str) -> bool:
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _replace(namespace: int, files: list[str], trees: dict[str, int]) -> bool:
    """Work in the container's mount namespace; the thread ends in there."""
    mounts.enter(namespace)
    changed = False
    for file in files:
        path = f"/{file}"
        dead = _dead(path)
        wanted = file in trees and (dead or os.stat(path).st_dev != os.fstat(trees[file]).st_dev)  # noqa: PTH116
        if not dead and not wanted:
            continue
        while _dead(path) and mounts.unmount(path, busy=True):
            pass
        if wanted:
            mounts.move(trees[file], path)
        changed = True
    return changed


def _dead(path: str) -> bool:
    """Ask the file system, since a file's attributes may be remembered for a moment after its end."""
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno in _DEAD
    return False
