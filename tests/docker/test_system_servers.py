# SPDX-License-Identifier: Apache-2.0
"""Servers with the init of a whole system: what it finds, and what a reboot or a power off from inside does."""

from __future__ import annotations

import queue
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
import system_image
from private_engine import wait_for
from server_lab import docker_archive, lab_host

from dockstack.compute.containers.events import Follower
from dockstack.compute.engine import EventKind
from dockstack.compute.flows import endings, lifecycle
from dockstack.compute.host.notifier import EventNotifier
from dockstack.compute.model import Confinement, Image, PowerState
from dockstack.compute.network import ovs

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SYSTEM = Image(id="system", name="system", container_format="docker")
BUSYBOX = Image(id="busybox", name="busybox", container_format="docker")


@pytest.fixture
def host(private_engine, engine, monkeypatch):
    for name in ("plug", "unplug", "unplug_device"):
        monkeypatch.setattr(ovs, name, lambda *_arguments: None)
    monkeypatch.setattr(ovs, "wait_installed", lambda _ports: set())

    def download(image):
        if image.id == BUSYBOX.id:
            yield docker_archive({"Cmd": ["/bin/init"]})
            return
        with system_image.archive().open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk

    return lab_host(private_engine, private_engine.directory, download)


@pytest.fixture
def spawn(lab, host):
    made = []

    def work(image, **changes):
        server = lab.server(**changes)
        server = replace(server, image=image, limits=replace(server.limits, memory_mb=256))
        made.append(server)
        lifecycle.spawn(host, server, lambda _ports: nullcontext(set()))
        return server

    yield work
    for server in made:
        lifecycle.destroy(host, server)


@pytest.fixture
def told(host, engine, lab):
    """What Nova hears, as the driver tells it; it wants all servers running."""
    said = queue.Queue()

    def read_wanted(server_uuid):
        return next(server for server in lab.servers if server.uuid == server_uuid)

    def tell(event):
        endings.tell(host, event, said.put, lambda *_: False, read_wanted)

    follower = Follower(engine, EventNotifier(host.busy, tell).take, lambda _listed: None)
    follower.start()
    yield said
    follower.stop()


def ask(lab, server, *command: str) -> str:
    return lab.engine.execute(server.container_name, command).output.decode(errors="replace").strip()


def test_systemd_runs_a_whole_system_and_has_no_more_rights(spawn, lab, host) -> None:
    server = spawn(SYSTEM)
    states = ("running", "degraded")
    state = wait_for(
        lambda: next((s for s in states if ask(lab, server, "systemctl", "is-system-running") == s), None), "boot"
    )
    assert state == "running", ask(lab, server, "systemctl", "--failed", "--no-pager")
    assert ask(lab, server, "cat", "/run/guarded") == "guarded"
    assert (
        ask(lab, server, "systemctl", "is-active", "systemd-journald", "dbus", "console-getty")
        == "active\n" * 2 + "active"
    )
    assert ask(lab, server, "cat", "/etc/machine-id") == server.uuid.replace("-", "")
    lab.wait_for_log(server, b"Multi-User System")
    lab.wait_for_log(server, f"Debian GNU/Linux 12 {server.hostname}".encode())  # its getty says so before it asks

    mounts = dict(line.split()[1:4:2] for line in ask(lab, server, "cat", "/proc/mounts").splitlines())
    assert all(mounts[place].startswith("rw") for place in ("/run", "/run/lock", "/tmp"))
    assert "noexec" not in mounts["/run"]
    writable = {place for place, options in mounts.items() if place.startswith("/sys") and options.startswith("rw")}
    assert writable <= {"/sys/fs/cgroup"}
    groups = ask(lab, server, "cat", "/proc/1/cgroup")
    assert lab.state(server).id not in groups, "it sees where its groups are on the host"
    assert (
        ask(lab, server, "sh", "-c", "echo 9 > /sys/fs/cgroup/pids/pids.max || echo 9 > /sys/fs/cgroup/pids.max") != ""
    )
    assert not int(re.search(r"CapEff:\s+(\w+)", ask(lab, server, "cat", "/proc/1/status"))[1], 16) & (
        1 << 21 | 1 << 12
    )
    for refused in ("mount -t tmpfs x /mnt", "unshare -n true", "mknod /x b 7 0", "echo 1 > /proc/sys/kernel/pid_max"):
        assert lab.engine.execute(server.container_name, ["sh", "-c", refused]).exit_code != 0, refused

    lifecycle.stop(host, server, 60)
    assert lab.state(server).exit_code == 130, "it was killed, and not asked to halt"


def test_a_reboot_from_inside_starts_the_server_again_with_its_network(spawn, lab, told) -> None:
    server = spawn(BUSYBOX)
    before, mac = lab.state(server).started_at, server.ports[0].mac
    first = ask(lab, server, "cat", BOOT_ID)
    assert first == ask(lab, server, "cat", BOOT_ID)
    lab.run(server, "touch", "/kept")

    lab.engine.execute(server.container_name, ["/bin/busybox", "reboot", "-f"])

    wait_for(lambda: lab.state(server).started_at != before and lab.state(server).pid, "the server's start")
    assert ask(lab, server, "cat", BOOT_ID) not in ("", first)
    assert lab.run(server, "ls", "/kept") == "/kept\n"
    assert mac in lab.run(server, "ip", "link")
    assert EventKind.STOPPED not in [event.kind for event in list(told.queue)]


def test_who_switches_itself_off_is_off(spawn, lab, host, told) -> None:
    server = spawn(BUSYBOX)
    lab.engine.execute(server.container_name, ["/bin/busybox", "poweroff", "-f"])
    event = told.get(timeout=60)
    while event.kind is not EventKind.STOPPED:
        event = told.get(timeout=60)
    assert lab.state(server).state is PowerState.SHUTDOWN
    assert b"was shut down" in endings.read_log(host, server)


def test_busybox_is_asked_to_switch_off_in_its_own_words(spawn, lab, host) -> None:
    server = spawn(BUSYBOX)
    lifecycle.stop(host, server, 60)
    assert lab.state(server).exit_code == 130


def test_an_owner_of_a_network_sets_what_is_its_own(spawn, lab) -> None:
    server = spawn(BUSYBOX)
    write = "for path in {}; do echo 1 > /proc/sys/$path; done"
    own = "net/core/somaxconn net/ipv4/conf/eth0/rp_filter net/ipv4/tcp_fin_timeout"
    lab.run(server, "sh", "-c", f"set -e; {write.format(own)}")
    assert lab.run(server, "cat", "/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/tcp_fin_timeout") == "1\n1\n"
    # what bounds the kernel's own memory, what is not of the network, and what the kernel leaves to CAP_NET_ADMIN
    others = (
        "net/ipv4/ipfrag_high_thresh net/ipv4/neigh/eth0/mcast_solicit kernel/pid_max vm/swappiness net/ipv4/ip_forward"
    )
    refused = ask(lab, server, "sh", "-c", write.format(f"{others} {BOOT_ID.removeprefix('/proc/sys/')}"))
    assert len(refused.splitlines()) == 6, refused


def test_a_flavor_lets_a_server_forward(spawn, lab) -> None:
    server = spawn(BUSYBOX, confinement=Confinement(cap_add=("NET_ADMIN",)))
    lab.run(server, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    assert lab.run(server, "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
