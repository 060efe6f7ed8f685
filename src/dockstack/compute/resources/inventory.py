# SPDX-License-Identifier: Apache-2.0
"""What this host offers to Placement and to Nova's scheduler: pure builders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Capacity:
    """What the host has in all."""

    vcpus: int  # processors that servers share
    memory_mb: int
    disk_gb: int
    pcpus: int = 0  # processors that servers may have for themselves


@dataclass(frozen=True)
class Reserved:
    """What the operator keeps for the host itself (``reserved_host_*``)."""

    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0


def build_inventory(capacity: Capacity, reserved: Reserved, ratios: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Build the inventory of one compute node.

    Placement refuses a total of 0, and a reservation above the total, so a resource that is not there is left out and
    a reservation is cut to what exists.

    Args:
        capacity: the host's totals.
        reserved: what is kept for the host.
        ratios: allocation ratio by resource class, from the operator's options or from Placement.

    Returns:
        The inventory by resource class, as ``ProviderTree.update_inventory`` takes it.
    """
    wanted = (
        ("VCPU", capacity.vcpus, reserved.vcpus),
        ("PCPU", capacity.pcpus, 0),
        ("MEMORY_MB", capacity.memory_mb, reserved.memory_mb),
        ("DISK_GB", capacity.disk_gb, reserved.disk_gb),
    )
    return {
        name: {
            "total": total,
            "reserved": min(kept, total),
            "min_unit": 1,
            "max_unit": total,
            "step_size": 1,
            "allocation_ratio": ratios.get(name, 1.0),  # a processor of one's own is never sold twice
        }
        for name, total, kept in wanted
        if total > 0
    }
