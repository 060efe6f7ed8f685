# SPDX-License-Identifier: Apache-2.0
"""ML2/OVS for real: two nodes with what `node add` writes there, a message bus, Neutron's plugin, and servers' ports.

What is on a node are its files and services as ``configuration/compute_node.py`` has them: Open vSwitch (its userspace
datapath) and neutron-openvswitch-agent, which runs as its user and gains root by its sudo rule only.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from namespaces import Machine, wait_for

import cloud_files
from dockstack.deploy.configuration import compute_node
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import service_files
from dockstack.deploy.join.look import NodeFacts
from dockstack.deploy.join.plan import Joining
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.attributes import Kind, SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.deploy.wanted.cloud_keys import QUEUE_OPTIONS

pytestmark = pytest.mark.agents
HERE = Path(__file__).parent
PYTHON = "/opt/dockstack/openstack/bin/python"
BUS = "rabbit://agents:bus-pw@10.77.0.1:5672/"
NEUTRON = f"""\
[DEFAULT]
core_plugin = ml2
transport_url = {BUS}
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
global_physnet_mtu = 1500
[database]
connection = mysql+pymysql://root@localhost/neutron?unix_socket=DIRECTORY/database.sock
[oslo_concurrency]
lock_path = DIRECTORY
[ml2]
type_drivers = vxlan
tenant_network_types = vxlan
mechanism_drivers = openvswitch,l2population
extension_drivers = port_security
[ml2_type_vxlan]
vni_ranges = 1:1000
[securitygroup]
enable_security_group = true
"""
RABBIT = "listeners.tcp.1 = 10.77.0.1:5672\ndefault_user = agents\ndefault_pass = bus-pw\n"
LISTEN = (
    "import socket, threading\n"
    "def serve(port):\n"
    "    found = socket.create_server(('0.0.0.0', port))\n"
    "    while True:\n"
    "        plug, _ = found.accept()\n"
    "        plug.sendall(b'x' * (1 << 20))\n"
    "        plug.close()\n"
    "for port in (8080, 8081):\n"
    "    threading.Thread(target=serve, args=(port,)).start()\n"
)
FETCH = (
    "import socket, sys\n"
    "with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as plug:\n"
    "    assert sum(len(part) for part in iter(lambda: plug.recv(65536), b'')) == 1 << 20\n"
)


class Controller:
    """The message bus and a database, and Neutron's plugin behind them."""

    def __init__(self, directory: Path) -> None:
        self.machine = Machine("controller", directory)
        self._conf, self._directory = directory / "neutron.conf", directory
        self._conf.write_text(NEUTRON.replace("DIRECTORY", str(directory)))
        self._bus_directory = directory / "rabbitmq"
        self._bus_directory.mkdir()
        (self._bus_directory / "rabbitmq.conf").write_text(RABBIT)

    def start(self) -> None:
        place = self._bus_directory
        environment = {
            "HOME": str(place),
            "RABBITMQ_NODENAME": "agents@localhost",
            "RABBITMQ_CONFIG_FILE": f"{place}/rabbitmq.conf",
            "RABBITMQ_MNESIA_BASE": str(place),
            "RABBITMQ_LOG_BASE": str(place),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{place}/plugins",
            "RABBITMQ_PID_FILE": f"{place}/pid",
        }
        self._start_database()
        self.machine.start("rabbitmq", "/usr/lib/rabbitmq/bin/rabbitmq-server", environment=environment)
        script = str(HERE / "controller.py")
        self._neutron = self.machine.start("neutron", PYTHON, script, str(self._conf), talk=True)

    def _start_database(self) -> None:
        data = f"--datadir={self._directory / 'database'}"
        options = ["--no-defaults", "--user=root", data]
        self.machine.run("mariadb-install-db", *options, "--skip-test-db")
        socket = f"--socket={self._directory / 'database.sock'}"
        # Whoever may open the socket is root.
        away = ["--skip-networking", "--skip-grant-tables", f"--pid-file={self._directory / 'database.pid'}"]
        self.machine.start("database", DEBIAN_12.paths["mariadbd"], *options, socket, *away)
        ask = ("mariadb", "--no-defaults", socket, "-e", "CREATE DATABASE IF NOT EXISTS neutron CHARACTER SET utf8mb3")
        wait_for(lambda: self.machine.succeeds(*ask), "the database")

    def await_ready(self) -> None:
        """Wait until Neutron listens on the bus."""
        assert self._answer() == {"ready": True}, self.machine.log("neutron")[-3000:]

    def ask(self, do: str, **told):
        """Have the plugin do something."""
        self._neutron.stdin.write(json.dumps({"do": do, **told}) + "\n")
        self._neutron.stdin.flush()
        found = self._answer()
        assert "error" not in found, found
        return found

    def _answer(self):
        line = self._neutron.stdout.readline()
        assert line, self.machine.log("neutron")[-3000:]
        return json.loads(line)


