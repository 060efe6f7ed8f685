# SPDX-License-Identifier: Apache-2.0
"""Interfaces that come and go on living servers, with real links; a bridge of the kernel's is the switch."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace

import psutil
import pytest
from private_engine import wait_for
from server_lab import lab_host, make_port

from dockstack.compute.containers import namespaces
from dockstack.compute.flows import interfaces, lifecycle
from dockstack.compute.model import Address, PowerState
from dockstack.compute.network import ovs, veth
from dockstack.compute.privileged import hosts_file

BRIDGE = f"dstest{os.getpid()}"
BRIDGE_END = f"dstesx{os.getpid()}"
PEER = f"dockstack-test-peer-{os.getpid()}"


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def remove_bridge() -> None:
    # The link first: the kernel takes the time it likes to remove the links of a namespace that has gone.
    for command in (["link", "del", BRIDGE_END], ["netns", "del", PEER], ["link", "del", BRIDGE]):
        subprocess.run(["ip", *command], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def bridge(monkeypatch):
    """A switch, and behind it a host that routes to everything else."""
    remove_bridge()  # of a killed run whose process had this one's number
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("netns", "add", PEER)
    try:
        ip("link", "set", BRIDGE, "up")
        ip("link", "add", BRIDGE_END, "type", "veth", "peer", "name", "eth0", "netns", PEER)
        ip("link", "set", BRIDGE_END, "master", BRIDGE, "up")
        for setting in (
            ["addr", "add", "10.77.0.1/24"],
            ["addr", "add", "10.77.1.1/24"],
            ["addr", "add", "10.88.0.1/24"],
        ):
            ip("-n", PEER, *setting, "dev", "eth0")
        ip("-n", PEER, "link", "set", "eth0", "up")
        monkeypatch.setattr(ovs, "plug", lambda _server, port: ip("link", "set", port.device, "master", BRIDGE))
        monkeypatch.setattr(ovs, "unplug", lambda _server, _port: None)
        monkeypatch.setattr(ovs, "unplug_device", lambda _device: None)
        yield
    finally:
        remove_bridge()


@pytest.fixture
def host(private_engine, bridge, tmp_path):
    return lab_host(private_engine, tmp_path)


@pytest.fixture
def server(lab, host):
    server = lab.boot()
    interfaces.reconnect(host, server, lab.state(server))
    return server


def answers(address: str, source: str = "10.77.0.1") -> bool:
    command = ["ip", "netns", "exec", PEER, "ping", "-c1", "-W1", "-I", source, address]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def await_answer(address: str, source: str = "10.77.0.1") -> None:
    wait_for(lambda: answers(address, source), f"an answer of {address}")


def first_address(port) -> str:
    return port.addresses[0].cidr.partition("/")[0]


def macs(server) -> dict[str, str]:
    return {interface.name: interface.mac for interface in namespaces.interfaces(server.uuid)}


def test_an_interface_comes_and_goes_and_the_first_one_does_not_notice(lab, host, server) -> None:
    before = lab.run(server, "sh", "-c", "ip -o addr show dev eth0; ip route show dev eth0")
    port = make_port(911, 1)

    for _ in range(2):
        interfaces.attach(host, server, port)
    await_answer(first_address(port), "10.77.1.1")
    await_answer(first_address(server.ports[0]))
    assert macs(server)["eth1"] == port.mac
    assert veth.names(server.uuid) == {server.ports[0].device: "eth0", port.device: "eth1"}
    lab.engine.stop(server.container_name, 0)
    lifecycle.start(host, replace(server, ports=(*server.ports, port)))
    await_answer(first_address(port), "10.77.1.1")

    for _ in range(2):
        interfaces.detach(host, server, port)
    assert "eth1" not in macs(server)
    assert lab.run(server, "sh", "-c", "ip -o addr show dev eth0; ip route show dev eth0") == before
    await_answer(first_address(server.ports[0]))


def test_answers_leave_by_the_interface_that_was_asked(lab, host, server) -> None:
    """A peer beyond the router reaches the second interface, although the default route is the first one's."""
    port = make_port(912, 1)
    interfaces.attach(host, server, port)

    await_answer(first_address(port), "10.88.0.1")
    packets = "/sys/class/net/eth{}/statistics/tx_packets"
    sent = [int(lab.run(server, "cat", packets.format(number))) for number in range(2)]
    for _ in range(20):
        await_answer(first_address(port), "10.88.0.1")
    now = [int(lab.run(server, "cat", packets.format(number))) for number in range(2)]
    assert now[1] - sent[1] >= 20
    assert now[0] - sent[0] < 20, "some of the kernel's own"
    assert "10.77.0.1 dev eth0" in lab.run(server, "ip", "route", "get", "10.88.0.1"), "the first one's default route"


