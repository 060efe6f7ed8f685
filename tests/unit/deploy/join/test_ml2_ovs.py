# SPDX-License-Identifier: Apache-2.0
"""Compute nodes of a cloud whose networks Neutron's Open vSwitch agents make."""

from __future__ import annotations

import pytest

import cloud_files
import cloud_services
import deployer_files
from dockstack.deploy.configuration import compute_node, oslo_file, programs
from dockstack.deploy.distributions import DEBIAN_12, RHEL_9
from dockstack.deploy.join import devstack, kolla, obstacles, openstack_ansible, probes, service_files, stages
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.endpoints import endpoints
from dockstack.deploy.join.look import NodeFacts
from dockstack.deploy.join.plan import Joining
from dockstack.deploy.join.stages import ComputeNode
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument

pytestmark = pytest.mark.unit
FACTS = NodeFacts(hostname="one", source="10.1.0.31")
AGENTS_FILES = {
    "nova.conf": cloud_files.KOLLA["nova.conf"],
    "neutron.conf": """\
[DEFAULT]
core_plugin = ml2
transport_url = rabbit://neutron:neutron$$pw@10.1.0.11:5672//
""",
    "openvswitch_agent.ini": """\
[agent]
tunnel_types = vxlan,gre
l2_population = true
vxlan_udp_port = 8472
extensions = qos,fdb
[securitygroup]
firewall_driver = neutron.agent.linux.iptables_firewall.OVSHybridIptablesFirewallDriver
[ovs]
bridge_mappings = physnet1:br-ex,physnet2:br-vlan
ovsdb_connection = tcp:127.0.0.1:6640
local_ip = 10.1.0.21
""",
    "ml2_conf.ini": "[ml2]\nmechanism_drivers = openvswitch,l2population\n",
    "dhcp_agent.ini": "[DEFAULT]\nforce_metadata = true\n",
}


def document_of(directory, **said):
    found = service_files.read(cloud_files.write(AGENTS_FILES, directory))
    made = CloudDocument([*found.sources, SourceValues("test", {"release": "2026.2", **said})])
    made.require_usable("", found.problems)
    return made


@pytest.fixture
def theirs(tmp_path):
    """A cloud with ML2/OVS, whose document its services' files made."""
    return document_of(tmp_path)


@pytest.fixture
def files(theirs, compute):
    """All files of a node, parsed where they are configuration."""
    return compute_node.files(theirs, Joining(compute(), theirs).settings(FACTS))


def ini(files, path):
    return oslo_file.parse(files[path].content, path)


# -- the document -----------------------------------------------------------------------------------------------------


def test_files_of_the_agents_tell_all(theirs):
    told = {key.name: setting.value for key, setting in theirs.settings() if key.name.startswith("openvswitch.")}
    assert told == {
        "openvswitch.tunnel_types": ("vxlan", "gre"),
        "openvswitch.vxlan_port": 8472,
        "openvswitch.l2_population": True,
        "openvswitch.bridge_mappings": ("physnet1:br-ex", "physnet2:br-vlan"),
        "openvswitch.extensions": ("qos",),
        "openvswitch.firewall_driver": "neutron.agent.linux.iptables_firewall.OVSHybridIptablesFirewallDriver",
        "openvswitch.distributed_routing": False,
        "openvswitch.metadata": "dhcp",
    }


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"openvswitch.distributed_routing": True}, "openvswitch.distributed_routing"),
        ({"network.switch": "deployer"}, "openvswitch.firewall_driver"),
        ({"openvswitch.bridge_mappings": ["physnet1"]}, "openvswitch.bridge_mappings"),
        ({"messaging.neutron_transport_url": ""}, "messaging.neutron_transport_url"),
    ],
    ids=["routers on nodes", "filters on a bridge", "no bridge", "no bus"],
)
def test_what_cannot_work_is_refused_by_its_key(theirs, said, key):
    refused = theirs.and_then(SourceValues("test", said)).problems()
    assert [problem.key for problem in refused] == [key]


def test_nothing_of_ovn_and_no_metadata_is_needed(theirs):
    bare = {"metadata.secret": "", "metadata.host": ""}
    assert theirs.and_then(SourceValues("test", bare)).problems() == ()