class Node:
    """A compute node: what we put onto it, running."""

    def __init__(self, name: str, number: int, directory: Path) -> None:
        self.machine = Machine(name, directory)
        self.address = f"10.78.0.{number}"
        files = {"nova.conf": cloud_files.KOLLA["nova.conf"]}
        paths = cloud_files.write(files, self.machine.directory)
        told = {
            "release": "2026.2",
            "network.mechanism": "openvswitch",
            "openvswitch.l2_population": True,
            "messaging.neutron_transport_url": BUS,
            **dict.fromkeys((f"messaging.{name}" for name, kind, _ in QUEUE_OPTIONS if kind is Kind.BOOLEAN), False),
            "messaging.rabbit_qos_prefetch_count": 0,
        }
        self.cloud = CloudDocument([*service_files.read(paths).sources, SourceValues("test", told)])
        self.cloud.require_usable("")
        further = {name: {"connector": "@ssh", "roles": ["compute"]}}
        joining = Joining(inventory.load(None, (), further=further).nodes[0], self.cloud)
        facts = NodeFacts(hostname=name, datapath="netdev", source=self.address)
        self.files = joining.files(facts)
        self.services = {s.name: s for s in compute_node.services(DEBIAN_12, self.cloud, joining.settings(facts))}

    def write_files(self) -> None:
        for path, file in self.files.items():
            if "nova" not in path:
                place = f"install -D -m {file.mode:o} -o root -g {file.group} /dev/stdin {path}"
                self.machine.run("sh", "-c", place, stdin=file.content)
        self.machine.run("install", "-d", "-o", "neutron", "/var/lib/neutron/lock")

    def start(self, name: str) -> None:
        service = self.services[name]
        for command in service.prepare:
            self.machine.run(*command)
        user = service.user or "root"
        groups = ",".join(group for group in (service.group, *service.groups) if group)
        become = ["setpriv", f"--reuid={user}", f"--regid={service.group or user}"]
        become += [f"--groups={groups}"] if groups else ["--clear-groups"]
        self.machine.start(name, *become, *service.command, environment=dict(service.environment))

    def join_tunnels(self) -> None:
        """Put the address of tunnels onto a bridge of the switch, as docs/nodes.md says of the userspace datapath."""
        bridge = ["add-br", "br-tunnel", "--", "set", "Bridge", "br-tunnel", "datapath_type=netdev"]
        self.machine.run("ovs-vsctl", "--timeout=60", *bridge, "--", "add-port", "br-tunnel", "tunnels")
        self.machine.run("ip", "address", "add", f"{self.address}/24", "dev", "br-tunnel")
        for device in ("tunnels", "br-tunnel"):
            self.machine.run("ip", "link", "set", device, "up")

    def plug(self, port, server: str, network) -> None:
        """Give a server the port, as nova-compute does with what its nova.conf says."""
        told = {
            "id": port["id"],
            "mac": port["mac_address"],
            "network_id": network["id"],
            "mtu": network["mtu"],
            "cidr": f"{port['fixed_ips'][0]['ip_address']}/24",
            "gateway": network["gateway"],
            "bridge": port["binding:vif_details"]["bridge_name"],
            "vif_type": port["binding:vif_type"],
            "bridged": bool(port["binding:vif_details"].get("ovs_hybrid_plug")),
            "isolate": "isolate_vif = true" in self.files[compute_node.NOVA_CONF].content,
            "server": server,
        }
        tests = HERE.parent
        path = f"PYTHONPATH={tests}:{tests.parent / 'src'}"
        self.machine.run("env", path, sys.executable, "-W", "ignore", str(HERE / "plug.py"), stdin=json.dumps(told))

    def tag(self, port) -> str:
        """Return the VLAN of a port in the switch."""
        return self.machine.run("ovs-vsctl", "--timeout=60", "get", "Port", f"tap{port['id'][:11]}", "tag").strip()

    def within(self, server: str, *command: str) -> bool:
        """Run a command inside a server and tell how it ended."""
        return self.machine.succeeds("ip", "netns", "exec", f"nova-{server}", *command)

    def says(self) -> str:
        """Return the end of the agent's log."""
        return self.machine.log("neutron-openvswitch-agent")[-6000:]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A controller and two nodes, whose agents Neutron knows."""
    directory = tmp_path_factory.mktemp("cloud")
    controller, nodes = Controller(directory), [Node("one", 11, directory), Node("two", 12, directory)]
    try:
        bus = controller.machine
        bus.run("ip", "link", "add", "bus", "type", "bridge")
        for number, node in enumerate(nodes, 11):
            bus.run("ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", f"bus{number}")
            move(bus, f"bus{number}", node.machine, "bus")
            bus.run("ip", "link", "set", f"node{number}", "master", "bus", "up")
            node.machine.run("ip", "address", "add", f"10.77.0.{number}/24", "dev", "bus")
            node.machine.run("ip", "link", "set", "bus", "up")
        bus.run("ip", "address", "add", "10.77.0.1/24", "dev", "bus")
        bus.run("ip", "link", "set", "bus", "up")
        bus.run("ip", "link", "add", "tunnels1", "type", "veth", "peer", "name", "tunnels2")
        for number, node in enumerate(nodes, 1):
            move(bus, f"tunnels{number}", node.machine, "tunnels")
        for node in nodes:
            node.write_files()
            for name in ("ovsdb", "ovs-vswitchd"):
                node.start(name)
                wait_for(lambda node=node: node.machine.succeeds("ovs-vsctl", "--no-wait", "show"), "the switch")
            node.join_tunnels()
        controller.start()
        for node in nodes:
            node.start("neutron-openvswitch-agent")  # each waits for the bus, and for Neutron
        controller.await_ready()
        wait_for(lambda: known(controller) >= {"one", "two"}, "Neutron knows both agents", 1200)
        yield controller, nodes
    finally:
        for machine in (controller.machine, *(node.machine for node in nodes)):
            machine.end()


def move(source: Machine, device: str, target: Machine, name: str) -> None:
    """Move a link from one machine to another."""
    source.give(device, target)
    target.run("ip", "link", "set", device, "name", name)


def known(controller: Controller) -> set[str]:
    return {agent["host"] for agent in controller.ask("agents") if agent["alive"]}


SERVERS = ("aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002")


def test_servers_on_two_nodes_reach_each_other_as_their_security_groups_say(cloud) -> None:
    controller, nodes = cloud
    agents = {agent["host"]: agent for agent in controller.ask("agents")}
    assert {agent["ovs_hybrid_plug"] for agent in agents.values()} == {False}
    assert {agents[node.machine.name]["tunneling_ip"] for node in nodes} == {node.address for node in nodes}
    network = controller.ask("network", name="private", cidr="10.9.0.0/24")
    assert network["mtu"] == 1450
    closed = controller.ask("group", name="closed", rules=[])
    web = controller.ask(
        "group",
        name="web",
        rules=[{"protocol": "icmp"}, {"protocol": "tcp", "port_range_min": 8080, "port_range_max": 8080}],
    )
    ports = []
    for node, server, group in zip(nodes, SERVERS, (closed, web), strict=True):
        port = controller.ask("port", network_id=network["id"], host=node.machine.name, groups=[group["id"]])
        assert port["binding:vif_type"] == "ovs"
        node.plug(port, server, network)
        ports.append(port)
    for node, port in zip(nodes, ports, strict=True):
        active = partial(lambda each: controller.ask("show", port_id=each["id"])["status"] == "ACTIVE", port)
        wait_for(active, "the port is wired")
        assert node.tag(port) not in {"4095", "[]"}
    (one, two), (first, second) = nodes, SERVERS
    there, here = (port["fixed_ips"][0]["ip_address"] for port in (ports[1], ports[0]))
    two.machine.start("listener", "ip", "netns", "exec", f"nova-{second}", sys.executable, "-c", LISTEN)
    wait_for(lambda: one.within(first, "ping", "-c", "1", "-W", "5", there), "a ping through the tunnel", 120)
    assert one.within(first, "ping", "-c", "1", "-W", "5", "-M", "do", "-s", str(network["mtu"] - 28), there)
    wait_for(lambda: one.within(first, sys.executable, "-c", FETCH, there, "8080"), "what its group lets in", 120)
    assert not one.within(first, sys.executable, "-c", FETCH, there, "8081"), "which nobody let in"
    assert not two.within(second, "ping", "-c", "2", "-W", "5", here), "nothing is let in there"


def test_a_port_is_shut_off_until_an_agent_has_wired_it(cloud) -> None:
    _, (one, _) = cloud
    stray = {
        "id": "bbbbbbbb-0000-4000-8000-000000000001",  # nobody told Neutron of it
        "mac_address": "fa:16:3e:00:00:99",
        "fixed_ips": [{"ip_address": "10.9.0.99"}],
        "binding:vif_details": {"bridge_name": "br-int"},
        "binding:vif_type": "ovs",
    }
    one.plug(stray, "aaaaaaaa-0000-4000-8000-000000000099", {"id": "n", "mtu": 1450, "gateway": "10.9.0.1"})
    assert one.tag(stray) == "4095"


def test_the_agent_did_all_without_more_rights_than_its_sudo_rule_gives(cloud) -> None:
    _, nodes = cloud
    for node in nodes:
        for refusal in ("a password is required", "Permission denied", "not permitted", "neutron-rootwrap"):
            assert refusal not in node.machine.log("neutron-openvswitch-agent")
        assert not node.machine.succeeds("runuser", "-u", "neutron", "--", "sudo", "-n", "true")