def test_a_gap_is_filled_and_nobody_moves(lab, host, server) -> None:
    ports = [make_port(920 + number, number) for number in (1, 2, 3)]
    interfaces.attach(host, server, ports[0])
    interfaces.attach(host, replace(server, ports=(*server.ports, ports[0])), ports[1])
    interfaces.detach(host, server, ports[0])
    left = replace(server, ports=(*server.ports, ports[1]))
    lifecycle.reboot(host, left, hard=True)
    assert macs(server)["eth2"] == ports[1].mac

    interfaces.attach(host, left, ports[2])
    assert macs(server) == {
        "eth0": server.ports[0].mac,
        "eth1": ports[2].mac,
        "eth2": ports[1].mac,
    }


def test_a_server_starts_with_what_nova_says(lab, host, server) -> None:
    """What was attached and detached while this host was away."""
    gone, come = make_port(931, 1), make_port(932, 2)
    interfaces.attach(host, server, gone)
    lifecycle.stop(host, server, 0)
    lifecycle.start(host, replace(server, ports=(*server.ports, come)))
    assert macs(server) == {"eth0": server.ports[0].mac, "eth1": come.mac}


@pytest.mark.parametrize("state", [PowerState.PAUSED, PowerState.SHUTDOWN])
def test_an_interface_of_a_server_that_does_not_run_is_silent_until_it_does(lab, host, server, state) -> None:
    port = make_port(941, 1)
    if state is PowerState.PAUSED:
        lifecycle.pause(host, server)
    else:
        lifecycle.stop(host, server, 0)

    interfaces.attach(host, server, port)
    assert not answers(first_address(port), "10.77.1.1")
    assert not answers(first_address(server.ports[0]))
    if state is PowerState.PAUSED:
        lifecycle.unpause(host, server)
    else:
        lifecycle.start(host, replace(server, ports=(*server.ports, port)))
    await_answer(first_address(port), "10.77.1.1")
    await_answer(first_address(server.ports[0]))


def test_a_paused_server_is_off_the_network_and_loses_nothing_of_it(lab, host, server) -> None:
    facts = "ip -o addr; ip route; ip -6 route show dev eth0 | cut -d' ' -f1-3"
    await_answer(first_address(server.ports[0]))
    before = lab.run(server, "sh", "-c", facts)
    lifecycle.pause(host, server)
    assert not answers(first_address(server.ports[0]))
    interfaces.replug(host, server)
    assert not answers(first_address(server.ports[0])), "nor after nova-compute started again"
    lifecycle.unpause(host, server)
    await_answer(first_address(server.ports[0]))
    assert lab.run(server, "sh", "-c", facts) == before


def test_addresses_follow_neutron_and_the_owners_own_stay(lab, host, server) -> None:
    (port,) = server.ports
    more = replace(
        port, addresses=(*port.addresses, Address("10.77.0.250/24", "10.77.0.1"), Address("fd77::250/64", "fd77::1"))
    )
    ip("-n", server.container_name, "addr", "add", "10.77.0.251/24", "dev", "eth0")

    interfaces.refresh(host, replace(server, ports=(more,)))
    await_answer("10.77.0.250")
    await_answer(first_address(port))
    assert "fd77::250/64" in lab.run(server, "ip", "addr")

    interfaces.refresh(host, server)
    seen = lab.run(server, "ip", "addr")
    assert "10.77.0.250" not in seen
    assert "fd77::250" not in seen
    assert "10.77.0.251" in seen
    for address in port.addresses:
        assert address.cidr in seen
    await_answer(first_address(port))


