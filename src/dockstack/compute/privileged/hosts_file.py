# SPDX-License-Identifier: Apache-2.0
"""The /etc/hosts inside a server that runs: a file of the server's own, where it may have put anything else.

Nothing of the server's is followed or waited for: no link, and no mount, whose file system may never answer.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from dockstack.compute.privileged import context
from dockstack.compute.privileged.kernel import call

# linux/openat2.h, asm-generic/unistd.h: the number is that of every architecture
_OPENAT2 = 437
_RESOLVE_NO_XDEV, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x01, 0x04, 0x08
_RESOLVE = _RESOLVE_NO_XDEV | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH
_PATH = b"etc/hosts"
_BYTES = 1 << 20


@context.entrypoint
def read(pid: int, container_id: str) -> bytes | None:
    """Read it; None if there is none, or none that a host would write to.

    Args:
        pid: the container's first process; one that is gone, or another container's, has no such file.
        container_id: the engine's id of the container.

    Raises:
        OSError: the kernel refused.
    """
    descriptor = _open(pid, container_id)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(_BYTES + 1)
    return content if len(content) <= _BYTES else None


@context.entrypoint
def replace(pid: int, container_id: str, found: bytes, content: bytes) -> bool:
    """Write it, if it still is what was found; say whether that was so.

    Raises:
        OSError: the server's disk is full.
    """
    descriptor = _open(pid, container_id)
    if descriptor is None:
        return False
    try:
        if os.pread(descriptor, _BYTES + 1, 0) != found:
            return False
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
    return True


def _open(pid: int, container_id: str) -> int | None:
    try:
        # The root first: if the number has gone to another process by now, its control group tells.
        root = os.open(f"/proc/{int(pid)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        if not container_id or container_id.encode() not in Path(f"/proc/{int(pid)}/cgroup").read_bytes():
            return None
        how = struct.pack("=3Q", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE)
        place = call("openat2", _OPENAT2, root, _PATH, how, len(how))
    except OSError:  # the server has removed it, or put something else there; or it is gone itself
        return None
    finally:
        os.close(root)
    try:
        # Looked at before it is opened: an image may hold device nodes, which are no mere names to the host.
        found = os.fstat(place)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _BYTES:
            return None
        return os.open(f"/proc/self/fd/{place}", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # no room for the server's own copy of a file of its image
        return None
    finally:
        os.close(place)