def test_kolla_ansible_by_its_default_is_such_a_cloud(tmp_path):
    text = deployer_files.KOLLA["globals.yml"].replace('neutron_plugin_agent: "ovn"\n', "enable_neutron_qos: yes\n")
    found = kolla.values(str(deployer_files.write(deployer_files.KOLLA, tmp_path, **{"globals.yml": text})))
    made = CloudDocument(found.sources)
    made.require_usable("", found.problems)
    assert made.mechanism == "openvswitch"
    assert made.values["openvswitch.tunnel_types"] == ("vxlan",)
    assert made.values["openvswitch.l2_population"] is True
    assert made.values["openvswitch.extensions"] == ("qos",)
    assert made.text("openvswitch.metadata") == "dhcp"
    assert made.values["openvswitch.bridge_mappings"] == ()
    assert made.text("messaging.neutron_transport_url").startswith("rabbit://openstack:bus-pw@10.1.0.11:5672")


def test_kolla_ansible_with_provider_networks_maps_them(tmp_path):
    text = deployer_files.KOLLA["globals.yml"].replace('"ovn"', '"openvswitch"')
    text += "enable_neutron_provider_networks: yes\nneutron_bridge_name: br-ex,br-vlan\n"
    found = kolla.values(str(deployer_files.write(deployer_files.KOLLA, tmp_path, **{"globals.yml": text})))
    assert CloudDocument(found.sources).values["openvswitch.bridge_mappings"] == ("physnet1:br-ex", "physnet2:br-vlan")


@pytest.mark.parametrize(("kind", "distributed"), [("ml2.ovs", False), ("ml2.ovs.dvr", True)])
def test_openstack_ansible_without_ovn(tmp_path, kind, distributed):
    text = deployer_files.OPENSTACK_ANSIBLE["user_variables.yml"]
    text += (
        f"neutron_plugin_type: {kind}\nneutron_ml2_drivers_type: vxlan,flat,vlan\nneutron_plugin_base: [router, qos]\n"
    )
    changed = {"user_variables.yml": text}
    found = openstack_ansible.values(str(deployer_files.write(deployer_files.OPENSTACK_ANSIBLE, tmp_path, **changed)))
    made = CloudDocument([*found.sources, SourceValues("test", {"release": "2026.2"})])
    assert made.values["openvswitch.tunnel_types"] == ("vxlan",)
    assert made.values["openvswitch.l2_population"] is distributed
    assert made.values["openvswitch.extensions"] == ("qos",)
    assert made.text("openvswitch.firewall_driver") == "iptables_hybrid"
    assert made.text("openvswitch.metadata") == "router"
    refused = ["openvswitch.distributed_routing"] if distributed else []
    assert [problem.key for problem in made.problems()] == refused
    assert not found.problems


def test_devstack_with_q_agent(tmp_path):
    more = "HOST_IP=192.0.2.5\nQ_AGENT=openvswitch\nQ_ML2_TENANT_NETWORK_TYPE=vxlan\n"
    text = deployer_files.DEVSTACK["local.conf"].replace("HOST_IP=192.0.2.5\n", more)
    found = devstack.values(str(deployer_files.write(deployer_files.DEVSTACK, tmp_path, **{"local.conf": text})))
    made = CloudDocument([*found.sources, SourceValues("test", {"release": "2026.2"})])
    made.require_usable("", found.problems)
    assert made.mechanism == "openvswitch"
    assert made.values["openvswitch.tunnel_types"] == ("vxlan",)
    assert made.values["openvswitch.bridge_mappings"] == ("public:br-ex",)
    assert made.text("messaging.neutron_transport_url") == "rabbit://stackrabbit:bus-pw@192.0.2.5:5672/"
    assert made.values["ovn.southbound"] == ()


# -- the node ---------------------------------------------------------------------------------------------------------


