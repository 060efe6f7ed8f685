# SPDX-License-Identifier: Apache-2.0
"""Meters of Docker servers for Ceilometer's compute agent, loaded by its entry points: ``docker.cpu`` polls ``cpu``.

Ceilometer takes no other hypervisor inspector than libvirt's (``hypervisor_inspector`` has that one choice), but
pollsters and discoveries of anybody's. So ours are its own with another inspector, beside the others: a host may have
both kinds of servers. Samples have the usual names, and pipelines, Gnocchi and Heat need not know.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ceilometer.compute.discovery import InstanceDiscovery
from ceilometer.compute.pollsters import disk, instance_stats, net
from ceilometer.compute.virt import inspector
from oslo_config import cfg

from dockstack.compute.containers import runtime
from dockstack.telemetry.census import Census, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.compute.resources.cgroups import Usage

OPTION = cfg.StrOpt(
    "patch_directory",
    default=str(runtime.PATCHES),
    help="As in nova.conf on this host: whose container is whose stands there.",
)
RUNNING, PAUSED = 1, 3  # Nova's numbers (nova/compute/power_state.py)
ROOT_DISK = "root"
_MIB = 1 << 20
_FRESH = 5.0  # seconds for which a reading serves: a poll asks for each server and kind of meter


class DockerInspector(inspector.Inspector):
    """Tells Ceilometer what one of this host's Docker servers uses."""

    def __init__(self, conf: Any, census: Census | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Read nothing yet.

        Args:
            conf: Ceilometer's options; [docker] patch_directory is ours.
            census: what reads; None for the one of this host.
            clock: tells seconds.
        """
        super().__init__(conf)
        conf.register_opt(OPTION, group="docker")
        self._census = census or Census(Path(conf.docker.patch_directory))
        self._clock = clock
        self._read: tuple[float, dict[str, Reading]] | None = None

    def inspect_instance(self, instance: Any, duration: Any = None) -> Any:
        """Return processors and memory."""
        del duration
        used = self._used(instance)
        limit = (used.memory_max_bytes or 0) / _MIB or None
        return inspector.InstanceStats(
            power_state=PAUSED if used.paused else RUNNING,
            cpu_number=instance.flavor["vcpus"],
            cpu_time=used.cpu_ns,
            memory_actual=limit,
            memory_available=limit,
            memory_usage=used.working_set_bytes / _MIB,
            memory_resident=used.anonymous_bytes / _MIB,
        )

    def inspect_vnics(self, instance: Any, duration: Any = None) -> Iterator[Any]:
        """Return what each port carried; its MAC address and its bridge are Neutron's to tell."""
        del duration
        self._used(instance)
        for device, port in self._reading(instance).ports.items():
            yield inspector.InterfaceStats(
                name=device,
                mac=None,
                fref=None,
                parameters={},
                rx_bytes=port.rx_octets,
                rx_packets=port.rx_packets,
                rx_drop=port.rx_drop,
                rx_errors=port.rx_errors,
                tx_bytes=port.tx_octets,
                tx_packets=port.tx_packets,
                tx_drop=port.tx_drop,
                tx_errors=port.tx_errors,
                rx_bytes_delta=None,
                tx_bytes_delta=None,
            )

    def inspect_disks(self, instance: Any, duration: Any = None) -> Iterator[Any]:
        """Return what was read and written: a server has one disk, its root file system."""
        del duration
        used = self._used(instance)
        yield inspector.DiskStats(
            device=ROOT_DISK,
            read_bytes=used.read_bytes,
            read_requests=used.read_requests,
            write_bytes=used.written_bytes,
            write_requests=used.written_requests,
            errors=None,
            rd_total_times=None,
            wr_total_times=None,
        )

    def _reading(self, instance: Any) -> Reading:
        now = self._clock()
        if self._read is None or now - self._read[0] >= _FRESH:
            self._read = (now, {reading.uuid: reading for reading in self._census.read()})
        try:
            return self._read[1][instance.id]
        except KeyError as error:
            raise inspector.InstanceNotFoundException(f"No container here is {instance.id}'s.") from error

    def _used(self, instance: Any) -> Usage:
        used = self._reading(instance).used
        if used is None:
            raise inspector.InstanceShutOffException(f"{instance.id} does not run.")
        return used


class Servers(InstanceDiscovery):
    """The servers that Nova has on this host, asked of its API: there is no libvirt to know them."""

    method = "workload_partitioning"


class _Docker:
    """A pollster of Docker servers; goes before the class of Ceilometer's that it is otherwise."""

    @property
    def default_discovery(self) -> str:
        return "docker_servers"


class _Inspected(_Docker):
    _shared: ClassVar[dict[int, DockerInspector]] = {}  # by Ceilometer's options: one reading serves all pollsters
    conf: Any
    inspector: DockerInspector

    def setup_environment(self) -> None:
        """Take our inspector; Ceilometer's own classes would ask for libvirt's."""
        self.inspector = self._shared.setdefault(id(self.conf), DockerInspector(self.conf))


def _of_docker(pollster: type, kind: type = _Inspected) -> type:
    return type(pollster.__name__, (kind, pollster), {"__doc__": f"{pollster.__name__} of Docker servers."})


PowerState = _of_docker(instance_stats.PowerStatePollster)
Cpu = _of_docker(instance_stats.CPUPollster)
Vcpus = _of_docker(instance_stats.VCPUsPollster)
Memory = _of_docker(instance_stats.MemoryPollster)
MemoryAvailable = _of_docker(instance_stats.MemoryAvailablePollster)
MemoryUsage = _of_docker(instance_stats.MemoryUsagePollster)
MemoryResident = _of_docker(instance_stats.MemoryResidentPollster)
DiskReadBytes = _of_docker(disk.PerDeviceReadBytesPollster)
DiskReadRequests = _of_docker(disk.PerDeviceReadRequestsPollster)
DiskWriteBytes = _of_docker(disk.PerDeviceWriteBytesPollster)
DiskWriteRequests = _of_docker(disk.PerDeviceWriteRequestsPollster)
DiskRootSize = _of_docker(disk.RootSizePollster, _Docker)
DiskEphemeralSize = _of_docker(disk.EphemeralSizePollster, _Docker)
IncomingBytes = _of_docker(net.IncomingBytesPollster)
IncomingPackets = _of_docker(net.IncomingPacketsPollster)
IncomingDrop = _of_docker(net.IncomingDropPollster)
IncomingErrors = _of_docker(net.IncomingErrorsPollster)
OutgoingBytes = _of_docker(net.OutgoingBytesPollster)
OutgoingPackets = _of_docker(net.OutgoingPacketsPollster)
OutgoingDrop = _of_docker(net.OutgoingDropPollster)
OutgoingErrors = _of_docker(net.OutgoingErrorsPollster)
