# SPDX-License-Identifier: Apache-2.0
"""What a server may use, and what happens to the host and its neighbours when it wants more."""

from __future__ import annotations

import subprocess
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from private_engine import wait_for
from server_lab import docker_archive, lab_host

from dockstack.compute.engine import NotFound
from dockstack.compute.flows import lifecycle
from dockstack.compute.model import Bandwidth, Image, Limits, PowerState
from dockstack.compute.network import ovs, veth
from dockstack.compute.resources import cgroups, usage
from dockstack.errors import DockstackError

KIB = 1024


def small(**more) -> Limits:
    return Limits(vcpus=1, memory_mb=64, disk_gb=1, **more)


def used(lab, server):
    return cgroups.usage(lab.state(server).pid)


def test_a_server_counts_the_processors_that_it_has(lab) -> None:
    server = lab.boot("nproc", limits=small(cpus=(1,)))
    assert lab.output(server) == "1\n"


def test_swap_is_given_or_refused(lab, private_engine, tmp_path, monkeypatch) -> None:
    """Never silently missing: the machine that runs the tests may have swap or not."""
    for name in ("plug", "unplug", "unplug_device"):
        monkeypatch.setattr(ovs, name, lambda *_arguments: None)
    monkeypatch.setattr(ovs, "wait_installed", lambda _ports: set())
    host = lab_host(private_engine, tmp_path, lambda _image: iter([docker_archive()]))
    image = Image(id="swap", name="swap", container_format="docker")
    server = lab.server(image=image, limits=small(swap_mb=32))
    without = usage.Memory(total_mb=1024, available_mb=512, swap_mb=0)
    monkeypatch.setattr(usage, "read_memory", lambda: without)
    with pytest.raises(DockstackError, match="flavor has swap, and this host has none"):
        lifecycle.spawn(host, server, lambda _ports: nullcontext(set()))
    with pytest.raises(NotFound):
        lab.state(server)

    monkeypatch.setattr(usage, "read_memory", lambda: replace(without, swap_mb=64))
    lifecycle.spawn(host, server, lambda _ports: nullcontext(set()))
    try:
        assert swap_limit_of(lab.state(server).pid) == 32 << 20
    finally:
        lifecycle.destroy(host, server)


