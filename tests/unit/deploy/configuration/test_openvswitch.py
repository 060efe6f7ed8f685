# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

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
