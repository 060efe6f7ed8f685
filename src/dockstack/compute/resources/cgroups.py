# SPDX-License-Identifier: Apache-2.0
"""What containers use, read from their control groups without root; the engine's own statistics take 1 to 2 s a call.

Both hierarchies count: in version 1 each controller has a tree of its own, in version 2 all share one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.model import DeviceUsage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "cpuacct", "cpu", "blkio", "pids", "freezer")  # of version 1, as far as they are read here
_DEEPEST = 4  # below the root: engines put containers in /docker, /system.slice or a slice of the operator's
_LARGEST = 1 << 16  # bytes; the kernel's files here have less


@dataclass(frozen=True)
class Usage:
    """What a server's processes used so far and hold now."""

    cpu_ns: int
    memory_bytes: int
    memory_max_bytes: int | None  # None: no limit
    oom_kills: int
    pids: int
    read_bytes: int
    written_bytes: int
    read_requests: int = 0
    written_requests: int = 0
    anonymous_bytes: int = 0  # memory that is no copy of a file
    reclaimable_bytes: int = 0  # copies of files that nobody has used for a while; they go when memory is short
    throttled_ns: int = 0  # time for which it was kept off the processors by its quota
    cpus: float | None = None  # how many processors' time it may use; None: no quota
    paused: bool = False
    pids_max: int | None = None  # None: no limit

    @property
    def working_set_bytes(self) -> int:
        """Memory that it would miss: without the copies of files that can go."""
        return max(0, self.memory_bytes - self.reclaimable_bytes)


def device_usage(pid: int, number: str, proc: Path = Path("/proc"), root: Path = ROOT) -> DeviceUsage | None:
    """Read what a server moved to and from a device; None if its first process is gone.

    Args:
        pid: its first process.
        number: the device's numbers, as "7:1".
        proc: where processes are.
        root: where control groups are.
    """
    groups = _find_groups(pid, proc, root)
    if "blkio" in groups:
        moved, served = (
            _blkio(f"{groups['blkio']}/blkio.throttle.{name}", number) for name in ("io_service_bytes", "io_serviced")
        )
        return DeviceUsage(served["Read"], moved["Read"], served["Write"], moved["Write"])
    if "" not in groups:
        return None
    rows = (row for row in _table(f"{groups['']}/io.stat", columns=1) if row[0] == number)
    found = dict(item.split("=", 1) for row in rows for item in row if "=" in item)
    return DeviceUsage(*(int(found.get(name, 0)) for name in ("rios", "rbytes", "wios", "wbytes")))


def usage(pid: int, proc: Path = Path("/proc"), root: Path = ROOT) -> Usage | None:
    """Read what the control group of a server's first process counted; None if the process is gone."""
    groups = _find_groups(pid, proc, root)
    return read(groups) if "memory" in groups or "" in groups else None


def _find_groups(pid: int, proc: Path, root: Path) -> dict[str, str]:
    """Return the directory of a process's group for each controller; nothing if the process is gone."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:  # ProcessLookupError if it goes away while we read
        return {}
    groups = {}
    for line in lines:
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            groups[name] = f"{root}/{name}/{path.lstrip('/')}"
    return groups


def find(container_ids: Collection[str], root: Path = ROOT) -> dict[str, dict[str, str]]:
    """Find the control groups of containers by their ids: by container, the directory of each controller.

    A container that does not run has none. In version 2 the one directory counts under the name "".
    """
    separate = not (root / "cgroup.controllers").exists()
    found = {}
    for name, path in _walk(str(root / "memory" if separate else root), _DEEPEST):
        identity = name.removesuffix(".scope").rpartition("-")[2]
        if identity in container_ids:
            found[identity] = path
    if not separate:
        return {identity: {"": path} for identity, path in found.items()}
    prefix = len(str(root / "memory"))
    return {
        identity: {controller: f"{root}/{controller}{path[prefix:]}" for controller in CONTROLLERS}
        for identity, path in found.items()
    }


def read(groups: Mapping[str, str]) -> Usage:
    """Read what was counted in a container's groups, as ``find`` returns them; what is not there counts as nothing."""
    return _read_1(groups) if "memory" in groups else _read_2(groups[""])


