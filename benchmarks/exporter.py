# SPDX-License-Identifier: Apache-2.0
"""What a scrape of the exporter costs, with made-up control groups: ``exporter.py --servers 300``.

Files of a real control group cost the kernel more than plain ones do: it adds up its counters when they are read. Run
on a host with servers, ``--real`` measures a scrape of those, to be multiplied.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from pathlib import Path

from prometheus_client.exposition import generate_latest

from dockstack.telemetry.census import Census
from dockstack.telemetry.exporter import build_registry
from dockstack.telemetry.metrics import HostMetrics
from telemetry_host import TelemetryHost


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a scrape of the exporter costs.")
    parser.add_argument("--servers", type=int, default=300)
    parser.add_argument("--version", type=int, choices=(1, 2), default=2, help="of control groups")
    parser.add_argument("--scrapes", type=int, default=21)
    parser.add_argument("--real", action="store_true", help="this host's servers")
    options = parser.parse_args()
    if options.real:
        measure(Census(), options.scrapes)
        return
    with tempfile.TemporaryDirectory() as directory:
        host = TelemetryHost(Path(directory), options.version)
        for number in range(options.servers):
            host.add(number)
        measure(host.census(), options.scrapes)


if __name__ == "__main__":
    main()
