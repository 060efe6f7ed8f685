# SPDX-License-Identifier: Apache-2.0
"""What bounds a server's volume bounds the second device, too, through which its mounted file system is read.

Rates stand in the control group of the server's container, one entry a device; so each server has its own, also of a
volume that several have mounted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.mounts.caller import Caller

_GROUPS = Path("/sys/fs/cgroup")
_CONTAINER = re.compile(r"(.*?[0-9a-f]{64}[^/]*)")
# The kernel's Documentation: cgroup-v1/blkio-controller.rst, cgroup-v2.rst
_THROTTLES = tuple(
    f"blkio.throttle.{name}"
    for name in ("read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device")
)
_MAXIMA = "io.max"
_UNBOUNDED = {_MAXIMA: "rbps=max wbps=max riops=max wiops=max"}


def follow(caller: Caller, own: int, second: int) -> None:
    """Bound a server on a volume's second device as it is bound on the volume's own; without bounds, lift earlier ones.

    Args:
        caller: a process of the server.
        own: the number of the volume's device.
        second: the number of the one that is mounted.

    Raises:
        OSError: the kernel does not take a bound, so there must be no mount.
    """
    text = os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=caller.process)
    with open(text, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - it has no path
        group = find_group(file.read())
    for name in (*_THROTTLES, _MAXIMA) if group else ():
        path = _GROUPS / group / name
        if path.exists():
            copy(path, own, second)


def find_group(text: str) -> str:
    """Return the directory of the control group with a container's rates, from a process's /proc/PID/cgroup; or "".

    The process may be in a group below it.
    """
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        directory = "blkio" if "blkio" in controllers.split(",") else "" if not controllers else None
        found = _CONTAINER.match(path.lstrip("/"))
        if directory is not None and found and (directory or len(text.splitlines()) == 1):
            return str(Path(directory, found[1]))
    return ""


def copy(path: Path, own: int, second: int) -> None:
    """Let a file of bounds say of one device what it says of another."""
    entries = dict(line.split(maxsplit=1) for line in path.read_text().splitlines() if " " in line)
    bound = entries.get(_spell(own))
    if bound is None and _spell(second) not in entries:
        return
    path.write_text(f"{_spell(second)} {bound or _UNBOUNDED.get(path.name, '0')}\n")


def _spell(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"