def test_the_agent_makes_the_networks_as_the_cloud_does_and_filters_in_the_switch(files):
    agent = ini(files, programs.OPEN_VSWITCH_AGENT_CONF)
    assert agent == {
        "ovs": {
            "ovsdb_connection": "unix:/run/openvswitch/db.sock",
            "datapath_type": "system",
            "local_ip": "10.1.0.31",
            "bridge_mappings": "physnet1:br-ex,physnet2:br-vlan",
        },
        "agent": {
            "tunnel_types": "vxlan,gre",
            "vxlan_udp_port": "8472",
            "l2_population": "true",
            "arp_responder": "true",
            "extensions": "qos",
        },
        "securitygroup": {"enable_security_group": "true", "firewall_driver": "openvswitch"},
    }


def test_a_cloud_without_security_groups_has_none_here(theirs, compute):
    noop = theirs.and_then(SourceValues("test", {"openvswitch.firewall_driver": "noop"}))
    made = compute_node.files(noop, Joining(compute(), noop).settings(FACTS))
    groups = ini(made, programs.OPEN_VSWITCH_AGENT_CONF)["securitygroup"]
    assert groups == {"enable_security_group": "false", "firewall_driver": "noop"}


def test_the_agent_speaks_on_neutrons_bus_as_the_cloud_declares_queues(files):
    conf = ini(files, compute_node.NEUTRON_CONF)
    assert conf["DEFAULT"]["transport_url"] == "rabbit://neutron:neutron$pw@10.1.0.11:5672//"
    assert conf["DEFAULT"]["host"] == "one"
    assert conf["oslo_messaging_rabbit"]["rabbit_quorum_queue"] == "true"
    assert conf["oslo_messaging_rabbit"]["rabbit_qos_prefetch_count"] == "50"


def test_a_port_is_shut_off_until_the_agent_has_filtered_it_and_metadata_has_its_way(files):
    conf = ini(files, compute_node.NOVA_CONF)
    assert conf["os_vif_ovs"] == {"ovsdb_connection": "unix:/run/openvswitch/db.sock", "isolate_vif": "true"}
    assert conf["docker"]["metadata_route"] == "dhcp"


def test_the_switch_is_no_chassis_and_has_the_bridges_of_physical_networks(files):
    script = files["/opt/dockstack/libexec/prepare-ovs-vswitchd"].content
    assert "ovn-remote" not in script.partition("End of parameters")[0]
    assert "bridges='br-ex br-vlan'" in script


def test_neutron_gains_root_by_its_privsep_helpers_only(files):
    rules = files["/etc/sudoers.d/dockstack-neutron"].content
    assert "privsep-helper" in rules
    assert "rootwrap" not in rules
    assert not [path for path in files if "rootwrap" in path]


def test_no_other_secret_goes_to_a_node(theirs, files, compute):
    texts = "\n".join(file.content for file in files.values())
    assert "meta-pw" not in texts
    secret = {path for path, file in files.items() if "neutron$$pw" in file.content}
    assert secret == {compute_node.NEUTRON_CONF}
    assert (files[compute_node.NEUTRON_CONF].group, files[compute_node.NEUTRON_CONF].mode) == ("neutron", 0o640)
    told = commission(compute(), theirs, "10.1.0.31").cloud
    assert "metadata.secret" not in told
    assert "messaging.neutron_transport_url" in told


def test_services_are_the_switch_its_agent_and_nova_compute(theirs, compute):
    settings = Joining(compute(), theirs).settings(FACTS)
    services = {one.name: one for one in compute_node.services(DEBIAN_12, theirs, settings)}
    assert set(services) == {"ovsdb", "ovs-vswitchd", "neutron-openvswitch-agent", "migration", "nova-compute"}
    agent = services["neutron-openvswitch-agent"]
    assert agent.user == "neutron"
    assert agent.requires == ("ovs-vswitchd",)
    assert agent.check.command[-2:] == ("br-exists", "br-int"), "what servers are plugged into"
    assert set(agent.watch) >= {compute_node.NEUTRON_CONF, programs.OPEN_VSWITCH_AGENT_CONF}


@pytest.mark.parametrize(("distribution", "tracking"), [(DEBIAN_12, "conntrack"), (RHEL_9, "conntrack-tools")])
def test_no_package_of_ovns_is_installed(theirs, compute, distribution, tracking):
    wanted = Joining(compute(), theirs).packages(distribution, engine=False, client=False)
    assert not {"ovn-host", "haproxy"} & set(wanted)
    assert tracking in wanted


