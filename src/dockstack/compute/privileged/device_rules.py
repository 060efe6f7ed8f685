# SPDX-License-Identifier: Apache-2.0
"""What the control groups of a server that runs let it do with one block device: use it, and how fast.

A rule names one device by its exact numbers; no rule of ours ever names more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_CONTAINER = re.compile(r"[0-9a-f]{64}")

# Of cgroup v1, in the order of the rates: bytes and requests, read and written, a second.
_THROTTLES = ("read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device")


class Gone(OSError):  # noqa: N818 - nothing is wrong
    """The process is gone, or belongs to another container by now."""


def find_groups(pid: int, container_id: str) -> dict[str, Path]:
    """Return the directories of a container's control groups by controller; the unified one's name is "".

    Raises:
        Gone: the process is no process of the container.
    """
    if not _CONTAINER.fullmatch(container_id):
        raise ValueError(f"{container_id!r} is no container's id")
    try:
        lines = Path(f"/proc/{int(pid)}/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    groups = {}
    for line in lines:
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            groups[name] = _GROUPS / name / path.lstrip("/")
    if not any(container_id in str(path) for path in groups.values()):
        raise Gone(errno.ESRCH, f"process {pid} is none of container {container_id[:12]}")
    return groups


def allow(groups: dict[str, Path], number: int, *, read_only: bool) -> None:
    """Let a server use a device.

    Raises:
        OSError: the kernel refused, or its control groups are of a kind that takes no further rule.
    """
    _write_rule(groups, "devices.allow", number, "r" if read_only else "rw")


def deny(groups: dict[str, Path], number: int) -> None:
    """Let a server open a device no more; what is open stays open."""
    _write_rule(groups, "devices.deny", number, "rw")


def limit(groups: dict[str, Path], number: int, rates: list[int]) -> None:
    """Bound what a server moves to and from a device in a second.

    Args:
        groups: the server's.
        number: the device's.
        rates: bytes read and written, requests to read and to write; 0 is no bound.
    """
    for name, rate in zip(_THROTTLES, rates, strict=True) if "blkio" in groups else ():
        path = groups["blkio"] / f"blkio.throttle.{name}"
        with contextlib.suppress(FileNotFoundError):
            path.write_text(f"{_spell(number)} {rate}\n")


def check(groups: dict[str, Path]) -> None:
    """Refuse what takes no rules while a server runs.

    Raises:
        OSError: the host has cgroup v2, where the rules are a program that the engine loads at a start.
    """
    if "devices" not in groups:
        raise OSError(errno.EOPNOTSUPP, "this host has cgroup v2: stop the server for it")


def _write_rule(groups: dict[str, Path], name: str, number: int, access: str) -> None:
    check(groups)
    (groups["devices"] / name).write_text(f"b {_spell(number)} {access}\n")


def _spell(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"
