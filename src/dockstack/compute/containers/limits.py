# SPDX-License-Identifier: Apache-2.0
"""A flavor's limits in the engine's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockstack.compute.cpulist import show
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.compute.model import DiskRates, Limits

_MIB = 1 << 20
_CPU_PERIOD = 100_000  # microseconds; the kernel's default
_SHARES = (2, 262_144)  # what the kernel takes
_SMALLEST_MB = 6  # what the engine takes


def update_values(limits: Limits) -> dict[str, Any]:
    """Return what POST /containers/{id}/update takes.

    Quota and period instead of NanoCpus: the engine refuses to mix them, and checks NanoCpus against the host's CPUs,
    which a flavor may exceed. Memory and swap are sent together, because memory above the old swap limit is refused.

    Raises:
        DockstackError: the flavor's memory is too small for the engine, which would silently set no limit for 0.
    """
    if limits.memory_mb < _SMALLEST_MB or limits.vcpus < 1:
        raise DockstackError(
            f"A server cannot have {limits.memory_mb} MB of memory and {limits.vcpus} vCPUs.",
            f"Choose a flavor with at least {_SMALLEST_MB} MB and 1 vCPU.",
        )
    period = limits.cpu_period or _CPU_PERIOD
    shares = limits.cpu_shares if limits.cpu_shares is not None else 1024 * limits.vcpus
    return {
        "Memory": limits.memory_mb * _MIB,
        "MemorySwap": (limits.memory_mb + limits.swap_mb) * _MIB,
        "CpuPeriod": period,
        "CpuQuota": limits.vcpus * (limits.cpu_quota or period),
        "CpuShares": min(max(shares, _SHARES[0]), _SHARES[1]),
        "PidsLimit": limits.pids,
        **({"CpusetCpus": show(limits.cpus)} if limits.cpus else {}),
        **({"CpusetMems": show(limits.memory_nodes)} if limits.memory_nodes else {}),
    }


def host_config(limits: Limits, disk: str | None = None, *, sized: bool = False) -> dict[str, Any]:
    """Return the part of a new container's HostConfig that limits it.

    Args:
        limits: what the flavor allows.
        disk: the node of the disk that holds the server's root file system.
        sized: the engine's storage can hold the server to its flavor's disk.

    Raises:
        DockstackError: as ``update_values``; or there are rates, and no disk that they could be of.
    """
    files = [{"Name": "nofile", "Soft": limits.nofile, "Hard": limits.nofile}] if limits.nofile else []
    size = {"StorageOpt": {"size": f"{limits.disk_gb}G"}} if sized and limits.disk_gb else {}
    return {**update_values(limits), "Ulimits": files, **_disk_rates(limits.disk_rates, disk), **size}


def _disk_rates(rates: DiskRates, disk: str | None) -> dict[str, Any]:
    wanted = {
        "BlkioDeviceReadBps": rates.read_bytes,
        "BlkioDeviceWriteBps": rates.write_bytes,
        "BlkioDeviceReadIOps": rates.read_iops,
        "BlkioDeviceWriteIOps": rates.write_iops,
    }
    if disk is None and any(wanted.values()):
        raise DockstackError(
            "The flavor limits disk rates (quota:disk_*), and the engine's data is on no disk of this host.",
            "Choose a flavor without them, or move the engine's data root to a disk.",
        )
    return {name: [{"Path": disk, "Rate": rate}] for name, rate in wanted.items() if rate}


def changes(host_config: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Return what POST /containers/{id}/update must be told so that a container gets these limits; empty if nothing.

    All of them or none: the engine checks memory against the swap limit that comes with it.

    Args:
        host_config: what the container has now, in the engine's words.
        limits: what it should have.
    """
    wanted = update_values(limits)
    return wanted if any(host_config.get(name) != value for name, value in wanted.items()) else {}
