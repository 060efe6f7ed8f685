# SPDX-License-Identifier: Apache-2.0
"""What the host has and what its servers use, put together for Nova."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dockstack.compute.resources import cgroups, usage
from dockstack.compute.resources.inventory import Capacity
from dockstack.compute.resources.topology import read_nodes
from dockstack.names import TRAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from oslo_config import cfg

    from dockstack.compute.host.host import Host
    from dockstack.compute.model import NumaNode, Server

LOG = logging.getLogger(__name__)

HYPERVISOR = "docker"
VM_MODE = "exe"

# A flavor may require these (trait:CUSTOM_...=required).
SIZED_DISKS = "CUSTOM_DOCKER_ROOT_DISK_QUOTA"
OWN_VIEWS = "CUSTOM_DOCKER_LXCFS"


def read_capacity(host: Host) -> Capacity:
    """Read what the host has in all."""
    return Capacity(
        vcpus=len(host.processors.shared),
        pcpus=len(host.processors.dedicated),
        memory_mb=usage.read_memory().total_mb,
        disk_gb=usage.read_disk(host.facts().root_directory).total_gb,
    )


def read_traits(host: Host) -> dict[str, bool]:
    """Tell which of this driver's own traits the host has now."""
    return {
        TRAIT: True,
        SIZED_DISKS: host.storage().sized,
        OWN_VIEWS: host.lxcfs.generation() is not None,
    }


def describe_host(
    host: Host,
    name_architecture: Callable[[str], str],
    build_topology: Callable[[tuple[NumaNode, ...], Collection[int], Collection[int]], str],
) -> dict[str, Any]:
    """Describe the host as Nova's resource tracker wants it, with one call to the engine.

    Args:
        host: which.
        name_architecture: translates the engine's name of its machine to Nova's.
        build_topology: puts NUMA nodes, shared and dedicated processors in Nova's words.
    """
    facts = host.facts()
    memory, disk = usage.read_memory(), usage.read_disk(facts.root_directory)
    architecture = name_architecture(facts.architecture)
    servers = host.audit.list_servers()
    return {
        "hypervisor_hostname": host.name,
        "hypervisor_type": HYPERVISOR,
        "hypervisor_version": number_version(facts.version),
        "supported_instances": [(architecture, HYPERVISOR, VM_MODE)],
        "cpu_info": json.dumps({"arch": architecture, **usage.read_cpu_info()}),
        "vcpus": len(host.processors.shared | host.processors.dedicated),
        "memory_mb": memory.total_mb,
        "local_gb": disk.total_gb,
        "vcpus_used": 0,  # Nova counts what its servers were promised; the engine promises nothing
        "memory_mb_used": memory.used_mb,
        "local_gb_used": disk.used_gb,
        "disk_available_least": disk.free_gb,
        "numa_topology": build_topology(
            read_nodes(usage.list_cpus()), host.processors.shared, host.processors.dedicated
        ),
        "stats": {"uptime": usage.read_uptime(), "containers": len(servers)},
    }


def diagnose(host: Host, server: Server) -> dict[str, Any]:
    """Tell what a server uses, from the kernel's counters.

    Returns:
        ``state``; ``uptime`` in seconds; while it runs, the fields of ``cgroups.Usage``; ``nics``: the counters of each
        port as the server sees them.

    Raises:
        NotFound: it has no container.
    """
    container = host.container(server.uuid)
    used = cgroups.usage(container.pid) if container.pid else None
    known = usage.read_ports()
    counters = {port.mac: known.get(port.device) for port in server.ports}
    return {
        "state": container.state,
        "uptime": seconds_since(container.started_at) if container.pid else 0,
        **(asdict(used) if used else {}),
        "nics": [{"mac_address": mac, **asdict(port)} for mac, port in counters.items() if port],
    }


def age_out_images(host: Host, servers_images: Collection[str], options: cfg.GroupAttr) -> None:
    """Remove the images that nobody has used for long enough, and say in the log what the cache holds.

    Args:
        host: where.
        servers_images: the Glance ids that Nova's servers here name.
        options: Nova's [image_cache].
    """
    found = host.images.age_out(
        servers_images,
        options.remove_unused_original_minimum_age_seconds,
        time.time(),
        remove=options.remove_unused_base_images,
    )
    LOG.info("Image cache: %s", found)


def number_version(version: str) -> int:
    """Say a version as Nova's database does: 20.10.24+dfsg1 is 20 010 024."""
    digits = ["".join(filter(str.isdigit, part.partition("+")[0].partition("-")[0])) for part in version.split(".")]
    major, minor, patch = ([int(number or 0) for number in digits] + [0, 0, 0])[:3]
    return (major * 1000 + minor) * 1000 + patch


def seconds_since(moment: str) -> int:
    """Count the seconds since a moment in the engine's RFC 3339, whose nanoseconds Python does not read."""
    try:
        began = datetime.fromisoformat(moment.partition(".")[0].rstrip("Z")).replace(tzinfo=UTC)
    except ValueError:
        return 0
    return max(0, int(time.time() - began.timestamp()))