def test_its_hosts_file_names_the_addresses_that_it_has(lab, host, server) -> None:
    (first,), port = server.ports, make_port(961, 1)
    lab.run(server, "sh", "-c", "echo 192.0.2.1 db >> /etc/hosts; chmod 640 /etc/hosts")

    def named() -> list[str]:
        lines = lab.run(server, "cat", "/etc/hosts").splitlines()
        assert lines[-1] == "192.0.2.1 db", "what is its own stays"
        return [line.split()[0] for line in lines if line.endswith(f"\t{server.hostname}")]

    def addresses(*ports) -> list[str]:
        return [address.cidr.partition("/")[0] for port in ports for address in port.addresses]

    assert named() == addresses(first)
    interfaces.attach(host, server, port)
    assert named() == addresses(first, port)
    both = replace(server, ports=(first, port))
    moved = replace(port, addresses=(Address("10.77.1.240/24", "10.77.1.1"),))
    interfaces.refresh(host, replace(server, ports=(first, moved)))
    assert named() == addresses(first, moved)
    lifecycle.pause(host, server)
    interfaces.detach(host, both, port)
    lifecycle.unpause(host, server)
    assert named() == addresses(first)
    assert lab.run(server, "stat", "-c", "%a", "/etc/hosts") == "640\n"


@pytest.mark.parametrize(
    "trick",
    [
        "mv /etc/hosts /kept; ln -s /kept /etc/hosts",
        "mv /etc /kept; ln -s /kept /etc",
        "rm /etc/hosts; mkdir /etc/hosts",
        "rm /etc/hosts; mkfifo /etc/hosts",
        "sed -i 1,20d /etc/hosts",
        "rm -r /etc",
    ],
)
def test_a_server_that_has_made_something_else_of_its_hosts_file_keeps_it(lab, host, server, trick) -> None:
    lab.run(server, "/bin/busybox", "sh", "-c", trick)
    kept = "cat /etc/hosts /kept 2>/dev/null; ls -l /etc /kept 2>/dev/null; true"
    look = ["sh", "-c", f"test -p /etc/hosts || {{ {kept}; }}"]
    before = lab.run(server, *look)
    interfaces.attach(host, server, make_port(962, 1))
    assert lab.run(server, *look) == before


def test_what_is_no_file_is_not_even_opened(lab, host, server) -> None:
    """An image may hold a device node there, and to the host that is a device: its driver acts when it is opened."""
    lab.run(server, "/bin/busybox", "sh", "-c", "rm /etc/hosts; mkfifo /etc/hosts")
    pipe = f"/proc/{lab.state(server).pid}/root/etc/hosts"
    writer = subprocess.Popen(["sh", "-c", 'echo x >"$0"', pipe])
    try:
        while psutil.Process(writer.pid).status() != psutil.STATUS_SLEEPING:
            time.sleep(0.01)
        interfaces.attach(host, server, make_port(963, 1))
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.5)  # whoever opens the pipe lets it go on, even if only for a moment
    finally:
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.kill()
        writer.wait()


def test_another_process_of_that_number_is_not_written_to(lab, host, server) -> None:
    """A server may end, and its number go to another one, at any moment."""
    container = lab.state(server)
    found = hosts_file.read(container.pid, container.id)
    assert hosts_file.read(container.pid, "0" * 64) is None
    assert not hosts_file.replace(container.pid, "0" * 64, found, b"")
    assert not hosts_file.replace(container.pid, container.id, found + b"older", b""), "the server wrote meanwhile"
    assert hosts_file.read(container.pid, container.id) == found


def test_the_second_interfaces_rules_follow_its_addresses(lab, host, server) -> None:
    port = make_port(951, 1)
    interfaces.attach(host, server, port)
    own = [address.cidr.partition("/")[0] for address in port.addresses]
    moved = replace(port, addresses=(Address("10.77.1.240/24", "10.77.1.1"),))

    def rules() -> str:
        return ip("-n", server.container_name, "rule") + ip("-n", server.container_name, "-6", "rule")

    assert all(f"from {address} lookup 1001" in rules() for address in own)
    interfaces.refresh(host, replace(server, ports=(*server.ports, moved)))
    assert "from 10.77.1.240 lookup 1001" in rules()
    assert not any(address in rules() for address in own)
