# SPDX-License-Identifier: Apache-2.0
"""What the host and its ports use, read from the kernel's files, without root."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Memory:
    """The host's memory in MiB."""

    total_mb: int
    available_mb: int
    swap_mb: int = 0

    @property
    def used_mb(self) -> int:
        """What cannot be given to a server any more."""
        return self.total_mb - self.available_mb


@dataclass(frozen=True)
class Disk:
    """The file system that holds the engine's data, in GiB."""

    total_gb: int
    free_gb: int

    @property
    def used_gb(self) -> int:
        """What is taken, whoever took it."""
        return self.total_gb - self.free_gb


@dataclass(frozen=True)
class CpuTimes:
    """The host's processor times since it booted, in nanoseconds, and the clock in MHz."""

    user: int
    kernel: int
    idle: int
    iowait: int
    frequency: int


@dataclass(frozen=True)
class PortUsage:
    """A port's counters as the server sees them: what it received and sent."""

    rx_octets: int
    rx_packets: int
    rx_drop: int
    rx_errors: int
    tx_octets: int
    tx_packets: int
    tx_drop: int
    tx_errors: int


def list_cpus() -> frozenset[int]:
    """List the processors that this host's processes may use."""
    return frozenset(os.sched_getaffinity(0))


def read_memory(meminfo: Path = Path("/proc/meminfo")) -> Memory:
    """Read the host's memory from /proc/meminfo (values there are KiB)."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    kib = {name: int(value.split()[0]) for name, value in fields.items()}
    available = kib.get("MemAvailable", kib.get("MemFree", 0))
    return Memory(kib["MemTotal"] // 1024, available // 1024, kib.get("SwapTotal", 0) // 1024)


def read_disk(directory: str) -> Disk:
    """Read the size of the file system below the engine's root directory."""
    size, free = read_space(directory)
    return Disk(total_gb=size // GIB, free_gb=free // GIB)


def read_space(directory: str) -> tuple[int, int]:
    """Read how large the file system below a directory is and what of it is free, in bytes.

    The directory itself is often closed to the compute service's user; its nearest visible parent is on the same file
    system in every sane set-up, and statvfs needs no permission on the directory's content.
    """
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    stat = os.statvfs(path)
    return stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize


def read_cpu_times(stat: Path = Path("/proc/stat"), cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuTimes:
    """Read the processor times from /proc/stat (proc(5): user nice system idle iowait irq softirq steal)."""
    ticks = [int(value) for value in stat.read_text().splitlines()[0].split()[1:8]]
    user, nice, system, idle, iowait, irq, softirq = ticks
    tick = NANOSECONDS // os.sysconf("SC_CLK_TCK")
    return CpuTimes(
        user=(user + nice) * tick,
        kernel=(system + irq + softirq) * tick,
        idle=idle * tick,
        iowait=iowait * tick,
        frequency=read_frequency(cpuinfo),
    )


def read_frequency(cpuinfo: Path = Path("/proc/cpuinfo")) -> int:
    """Read the first processor's clock in MHz; 0 where the architecture does not tell."""
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            return round(float(value))
    return 0


def read_cpu_info(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, object]:
    """Describe the processor in the words of Nova's ``cpu_info``: model, vendor, features."""
    fields: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        name, separator, value = line.partition(":")
        if separator:
            fields.setdefault(name.strip(), value.strip())
    return {
        "model": fields.get("model name", fields.get("CPU part", "")),
        "vendor": fields.get("vendor_id", fields.get("CPU implementer", "")),
        "features": read_features(cpuinfo),
    }


def read_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Read the processor's features as the kernel names them."""
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return sorted(value.split())
    return []


def read_uptime(uptime: Path = Path("/proc/uptime"), loadavg: Path = Path("/proc/loadavg")) -> str:
    """Tell the host's uptime in the format of uptime(1), which Nova's API takes apart for its clients."""
    seconds = int(float(uptime.read_text().split()[0]))
    days, rest = divmod(seconds, 86400)
    hours, minutes = divmod(rest // 60, 60)
    clock = time.strftime("%H:%M:%S")
    up = f"{days} day{'' if days == 1 else 's'}, " if days else ""
    load = ", ".join(loadavg.read_text().split()[:3])
    return f" {clock} up {up}{hours:2d}:{minutes:02d},  0 users,  load average: {load}\n"


def read_ports(net: Path = Path("/proc/net/dev")) -> dict[str, PortUsage]:
    """Read the counters of all ports at their host's ends, by device; what the host receives is what a server sent.

    One file has them all, where /sys has eight files for each: a host has hundreds of ports.
    """
    found = {}
    for line in net.read_text().splitlines()[2:]:
        device, _, counted = line.partition(":")
        octets, packets, errors, drop, *_ = received = [int(value) for value in counted.split()]
        sent = received[8:]
        found[device.strip()] = PortUsage(sent[0], sent[1], sent[3], sent[2], octets, packets, drop, errors)
    return found


def read_oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """Read how many processes the kernel has killed for want of memory since it booted, servers' and others."""
    for line in vmstat.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0
