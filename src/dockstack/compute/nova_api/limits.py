# SPDX-License-Identifier: Apache-2.0
"""A flavor, its extra specs and Nova's choice of processors, translated to limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nova.conf
from nova import exception

from dockstack.compute import extra_specs
from dockstack.compute.model import Bandwidth, DiskRates, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

CONF = nova.conf.CONF

_PERIOD = range(1_000, 1_000_001)  # microseconds; what the kernel takes
_SMALLEST_QUOTA = 1_000  # microseconds; what the kernel takes
_UNREADABLE = -1


def build_limits(instance: Any, flavor: Any) -> Limits:
    """Translate what a flavor allows; what it does not say comes from the [docker] options.

    What cannot be read counts as unsaid: a server must stay deletable whatever its flavor says, and
    ``refuse_unreadable`` keeps it from being built.

    Args:
        instance: a ``nova.objects.Instance``, whose ``numa_topology`` holds Nova's choice of processors.
        flavor: the flavor to read; not always the instance's present one.
    """
    specs = _specs(flavor)
    return Limits(
        vcpus=flavor.vcpus,
        memory_mb=flavor.memory_mb,
        disk_gb=flavor.root_gb,
        swap_mb=flavor.swap,
        pids=_number(specs, extra_specs.PIDS) or CONF.docker.pids_limit,
        nofile=_number(specs, extra_specs.NOFILE) or CONF.docker.nofile_limit,
        cpu_shares=_number(specs, extra_specs.SHARES),
        cpu_period=_number(specs, extra_specs.PERIOD),
        cpu_quota=_number(specs, extra_specs.QUOTA),
        pinned=_pinned(instance),
        memory_nodes=_memory_nodes(instance),
        disk_rates=DiskRates(
            **{
                f"{way}_{metric}": _number(specs, f"quota:disk_{way}_{metric}_sec")
                or _number(specs, f"quota:disk_total_{metric}_sec")
                for way in ("read", "write")
                for metric in ("bytes", "iops")
            }
        ),
        inbound=_bandwidth(specs, "inbound"),
        outbound=_bandwidth(specs, "outbound"),
    )


def refuse_unreadable(instance: Any) -> None:
    """Refuse a flavor that asks for what no container can have, or in words that we do not understand.

    Raises:
        exception.BuildAbortException: naming the extra spec; another host would refuse too.
    """
    specs = _specs(instance.flavor)
    for name, instead in extra_specs.REFUSED.items():
        if name in specs and specs[name].lower() not in ("false", "no", "0"):
            _refuse(instance, f"the flavor's {name} cannot be had on Docker hosts: {instead}. Choose another flavor.")
    for name in (
        *(spec.name for spec in extra_specs.OURS if spec.kind is int),
        extra_specs.SHARES,
        extra_specs.PERIOD,
        extra_specs.QUOTA,
        *extra_specs.DISK_RATES,
        *extra_specs.BANDWIDTH,
    ):
        if _read(specs, name) == _UNREADABLE:
            reason = f"the flavor's {name} must be a whole number, but it is {specs[name]!r}. Choose another flavor."
            _refuse(instance, reason)
    period, quota = _number(specs, extra_specs.PERIOD), _number(specs, extra_specs.QUOTA)
    if period is not None and period not in _PERIOD:
        _refuse(instance, f"the flavor's {extra_specs.PERIOD} must be from 1000 to 1000000, but it is {period}.")
    if quota is not None and quota < _SMALLEST_QUOTA:
        _refuse(instance, f"the flavor's {extra_specs.QUOTA} must be at least {_SMALLEST_QUOTA}, but it is {quota}.")


def _refuse(instance: Any, reason: str) -> None:
    raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=reason)


def _specs(flavor: Any) -> dict[str, str]:
    return dict(flavor.extra_specs) if "extra_specs" in flavor else {}


def _number(specs: Mapping[str, str], name: str) -> int | None:
    """Read a number; 0 means unlimited in Nova's words, which is our None."""
    found = _read(specs, name)
    return found if found is not None and found > 0 else None


def _read(specs: Mapping[str, str], name: str) -> int | None:
    text = specs.get(name)
    if text is None:
        return None
    if name == extra_specs.QUOTA and text.startswith("-"):
        return 0  # as libvirt has it: a negative quota is none
    return int(text) if text.isascii() and text.isdecimal() else _UNREADABLE


def _bandwidth(specs: Mapping[str, str], way: str) -> Bandwidth | None:
    average = _number(specs, f"quota:vif_{way}_average")
    return None if average is None else Bandwidth(average, _number(specs, f"quota:vif_{way}_burst") or 0)


def _pinned(instance: Any) -> tuple[int, ...]:
    """Return the host's processors that Nova has given to the server alone."""
    topology = _topology(instance)
    return tuple(sorted(topology.cpu_pinning)) if topology else ()


def _memory_nodes(instance: Any) -> tuple[int, ...]:
    """Return the host's NUMA nodes that Nova has taken the server's memory from; none if it did not choose any."""
    topology = _topology(instance)
    return tuple(sorted(cell.id for cell in topology.cells if cell.id >= 0)) if topology else ()


def _topology(instance: Any) -> Any:
    return instance.numa_topology if instance.obj_attr_is_set("numa_topology") else None
