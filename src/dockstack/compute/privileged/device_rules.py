# SPDX-License-Identifier: Apache-2.0
"""What the control groups of a server that runs let it do with one block device: use it, and how fast.

A rule names one device by its exact numbers; no rule of ours ever names more. With cgroup v1 rules are lines of a file;
with v2 they are a program (``device_programs``).
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from dockstack.compute.privileged import device_programs

_GROUPS = Path("/sys/fs/cgroup")
_CONTAINER = re.compile(r"[0-9a-f]{64}")

# In the order of the rates: bytes read and written, and requests to read and to write, a second.
_THROTTLES = ("read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device")  # of cgroup v1
_BOUNDS = ("rbps", "wbps", "riops", "wiops")  # of v2, in io.max


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
            root = _find_root(name)
            if root.is_dir():
                groups[name] = _find_own(root, path, container_id)
    if not any(container_id in str(path) for path in groups.values()):
        raise Gone(errno.ESRCH, f"process {pid} is none of container {container_id[:12]}")
    return groups


def _find_root(controller: str) -> Path:
    """Return where a hierarchy is mounted; the unified one may be beside those of version 1."""
    separate = not controller and not (_GROUPS / "cgroup.controllers").exists()
    return _GROUPS / ("unified" if separate else controller)


def _find_own(root: Path, path: str, container_id: str) -> Path:
    """Return the directory of a container's topmost group: its first process may be in one that it made below."""
    parts = path.strip("/").split("/")
    own = next((place for place, part in enumerate(parts) if container_id in part), len(parts) - 1)
    return root.joinpath(*parts[: own + 1])


def allow(groups: dict[str, Path], number: int, *, read_only: bool) -> None:
    """Let a server use a device.

    Raises:
        OSError: the kernel refused, or knows no such rules.
    """
    if "devices" in groups:
        _write_rule(groups, "devices.allow", number, "r" if read_only else "rw")
        return
    _require_rules(groups)
    access = device_programs.READ | (0 if read_only else device_programs.WRITE)
    device_programs.change(groups[""], lambda allowed: allowed.update({number: access}))


def deny(groups: dict[str, Path], number: int) -> None:
    """Let a server open a device no more; what is open stays open."""
    if "devices" in groups:
        _write_rule(groups, "devices.deny", number, "rw")
    elif "" in groups:
        device_programs.change(groups[""], lambda allowed: allowed.pop(number, None))


def limit(groups: dict[str, Path], number: int, rates: list[int]) -> None:
    """Bound what a server moves to and from a device in a second.

    Args:
        groups: the server's.
        number: the device's.
        rates: bytes read and written, requests to read and to write; 0 is no bound.
    """
    if "blkio" in groups:
        lines = [(f"blkio.throttle.{name}", str(rate)) for name, rate in zip(_THROTTLES, rates, strict=True)]
    else:
        lines = [("io.max", " ".join(f"{name}={rate or 'max'}" for name, rate in zip(_BOUNDS, rates, strict=True)))]
    group = groups.get("blkio", groups.get("", Path()))
    for name, words in lines if group.name else ():
        try:
            _write(group / name, f"{_spell(number)} {words}\n")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # the kernel does not bound devices; it is gone
                raise


def check(groups: dict[str, Path]) -> None:
    """Refuse a server that runs and whose rules cannot be changed.

    Raises:
        OSError: saying why.
    """
    if "devices" not in groups:
        _require_rules(groups)
        device_programs.check(groups[""])


def _require_rules(groups: dict[str, Path]) -> None:
    if "" not in groups:
        raise OSError(errno.ENOTSUP, "this machine has no control group with rules for devices: stop the server for it")


def _write_rule(groups: dict[str, Path], name: str, number: int, access: str) -> None:
    _write(groups["devices"] / name, f"b {_spell(number)} {access}\n")


def _write(path: Path, line: str) -> None:
    """Write a line to a file of a control group; asked to make one, these say EACCES and not that it is not there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _spell(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"
