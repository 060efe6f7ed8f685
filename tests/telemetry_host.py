# SPDX-License-Identifier: Apache-2.0
"""The files of a host with servers on it, as kernel, runtime and driver write them: for the tests of telemetry."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from dockstack.compute.containers import runtime
from dockstack.telemetry.census import Census

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = "5f0c7d6d0d9f4a5d8b1f0a3c2e4b6d78"
COUNTERS = "1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0"
STAT = "cache 8192\nrss 4096\nmapped_file 0\ninactive_file 4096\ntotal_rss 4096\ntotal_inactive_file 4096\n"
VERSION_1 = {
    "cpuacct/cpuacct.usage": "2500000000",
    "cpu/cpu.stat": "nr_periods 9\nnr_throttled 1\nthrottled_time 500000000",
    "cpu/cpu.cfs_quota_us": "200000",
    "cpu/cpu.cfs_period_us": "100000",
    "memory/memory.usage_in_bytes": "12288",
    "memory/memory.limit_in_bytes": "67108864",
    "memory/memory.stat": STAT,
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1",
    "pids/pids.current": "3",
    "blkio/blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 8192\nTotal 12288",
    "blkio/blkio.throttle.io_serviced": "8:0 Read 1\n8:0 Write 2\nTotal 3",
    "freezer/freezer.state": "THAWED",
}
VERSION_2 = {
    "cpu.stat": "usage_usec 2500000\nthrottled_usec 500000",
    "cpu.max": "200000 100000",
    "memory.current": "12288",
    "memory.max": "67108864",
    "memory.stat": "anon 4096\nfile 8192\ninactive_file 4096\n",
    "memory.events": "oom 1\noom_kill 1",
    "pids.current": "3",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2",
    "cgroup.freeze": "0",
}


class TelemetryHost:
    """A host below a directory."""

    def __init__(self, directory: Path, version: int = 2) -> None:
        self.version = version
        self.patches, self.groups = directory / "patches", directory / "cgroup"
        self.links, self.counters = directory / "net", directory / "dev"
        for path in (self.patches, self.groups, self.links):
            path.mkdir(parents=True)
        if version == 2:
            (self.groups / "cgroup.controllers").touch()
        self.counters.write_text("Inter-\n face\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n")
        self.devices = [(1, "lo")]

    def add(self, number: int, *, running: bool = True, project: str = PROJECT) -> str:
        """Add a server with one port; return its uuid."""
        server, container, device = str(uuid.UUID(int=number)), f"{number:064x}", f"tap{number:08x}-aa"
        runtime.write_owner(self.patches, container, server, project)
        (self.links / device).mkdir()
        (self.links / device / "ifalias").write_text(f"nova-{server}\n")
        with self.counters.open("a") as file:
            file.write(f"{device}: {COUNTERS}\n")
        self.devices.append((number + 1, device))
        if running:
            self.fill(f"docker/{container}")
        return server

    def fill(self, group: str, counted: dict[str, str] | None = None) -> None:
        """Make a control group, or change what was counted in it."""
        for name, text in (counted or (VERSION_1 if self.version == 1 else VERSION_2)).items():
            controller, _, file = name.rpartition("/")
            directory = self.groups / controller / group
            directory.mkdir(parents=True, exist_ok=True)
            (directory / file).write_text(f"{text}\n")

    def census(self) -> Census:
        """Return a census of it, that is told of its devices as the kernel would."""
        return Census(
            self.patches,
            groups=self.groups,
            links=self.links,
            counters=self.counters,
            list_devices=lambda: list(self.devices),
        )
