# SPDX-License-Identifier: Apache-2.0
import shutil
import subprocess
from dataclasses import replace

import pytest

from dockstack.deploy.configuration import scripts
from dockstack.deploy.configuration.openvswitch import chassis_options, open_vswitch_settings

TSO = "other_config:userspace-tso-enable=true"


def test_offload_is_set_for_the_userspace_datapath_only(settings):
    assert TSO in open_vswitch_settings(settings)
    assert TSO not in open_vswitch_settings(replace(settings, datapath="system"))


def test_the_external_network_is_mapped_to_its_bridge(settings):
    assert "external-ids:ovn-bridge-mappings=public:br-ex" in open_vswitch_settings(settings)


def test_a_host_offers_its_bandwidth_to_ports_when_placement_knows_it(settings):
    before, after = (chassis_options(settings, bandwidth=known) for known in (False, True))
    assert before == "enable-chassis-as-gw"
    bridge = "br-ex:10000000:10000000"
    host = f"br-ex:{settings.hostname}"
    assert after == f"{before},resource_provider_bandwidths={bridge},resource_provider_hypervisors={host}"


def test_a_host_without_bandwidth_to_guarantee_offers_none(settings):
    none = replace(settings, networks=replace(settings.networks, external_bandwidth=0))
    assert chassis_options(none, bandwidth=True) == "enable-chassis-as-gw"


def test_the_bridge_has_the_gateways_address(settings):
    script = scripts.external_bridge(settings)
    assert "ip address replace 198.51.100.1/24 dev br-ex" in script
    assert "datapath_type=netdev" in script


def test_nat_follows_the_attribute_and_every_rule_is_marked(settings):
    script = scripts.external_bridge(settings)
    rules = [line for line in script.splitlines() if line.startswith("iptables")]
    assert len(rules) == 5
    assert all(line.count("--comment dockstack") == 2 for line in rules)
    without = replace(settings, networks=replace(settings.networks, masquerade=False))
    assert "iptables" not in scripts.external_bridge(without)
    assert "ip_forward" not in scripts.external_bridge(without)


def test_of_other_containers_servers_reach_what_those_have_published_only(settings):
    inserted = [line.partition(" -I ")[2] for line in scripts.external_bridge(settings).splitlines() if " -I " in line]
    last_inserted_first = [line for line in reversed(inserted) if line.startswith("FORWARD")]
    verdicts = [(line.split()[1:5], line.partition(" -j ")[2].split()[0]) for line in last_inserted_first]
    assert verdicts[0] == (["-o", "br-ex", "-j", "ACCEPT"], "ACCEPT")
    assert verdicts[1] == (["-i", "br-ex", "-o", "br-+"], "DROP")
    assert verdicts[2] == (["-i", "br-ex", "-o", "docker+"], "DROP")
    assert verdicts[3] == (["-i", "br-ex", "-j", "ACCEPT"], "ACCEPT")


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_scripts_are_valid_shell(settings):
    for name, text in scripts.all_scripts(settings).items():
        done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, (name, done.stderr)
