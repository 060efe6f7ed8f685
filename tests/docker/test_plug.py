# SPDX-License-Identifier: Apache-2.0
"""The switch's end, on an Open vSwitch of the tests' own: its own database, sockets and network."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from private_engine import wait_for
from vif_plug_ovs import privsep

from dockstack.compute.network import ovs, veth
from dockstack.compute.network.ovs import PlugError

BRIDGE = "br-test"
CLONE_NEWNET = 0x40000000


class PrivateSwitch:
    def __init__(self, directory) -> None:
        self.directory = directory
        self.database = f"unix:{directory}/db.sock"
        self._processes: list[subprocess.Popen] = []

    def start(self) -> None:
        schema = "/usr/share/openvswitch/vswitch.ovsschema"
        subprocess.run(["ovsdb-tool", "create", self.directory / "conf.db", schema], check=True)
        self._spawn("ovsdb-server", self.directory / "conf.db", f"--remote=p{self.database}")
        wait_for((self.directory / "db.sock").exists, "ovsdb-server")
        self.vsctl("--no-wait", "init")
        self._spawn("ovs-vswitchd", self.database)
        self.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")

    def vsctl(self, *arguments: str) -> str:
        command = ["ovs-vsctl", "--retry", "--timeout=120", f"--db={self.database}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def interface(self, device: str, column: str) -> str:
        return self.vsctl("get", "interface", device, column).strip()

    def stop(self) -> None:
        self.vsctl("--if-exists", "del-br", BRIDGE)
        for process in self._processes:
            process.kill()
            process.wait()

    def _spawn(self, program: str, *arguments: object) -> None:
        options = [f"--unixctl={self.directory}/{program}.ctl", f"--pidfile={self.directory}/{program}.pid"]
        log = (self.directory / f"{program}.log").open("w")
        self._processes.append(subprocess.Popen([program, *arguments, *options], stdout=log, stderr=log))


@pytest.fixture(scope="module")
def own_network():
    """Move this thread, and what it starts, to a network of its own: a host can have one userspace datapath."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    try:
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0
        os.close(before)


@pytest.fixture(scope="module")
def switch(own_network, tmp_path_factory):
    assert shutil.which("ovs-vswitchd"), "these tests need a switch: apt-get install openvswitch-switch"
    privsep.vif_plug.set_client_mode(False)
    switch = PrivateSwitch(tmp_path_factory.mktemp("switch"))
    switch.start()
    patient = pytest.MonkeyPatch()
    patient.setattr(ovs, "_INSTALL_PATIENCE", 120.0)
    try:
        ovs.connect(switch.database)
        yield switch
    finally:
        patient.undo()
        switch.stop()


def on_switch(server):
    port = replace(server.ports[0], bridge=BRIDGE)
    return replace(server, ports=(port,)), port


def test_plugs_what_neutron_waits_for(lab, switch) -> None:
    server, port = on_switch(lab.server())
    lab.create(server)
    for _ in range(2):
        ovs.plug(server, port)
        assert switch.vsctl("list-ports", BRIDGE).split() == [port.device]
    for key, value in {
        "iface-id": port.id,
        "iface-status": "active",
        "attached-mac": port.mac,
        "vm-uuid": server.uuid,
    }.items():
        assert switch.interface(port.device, f"external_ids:{key}") == f'"{value}"' or value == "active"
    wait_for(lambda: switch.interface(port.device, "ofport") not in ("[]", "-1"), "the switch takes the device")
    assert switch.interface(port.device, "error") == "[]"
    assert switch.vsctl("get", "bridge", BRIDGE, "datapath_type").strip() == "netdev"
    assert ovs.list_plugged() == {port.device: server.uuid}
    for _ in range(2):
        ovs.unplug(server, port)
    assert ovs.list_plugged() == {}
    links = subprocess.run(["ip", "link"], check=True, capture_output=True, text=True).stdout
    assert port.device not in links