def _walk(directory: str, depth: int) -> Iterator[tuple[str, str]]:
    """Go through the groups that may hold containers; what is inside of a container is its own business."""
    try:
        with os.scandir(directory) as entries:
            below = [(entry.name, entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it went away meanwhile
        return
    for name, path in below:
        yield name, path
        if depth > 1 and not _is_container(name):
            yield from _walk(path, depth - 1)


def _is_container(name: str) -> bool:
    identity = name.removesuffix(".scope").rpartition("-")[2]
    return len(identity) == 64 and identity.isalnum()  # noqa: PLR2004 - a SHA-256 in hexadecimal


def _read_1(groups: Mapping[str, str]) -> Usage:
    memory, cpu, blkio = groups["memory"], groups.get("cpu", ""), groups.get("blkio", "")
    limit = _number(f"{memory}/memory.limit_in_bytes")
    processes = _text(f"{groups.get('pids', '')}/pids.max").strip()
    quota = _number(f"{cpu}/cpu.cfs_quota_us")
    told = _text(f"{memory}/memory.stat")
    moved = _blkio(f"{blkio}/blkio.throttle.io_service_bytes")
    served = _blkio(f"{blkio}/blkio.throttle.io_serviced")
    return Usage(
        cpu_ns=_number(f"{groups.get('cpuacct', '')}/cpuacct.usage"),
        memory_bytes=_number(f"{memory}/memory.usage_in_bytes"),
        memory_max_bytes=limit if limit < 1 << 62 else None,
        oom_kills=_entry(_text(f"{memory}/memory.oom_control"), "oom_kill"),
        pids=_number(f"{groups.get('pids', '')}/pids.current"),
        read_bytes=moved["Read"],
        written_bytes=moved["Write"],
        read_requests=served["Read"],
        written_requests=served["Write"],
        anonymous_bytes=_entry(told, "total_rss"),
        reclaimable_bytes=_entry(told, "total_inactive_file"),
        throttled_ns=_entry(_text(f"{cpu}/cpu.stat"), "throttled_time"),
        cpus=quota / _number(f"{cpu}/cpu.cfs_period_us", 100_000) if quota > 0 else None,
        paused=_text(f"{groups.get('freezer', '')}/freezer.state").strip() == "FROZEN",
        pids_max=int(processes) if processes.isdigit() else None,
    )


def _read_2(group: str) -> Usage:
    limit, processes = _text(f"{group}/memory.max").strip(), _text(f"{group}/pids.max").strip()
    quota, _, period = _text(f"{group}/cpu.max").partition(" ")
    cpu, told = _text(f"{group}/cpu.stat"), _text(f"{group}/memory.stat")
    # Some kernels write the number of a device without requests before the next one, on the same line.
    moved = [[item for item in row if "=" in item] for row in _table(f"{group}/io.stat", columns=1)]
    devices = [dict(item.split("=", 1) for item in row) for row in moved]

    def count(name: str) -> int:
        return sum(int(device.get(name, 0)) for device in devices)

    return Usage(
        cpu_ns=_entry(cpu, "usage_usec") * 1000,
        memory_bytes=_number(f"{group}/memory.current"),
        memory_max_bytes=int(limit) if limit.isdigit() else None,
        oom_kills=_entry(_text(f"{group}/memory.events"), "oom_kill"),
        pids=_number(f"{group}/pids.current"),
        read_bytes=count("rbytes"),
        written_bytes=count("wbytes"),
        read_requests=count("rios"),
        written_requests=count("wios"),
        anonymous_bytes=_entry(told, "anon"),
        reclaimable_bytes=_entry(told, "inactive_file"),
        throttled_ns=_entry(cpu, "throttled_usec") * 1000,
        cpus=int(quota) / int(period) if quota.isdigit() and period.strip().isdigit() else None,
        paused=_text(f"{group}/cgroup.freeze").strip() == "1",
        pids_max=int(processes) if processes.isdigit() else None,
    )


def _blkio(path: str, number: str = "") -> dict[str, int]:
    """Add up a file of the disk controller, which has a line for each device and kind of request.

    Args:
        path: the file.
        number: of the one device to count; all if empty.
    """
    total = {"Read": 0, "Write": 0}
    for row in _table(path, columns=2):
        if row[1] in total and number in ("", row[0]):
            total[row[1]] += int(row[2])
    return total


def _text(path: str) -> str:
    """Read a file of the kernel; one that is missing (a controller is off, the group is going away) reads as empty."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _LARGEST).decode()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _number(path: str, default: int = 0) -> int:
    return int(_text(path).strip() or default)


def _table(path: str, columns: int) -> list[list[str]]:
    rows = [line.split() for line in _text(path).splitlines()]
    return [row for row in rows if len(row) > columns]


def _entry(text: str, name: str) -> int:
    """Return the number on the line that begins with a name; 0 if there is none."""
    _, found, rest = f"\n{text}".partition(f"\n{name} ")
    return int(rest.partition("\n")[0]) if found else 0
