# SPDX-License-Identifier: Apache-2.0
"""What a census finds, as metrics of Prometheus; docs/monitoring.md says what each means.

Servers go by their uuids, and projects by their ids: names are tenants' words, may hold anything and change.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from dockstack.compute.resources import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from dockstack.compute.resources.cgroups import Usage
    from dockstack.compute.resources.usage import PortUsage
    from dockstack.telemetry.census import Census, Reading

COMPUTE_PREFIX = "dockstack_compute_"
"""What the names of nova-compute's own metrics begin with; nothing else is taken from its file."""
_LARGEST = 1 << 18  # bytes of that file

_SECOND = 1e9  # nanoseconds
_MIB = 1 << 20


class _Measure(NamedTuple):
    name: str
    help: str
    counts: bool
    value: Callable[[Usage], float | None]


class _Traffic(NamedTuple):
    name: str
    help: str
    value: Callable[[PortUsage], int]


MEASURES = (
    _Measure("cpu_seconds", "Processor time that its processes used.", True, lambda used: used.cpu_ns / _SECOND),
    _Measure(
        "cpu_throttled_seconds",
        "Time for which processes were kept off the processors by the flavor's quota.",
        True,
        lambda used: used.throttled_ns / _SECOND,
    ),
    _Measure("cpu_limit_cores", "How many processors' time it may use.", False, lambda used: used.cpus),
    _Measure("memory_usage_bytes", "Memory, copies of files included.", False, lambda used: used.memory_bytes),
    _Measure(
        "memory_working_set_bytes",
        "Memory without the copies of files that can go; at the limit, processes are killed.",
        False,
        lambda used: used.working_set_bytes,
    ),
    _Measure("memory_limit_bytes", "Memory that it may have.", False, lambda used: used.memory_max_bytes),
    _Measure("oom_kills", "Processes killed at its memory limit since it started.", True, lambda used: used.oom_kills),
    _Measure("processes", "Processes and threads.", False, lambda used: used.pids),
    _Measure("disk_read_bytes", "Bytes read from the host's disks.", True, lambda used: used.read_bytes),
    _Measure("disk_written_bytes", "Bytes written to the host's disks.", True, lambda used: used.written_bytes),
    _Measure("disk_reads", "Requests to read from the host's disks.", True, lambda used: used.read_requests),
    _Measure("disk_writes", "Requests to write to the host's disks.", True, lambda used: used.written_requests),
)

# Not errors: a pair of virtual devices has none.
TRAFFIC = (
    _Traffic("network_receive_bytes", "Bytes that it received.", lambda port: port.rx_octets),
    _Traffic("network_transmit_bytes", "Bytes that it sent.", lambda port: port.tx_octets),
    _Traffic("network_receive_packets", "Packets that it received.", lambda port: port.rx_packets),
    _Traffic("network_transmit_packets", "Packets that it sent.", lambda port: port.tx_packets),
    _Traffic("network_receive_drop", "Packets to it that were dropped.", lambda port: port.rx_drop),
    _Traffic("network_transmit_drop", "Packets of it that were dropped.", lambda port: port.tx_drop),
)


class HostMetrics(Collector):
    """Reads everything anew at each scrape; what cannot be read is told of, and the rest is there."""

    def __init__(self, census: Census, *, name: str, disk: str, compute: Path | None) -> None:
        """Read nothing yet.

        Args:
            census: finds the servers.
            name: Nova's name of this host.
            disk: a directory of the file system that holds servers' disks.
            compute: the file in which nova-compute counts, if it does.
        """
        self._census, self._name, self._disk, self._compute = census, name, disk, compute

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        begun = time.perf_counter()
        readable = GaugeMetricFamily(
            "dockstack_exporter_source_readable", "Whether this source could be read.", labels=["source"]
        )
        sources: dict[str, Callable[[], Iterable[Metric]]] = {"servers": self._servers, "host": self._host}
        if self._compute is not None:
            sources["compute"] = partial(_counted, self._compute)
        for source, read in sources.items():
            try:
                found = list(read())
            except (OSError, ValueError):
                readable.add_metric([source], 0)
                continue
            readable.add_metric([source], 1)
            yield from found
        yield readable
        taken = time.perf_counter() - begun
        yield GaugeMetricFamily("dockstack_exporter_read_seconds", "How long reading took.", value=taken)

    def _servers(self) -> Iterator[Metric]:
        readings = self._census.read()
        about = GaugeMetricFamily("dockstack_server_info", "Whose it is.", labels=["server", "project"])
        running = GaugeMetricFamily("dockstack_server_running", "Whether it has processes.", labels=["server"])
        paused = GaugeMetricFamily("dockstack_server_paused", "Whether they are frozen.", labels=["server"])
        for reading in readings:
            about.add_metric([reading.uuid, reading.project], 1)
            running.add_metric([reading.uuid], reading.used is not None)
            paused.add_metric([reading.uuid], reading.used is not None and reading.used.paused)
        yield from (about, running, paused)
        yield from (_measured(measure, readings) for measure in MEASURES)
        yield from (_carried(traffic, readings) for traffic in TRAFFIC)

    def _host(self) -> Iterator[Metric]:
        about = GaugeMetricFamily("dockstack_host_info", "Nova's name of this host.", labels=["host"])
        about.add_metric([self._name], 1)
        times, memory = usage.read_cpu_times(), usage.read_memory()
        spent = CounterMetricFamily("dockstack_host_cpu_seconds", "What its processors did.", labels=["mode"])
        for mode in ("user", "kernel", "idle", "iowait"):
            spent.add_metric([mode], getattr(times, mode) / _SECOND)
        size, free = usage.read_space(self._disk)
        yield from (about, spent)
        for name, meaning, value in (
            ("memory_total_bytes", "Its memory.", memory.total_mb * _MIB),
            ("memory_available_bytes", "What programs may still have of its memory.", memory.available_mb * _MIB),
            ("disk_size_bytes", "The file system that holds servers' disks.", size),
            ("disk_free_bytes", "What is free of that file system.", free),
        ):
            yield GaugeMetricFamily(f"dockstack_host_{name}", meaning, value=value)
        kills = "Processes killed for want of memory since it booted, servers' and others."
        yield CounterMetricFamily("dockstack_host_oom_kills", kills, value=usage.read_oom_kills())


def _counted(path: Path) -> Iterator[Metric]:
    """Take over what nova-compute counted."""
    with path.open(encoding="utf-8") as file:
        text = file.read(_LARGEST)
    for found in text_string_to_metric_families(text):
        if found.name.startswith(COMPUTE_PREFIX) and not found.name.endswith("_created"):
            yield found


def _measured(measure: _Measure, readings: Iterable[Reading]) -> Metric:
    family = CounterMetricFamily if measure.counts else GaugeMetricFamily
    found = family(f"dockstack_server_{measure.name}", measure.help, labels=["server"])
    for reading in readings:
        value = None if reading.used is None else measure.value(reading.used)
        if value is not None:
            found.add_metric([reading.uuid], value)
    return found


def _carried(traffic: _Traffic, readings: Iterable[Reading]) -> Metric:
    found = CounterMetricFamily(f"dockstack_server_{traffic.name}", traffic.help, labels=["server", "device"])
    for reading in readings:
        for device, port in reading.ports.items():
            found.add_metric([reading.uuid, device], traffic.value(port))
    return found
