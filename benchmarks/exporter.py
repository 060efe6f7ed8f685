# SPDX-License-Identifier: Apache-2.0
"""What a scrape of the exporter costs, with made-up control groups: ``exporter.py --servers 300``.

Files of a real control group cost the kernel more than plain ones do: it adds up its counters when they are read.
``--kernel`` makes real, empty ones (root), and ``--real`` measures a scrape of the servers that this host has.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.exposition import generate_latest

from dockstack.compute.resources import cgroups
from dockstack.telemetry.census import Census
from dockstack.telemetry.exporter import build_registry
from dockstack.telemetry.metrics import HostMetrics
from telemetry_host import TelemetryHost

if TYPE_CHECKING:
    from collections.abc import Iterator


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(census: Census, scrapes: int) -> None:
    registry = build_registry(HostMetrics(census, name="host", disk="/", compute=None))
    page = generate_latest(registry)  # the first learns whose everything is
    costs = []
    for _ in range(scrapes):
        begun = cpu_seconds()
        generate_latest(registry)
        costs.append(cpu_seconds() - begun)
    cost = statistics.median(costs)
    shares = ", ".join(f"{100 * cost / interval:.2f} % each {interval} s" for interval in (15, 30, 60))
    servers = page.count(b"\ndockstack_server_running{")
    samples = sum(not line.startswith(b"#") for line in page.splitlines())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{servers} servers, {samples} samples, {len(page) >> 10} KiB, {memory} MiB of memory")
    print(f"{1000 * cost:.1f} ms of a processor a scrape: {shares}")


@contextmanager
def kernel_groups(host: TelemetryHost, count: int) -> Iterator[None]:
    """Have real control groups for a host's servers, below one of the benchmark's own."""
    separate = not (cgroups.ROOT / "cgroup.controllers").exists()
    roots = [cgroups.ROOT / name for name in cgroups.CONTROLLERS] if separate else [cgroups.ROOT]
    parents = [root.resolve() / "dockstack-benchmark" for root in roots]
    made: list[Path] = []
    try:
        for parent in dict.fromkeys(parents):
            parent.mkdir()
            made.append(parent)
            if not separate:
                (parent / "cgroup.subtree_control").write_text("+cpu +io +memory +pids")
            for number in range(count):
                (parent / f"{number:064x}").mkdir()
                made.append(parent / f"{number:064x}")
        host.groups = cgroups.ROOT
        yield
    finally:
        for path in reversed(made):
            path.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a scrape of the exporter costs.")
    parser.add_argument("--servers", type=int, default=300)
    parser.add_argument("--version", type=int, choices=(1, 2), default=2, help="of control groups")
    parser.add_argument("--scrapes", type=int, default=21)
    parser.add_argument("--kernel", action="store_true", help="with real, empty control groups of this host's version")
    parser.add_argument("--real", action="store_true", help="this host's servers")
    options = parser.parse_args()
    if options.real:
        measure(Census(), options.scrapes)
        return
    with tempfile.TemporaryDirectory() as directory:
        host = TelemetryHost(Path(directory), options.version)
        for number in range(options.servers):
            host.add(number)
        if not options.kernel:
            measure(host.census(), options.scrapes)
            return
        with kernel_groups(host, options.servers):
            measure(host.census(), options.scrapes)


if __name__ == "__main__":
    main()