def swap_limit_of(pid: int) -> int:
    """Read how much swap the control group of a process may have, of either version."""
    groups = {line.split(":")[1]: line.split(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    if "memory" in groups:
        group = Path(f"/sys/fs/cgroup/memory{groups['memory']}")
        memory, both = (f"memory.{name}limit_in_bytes" for name in ("", "memsw."))
        return int((group / both).read_text()) - int((group / memory).read_text())
    return int(Path(f"/sys/fs/cgroup{groups['']}/memory.swap.max").read_text())


def test_half_of_its_memory_may_be_shared(lab) -> None:
    server = lab.boot("busybox grep /dev/shm /proc/mounts", limits=Limits(vcpus=1, memory_mb=300, disk_gb=1))
    assert f"size={150 << 10}k" in lab.output(server)


def test_an_oom_kill_is_counted_and_stays_inside(lab) -> None:
    neighbour = lab.boot()
    greedy = lab.boot("(head -c 200m /dev/zero | tail -c 190m >/dev/null); exec sleep 1000")
    wait_for(lambda: used(lab, greedy).oom_kills, "an OOM kill in the counters")
    assert lab.state(greedy).state is PowerState.RUNNING
    assert used(lab, greedy).memory_max_bytes == 64 << 20
    assert used(lab, neighbour).oom_kills == 0
    assert lab.run(neighbour, "echo", "fine") == "fine\n"


def test_a_fork_bomb_stays_inside(lab) -> None:
    neighbour = lab.boot()
    # The first process forks once, while there is room: one that may not fork any more would end, and all with it.
    bomb = lab.boot("bomb() { bomb | bomb & }; bomb & exec sleep 1000", limits=small(pids=50))
    wait_for(lambda: (found := used(lab, bomb)) and found.pids >= 45, "the bomb to reach its limit")
    assert used(lab, bomb).pids <= 50
    assert lab.run(neighbour, "echo", "fine") == "fine\n"
    lab.engine.stop(bomb.container_name, 0)
    assert lab.state(bomb).state is PowerState.SHUTDOWN


def test_a_server_that_ignores_the_signal_is_stopped_in_time(lab) -> None:
    stubborn = lab.boot("trap '' TERM; while true; do sleep 1; done")
    begin = time.monotonic()
    lab.engine.stop(stubborn.container_name, 2)
    assert 1.5 < time.monotonic() - begin < 45
    assert lab.state(stubborn).state is PowerState.SHUTDOWN


def test_a_log_flood_is_bounded_on_disk(lab) -> None:
    neighbour = lab.boot()
    flood = lab.boot("yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
    logs = lab.private.directory / "data" / "containers" / lab.state(flood).id

    def size() -> int:
        total = 0
        for path in logs.glob("*.log*"):
            with suppress(FileNotFoundError):  # the engine renames its pieces while they are looked at
                total += path.stat().st_size
        return total

    wait_for(lambda: size() > 5_000_000, "a rotation")
    sizes = []
    for _ in range(20):
        sizes.append(size())
        time.sleep(0.1)  # between two looks; none of them waits for anything
    assert max(sizes) < 3 * 5_000_000, "two pieces of 5 MB, and what is being written while they rotate"
    assert lab.engine.logs(flood.container_name, 100_000).strip().endswith(b"cdef")
    assert lab.run(neighbour, "echo", "fine") == "fine\n"


def test_neighbours_share_a_processor_by_their_weights(lab) -> None:
    spin = "while true; do :; done"
    heavy = lab.boot(spin, limits=small(cpus=(0,), cpu_shares=3072))
    light = lab.boot(spin, limits=small(cpus=(0,), cpu_shares=1024))
    pids = [lab.state(server).pid for server in (heavy, light)]
    wait_for(lambda: all(cgroups.usage(pid).cpu_ns > 50_000_000 for pid in pids), "both to spin")

    def grow() -> list[int]:
        return [cgroups.usage(pid).cpu_ns - start for pid, start in zip(pids, before, strict=True)]

    before = [cgroups.usage(pid).cpu_ns for pid in pids]
    wait_for(lambda: sum(grow()) > 4_000_000_000, "4 s of the processor, which others may use too")
    first, second = grow()
    assert 2 < first / second < 4.5


def test_a_quota_is_a_ceiling(lab) -> None:
    server = lab.boot("while true; do :; done", limits=small(cpu_period=100_000, cpu_quota=20_000))
    pid = lab.state(server).pid
    wait_for(lambda: cgroups.usage(pid).cpu_ns > 50_000_000, "the server to spin")
    begin, before = time.monotonic(), cgroups.usage(pid).cpu_ns
    time.sleep(3)  # what is measured: a ceiling holds for any time
    share = (cgroups.usage(pid).cpu_ns - before) / (time.monotonic() - begin) / 1e9  # of no shorter time than it is for
    assert share < 0.25


def test_ports_carry_no_more_than_their_bandwidth(lab) -> None:
    server = lab.server(limits=small(inbound=Bandwidth(500, 100), outbound=Bandwidth(250)))
    lab.create(server)
    lab.engine.start(server.container_name)
    (port,) = server.ports
    namespace = f"nova-{server.uuid}"
    assert "rate 4Mbit" in qdisc(port.device)
    assert "burst 100Kb" in qdisc(port.device)
    assert "rate 2Mbit" in qdisc("eth0", namespace)
    veth.wire(server, port)
    assert qdisc("eth0", namespace).count("tbf") == 1, "again is fine"
    veth.wire(replace(server, limits=small()), port)
    assert "tbf" not in qdisc(port.device)
    assert "tbf" not in qdisc("eth0", namespace)


def qdisc(device: str, namespace: str = "") -> str:
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    return subprocess.run(
        [*inside, "tc", "qdisc", "show", "dev", device], check=True, capture_output=True, text=True
    ).stdout