def test_the_plan_shows_it_and_names_what_is_left_to_do(theirs, compute):
    planned = Joining(compute(), theirs).plan(FACTS, {})
    assert planned.fits
    assert programs.OPEN_VSWITCH_AGENT_CONF in {change.path for change in planned.files}
    assert "neutron-openvswitch-agent" in {service.name for service in planned.services}
    (warning,) = planned.problems
    assert "br-ex, br-vlan" in warning.brief


def test_a_switchs_name_for_the_machine_is_ovns_matter(compute):
    facts = NodeFacts(hostname="one", chassis="one.example.org")
    assert "OVN knows this machine" in next(problem.brief for problem in obstacles.problems(compute(), facts))
    assert not list(obstacles.problems(compute(), facts, ovn=False))


def test_a_node_must_reach_both_buses_and_no_metadata(theirs):
    other = SourceValues("test", {"messaging.neutron_transport_url": "rabbit://neutron:pw@10.1.0.15/"})
    assert endpoints(theirs.and_then(other)) == (
        ("10.1.0.11", 5672),
        ("10.1.0.12", 5672),
        ("10.1.0.10", 5000),
        ("10.1.0.15", 5672),
    )


def test_the_node_itself_does_as_planned(theirs, node, machine, monkeypatch):
    started = []
    monkeypatch.setattr(stages, "ensure_running", lambda _, service: started.append(service.name))
    graph = {stage.name: stage for stage in ComputeNode(node(), theirs).stages()}
    assert "agent" in graph["compute"].after, "a port is bound where the agent has reported"
    answers = {"hostname;": "one\nsystem\n", "ip link": {"success": False}, "test -e": {"success": False}}
    one = machine(answers, "network.encap_ip=10.1.0.31")
    for name in ("switch", "agent"):
        graph[name].apply(one)
    assert started == ["ovsdb", "ovs-vswitchd", "neutron-openvswitch-agent"]
    made = {(entry.kind, entry.name) for entry in one.manifest.entries()}
    assert {("bridge", name) for name in ("br-int", "br-tun", "br-ex", "br-vlan")} <= made
    assert ("metadata-namespaces", "ovnmeta-*") not in made


# -- where the deployer runs the switch -------------------------------------------------------------------------------


def test_beside_the_deployers_agent_nova_compute_is_all_that_is_ours(tmp_path, compute):
    said = {"network.switch": "deployer", "openvswitch.firewall_driver": "openvswitch"}
    theirs = document_of(tmp_path, **said)
    files = compute_node.files(theirs, Joining(compute(), theirs).settings(FACTS))
    assert set(files) == {compute_node.NOVA_CONF, "/etc/sudoers.d/dockstack-nova"}
    conf = ini(files, compute_node.NOVA_CONF)
    assert conf["os_vif_ovs"] == {"ovsdb_connection": "tcp:127.0.0.1:6640", "isolate_vif": "true"}
    assert conf["docker"]["metadata_route"] == "dhcp"
    told = commission(compute(), theirs, "10.1.0.31").cloud
    assert "messaging.neutron_transport_url" not in told
    assert endpoints(theirs)[-1] == ("127.0.0.1", 6640)


# -- probes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exchanges", "verdict"), [({"nova", "neutron"}, "passed"), ({"nova"}, "failed")])
def test_neutrons_bus_is_asked_as_the_agent_would_ask_it(theirs, exchanges, verdict):
    broker = cloud_services.Broker()
    broker.exchanges = exchanges
    with cloud_services.running(broker):
        url = f"rabbit://openstack:bus-pw@127.0.0.1:{broker.port}//"
        made = theirs.and_then(SourceValues("test", {"messaging.neutron_transport_url": url, "messaging.ssl": False}))
        known = {probe.name: probe for probe in probes.probes(made)}
        assert not {"ovn", "mtu"} & set(known)
        outcome = known["neutron-bus"].outcome()
    assert outcome.verdict == verdict
    assert broker.declared == [("neutron", True)]
    if verdict == "failed":
        assert "neutron-openvswitch-agent would start" in outcome.means
        assert "messaging.neutron_transport_url" in outcome.cure
