# SPDX-License-Identifier: Apache-2.0
"""The network is whole before the first process starts, and stays through everything that happens to a server."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest
from private_engine import wait_for
from server_lab import make_port

from dockstack.compute.containers import namespaces, runtime
from dockstack.compute.containers.runtime import Patch
from dockstack.compute.engine import EngineError
from dockstack.compute.network import veth
from dockstack.compute.network.veth import WireError

# No shell between the start and the first look: whatever is late is missed.
LOOK = "ip addr; ip route; ip -6 route; cat /etc/resolv.conf /etc/hosts; cat /proc/net/if_inet6"
FACTS = "ip -o addr show dev eth0; ip -o link show dev eth0; ip route; ip -6 route"


def nic(lab, server) -> str:
    return lab.run(server, "sh", "-c", FACTS)


def assert_complete(seen: str, port) -> None:
    assert f"link/ether {port.mac}" in seen
    assert f"mtu {port.mtu}" in seen
    for address in port.addresses:
        assert str(ip_interface(address.cidr)) in seen
    assert f"default via {port.addresses[0].gateway}" in seen
    assert f"default via {port.addresses[1].gateway}" in seen
    assert f"10.99.0.0/16 via {port.routes[0].gateway}" in seen
    assert "169.254.169.254 dev eth0" in seen
    assert "tentative" not in seen


def test_first_process_sees_everything(lab) -> None:
    for _ in range(5):
        server = lab.boot(LOOK)
        seen = lab.output(server)
        assert_complete(seen, server.ports[0])
        assert "nameserver 10.77.0.2" in seen
        assert f"{server.ports[0].addresses[0].cidr.partition('/')[0]}\t{server.hostname}" in seen
        assert "127.0.0.1" in seen


def test_hosts_and_names_are_the_servers_own_files(lab) -> None:
    server = lab.boot()
    edit = "cd /etc; echo 192.0.2.1 mine > new; /bin/busybox mv new hosts; /bin/busybox rm resolv.conf"
    lab.run(server, "sh", "-c", edit)
    lab.engine.stop(server.container_name, 0)
    lab.engine.start(server.container_name)
    assert lab.run(server, "cat", "/etc/hosts") == "192.0.2.1 mine\n"
    assert lab.run(server, "cat", "/etc/hostname").strip() == server.hostname
    assert "resolv.conf" not in lab.run(server, "ls", "/etc")


def test_two_ports_keep_their_order(lab) -> None:
    server = lab.server(LOOK)
    server = lab.server(LOOK, uuid=server.uuid[:-1] + "f", ports=(server.ports[0], make_port(900, 1)))
    lab.create(server)
    lab.engine.start(server.container_name)
    seen = lab.output(server)
    assert_complete(seen, server.ports[0])
    assert "default via 10.77.1.1 dev eth1  metric 101" in seen.replace("proto static ", " ").replace("   ", "  ")


def test_nic_survives_stop_start_restart_and_the_end_of_its_first_process(lab) -> None:
    server = lab.boot()
    before = nic(lab, server)
    assert_complete(before, server.ports[0])
    lab.engine.stop(server.container_name, 0)
    lab.engine.start(server.container_name)
    assert nic(lab, server) == before
    lab.engine.kill(server.container_name)
    lab.engine.stop(server.container_name, 5)
    lab.engine.start(server.container_name)
    assert nic(lab, server) == before


def test_nic_survives_a_killed_engine(lab, private_engine) -> None:
    server = lab.boot()
    before, pid = nic(lab, server), lab.state(server).pid
    private_engine.kill()
    private_engine.start()
    assert lab.state(server).pid == pid
    assert nic(lab, server) == before
    lab.engine.stop(server.container_name, 0)
    lab.engine.start(server.container_name)
    assert nic(lab, server) == before


def test_hot_plug_and_unplug(lab) -> None:
    server = lab.boot()
    port = make_port(901, 1)
    veth.wire(server, port)
    assert port.mac in lab.run(server, "ip", "link")
    assert {interface.name for interface in namespaces.interfaces(server.uuid)} == {"eth0", "eth1"}
    assert veth.wired()[port.device] == server.uuid
    lab.engine.stop(server.container_name, 0)
    lab.engine.start(server.container_name)
    assert port.mac in lab.run(server, "ip", "link")
    veth.unwire(port)
    veth.unwire(port)
    assert port.mac not in lab.run(server, "ip", "link")
    assert_complete(nic(lab, server), server.ports[0])


def test_wiring_again_changes_nothing(lab) -> None:
    server = lab.boot()
    before = nic(lab, server)
    namespaces.prepare(server.uuid)
    veth.wire(server, server.ports[0])
    assert nic(lab, server) == before


def test_without_patch_the_server_does_not_start(lab, private_engine) -> None:
    server = lab.server()
    container_id = lab.create(server)
    runtime.remove_patch(private_engine.patches, container_id)
    with pytest.raises(EngineError, match="no network was prepared for this container"):
        lab.engine.start(server.container_name)
    assert lab.state(server).pid == 0


def test_without_namespace_the_server_does_not_start(lab) -> None:
    server = lab.server()
    lab.create(server)
    namespaces.remove(server.uuid)
    with pytest.raises(EngineError, match="is missing"):
        lab.engine.start(server.container_name)
    (namespaces.privileged.NAMESPACES / server.container_name).touch()
    with pytest.raises(EngineError, match="is no network namespace"):
        lab.engine.start(server.container_name)
    namespaces.prepare(server.uuid)
    for port in server.ports:
        veth.wire(server, port)
    lab.engine.start(server.container_name)
    assert_complete(nic(lab, server), server.ports[0])


@pytest.mark.parametrize("path", ["/proc/1/ns/net", "/run/netns/../../proc/1/ns/net", "/run/netns/other", "", "nova-x"])
def test_a_foreign_namespace_is_refused(lab, private_engine, path) -> None:
    server = lab.server()
    container_id = lab.create(server)
    runtime.write_patch(private_engine.patches, container_id, Patch(netns=path))
    with pytest.raises(EngineError, match="is no namespace of a server"):
        lab.engine.start(server.container_name)


def test_a_taken_interface_is_not_taken_away(lab) -> None:
    server = lab.boot()
    before = nic(lab, server)
    with pytest.raises(WireError, match="eth0: File exists"):
        veth.wire(server, make_port(902, 0))
    assert nic(lab, server) == before
    assert make_port(902, 0).device not in veth.wired()


def test_a_lost_namespace_is_made_again_with_all_its_links(lab) -> None:
    """As after a reboot of the machine: the container is there, stopped, its network is gone."""
    server = lab.boot()
    lab.engine.stop(server.container_name, 0)
    namespaces.remove(server.uuid)
    wait_for(lambda: server.ports[0].device not in veth.wired(), "the kernel's removal of the pair")
    namespaces.prepare(server.uuid)
    veth.wire(server, server.ports[0])
    lab.engine.start(server.container_name)
    assert_complete(nic(lab, server), server.ports[0])