def test_two_servers_talk(lab, switch) -> None:
    servers = [on_switch(lab.server()) for _ in range(2)]
    for server, port in servers:
        lab.create(server)
        ovs.plug(server, port)
        lab.engine.start(server.container_name)
    (first, _), (_, second_port) = servers
    for address in second_port.addresses:
        host = address.cidr.partition("/")[0]
        lab.run(first, "sh", "-c", f"i=0; until ping -c1 -W1 {host}; do i=$((i+1)); [ $i -lt 40 ] || exit 1; done")
    for server, port in servers:
        ovs.unplug(server, port)


def have_ovn(switch) -> None:
    """Have OVN run the switch, as far as the driver's replica of its database tells, which follows a moment later."""
    switch.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=unix:/nowhere")
    look = ovs.connect().db_list("Open_vSwitch", columns=["external_ids"])
    deadline = time.monotonic() + 30
    while "ovn-remote" not in look.execute(check_error=True)[0]["external_ids"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_waits_for_the_flows_only_where_ovn_says_that_they_are_there(lab, switch) -> None:
    server, port = on_switch(lab.server())
    lab.create(server)
    ovs.plug(server, port)
    assert ovs.wait_installed({port.id}) == set()  # no OVN: at once, and Neutron has the word
    have_ovn(switch)
    try:
        saying = threading.Timer(
            0.3, switch.vsctl, ["set", "interface", port.device, "external_ids:ovn-installed=true"]
        )
        saying.start()
        assert ovs.wait_installed({port.id}) == {port.id}
        saying.join()
        assert ovs.wait_installed(set()) == set()
    finally:
        switch.vsctl("remove", "Open_vSwitch", ".", "external_ids", "ovn-remote")
        ovs.unplug(server, port)


def test_waiting_for_flows_reads_the_ports_once_however_long_it_takes(lab, switch, monkeypatch) -> None:
    """The database says what changes: a build that waits costs nothing, and two that wait do not mix."""
    server, port = on_switch(lab.server())
    other, other_port = on_switch(lab.server())
    for each, its_port in ((server, port), (other, other_port)):
        lab.create(each)
        ovs.plug(each, its_port)
    have_ovn(switch)
    database, reads = ovs.connect(), []
    db_list = database.db_list
    monkeypatch.setattr(database, "db_list", lambda table, **more: reads.append(table) or db_list(table, **more))
    try:
        with ThreadPoolExecutor(2) as pool:
            waits = {each.id: pool.submit(ovs.wait_installed, {each.id}) for each in (port, other_port)}
            for each in (other_port, port):
                assert not waits[each.id].done()
                switch.vsctl("set", "interface", each.device, "external_ids:ovn-installed=true")
                assert waits[each.id].result(timeout=60) == {each.id}
        assert sorted(reads) == ["Interface", "Interface", "Open_vSwitch", "Open_vSwitch"]
        assert ovs.wait_installed({port.id, other_port.id}) == {port.id, other_port.id}
        assert not ovs._connected["events"]._queues or not any(ovs._connected["events"]._queues.values())
    finally:
        switch.vsctl("remove", "Open_vSwitch", ".", "external_ids", "ovn-remote")
        ovs.unplug(server, port)
        ovs.unplug(other, other_port)


def test_a_swept_device_leaves_the_switch(lab, switch) -> None:
    server, port = on_switch(lab.server())
    lab.create(server)
    ovs.plug(server, port)
    for _ in range(2):
        ovs.unplug_device(port.device)
        veth.unwire_device(port.device)
    assert ovs.list_plugged() == {}


def test_refusals_say_what_to_do(lab, switch) -> None:
    server = lab.server()
    with pytest.raises(PlugError, match=r"no bridge nowhere on this host.*ovn-controller"):
        ovs.plug(server, replace(server.ports[0], bridge="nowhere"))
    with pytest.raises(PlugError, match=r"binding_failed.*which a container cannot have"):
        ovs.plug(server, replace(server.ports[0], vif_type="binding_failed"))
    with pytest.raises(PlugError, match=r"iptables_hybrid.*would be bypassed"):
        ovs.plug(server, replace(server.ports[0], bridge=BRIDGE, bridged=True))
