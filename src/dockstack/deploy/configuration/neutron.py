# SPDX-License-Identifier: Apache-2.0
"""Neutron: ML2 with OVN, Geneve for tenants, one flat external network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import oslo, privilege
from dockstack.deploy.configuration.openvswitch import DATABASE_REMOTE

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings

STATE_DIRECTORY = "/var/lib/neutron"


def neutron_conf(settings: Settings) -> Ini:
    """Return neutron.conf, which the API, the workers and the agent read."""
    return {
        "DEFAULT": {
            **oslo.logging_options(settings),
            "host": settings.hostname,
            # Its default is looked for while modules are imported, which a fork server does outside of the host.
            **({"my_ip": settings.tunnel_address} if settings.fork_server else {}),
            "state_path": STATE_DIRECTORY,
            "transport_url": settings.transport_url,
            "core_plugin": "ml2",
            "service_plugins": "ovn-router,trunk,qos,port_forwarding,placement",
            "api_workers": "1",
            "rpc_workers": "0",
            "rpc_state_report_workers": "0",
            "notify_nova_on_port_status_changes": "true",
            "notify_nova_on_port_data_changes": "true",
            # Neutron rests after each batch of events for Nova. A boot's second event is the one that its server waits
            # for; one second is the least that Neutron accepts.
            "send_events_interval": "1",
        },
        "database": oslo.database_section(settings, "neutron", "neutron"),
        "keystone_authtoken": oslo.token_section(settings, "neutron"),
        "nova": {**oslo.account(settings, "nova"), "endpoint_type": "internal"},
        "placement": {**oslo.account(settings, "neutron"), "endpoint_type": "internal"},
        "oslo_concurrency": {"lock_path": f"{STATE_DIRECTORY}/lock"},
        "quotas": {"quota_network": "100", "quota_subnet": "100", "quota_port": "500", "quota_floatingip": "100"},
        **privilege.helper_sections(settings, "neutron"),
        **oslo.messaging_sections(settings),
    }


def ml2_conf(settings: Settings) -> Ini:
    """Return ml2_conf.ini."""
    return {
        "ml2": {
            "type_drivers": "local,flat,vlan,geneve",
            "tenant_network_types": "geneve",
            "mechanism_drivers": "ovn",
            "extension_drivers": "port_security,qos",
            "overlay_ip_version": "4",
        },
        "ml2_type_flat": {"flat_networks": settings.networks.physical_network},
        # No range: tenants get no VLANs, an administrator may make one on the external bridge.
        "ml2_type_vlan": {"network_vlan_ranges": settings.networks.physical_network},
        "ml2_type_geneve": {"vni_ranges": "1:65536", "max_header_size": "38"},
        "securitygroup": {"enable_security_group": "true"},
        "ovn": {
            "ovn_nb_connection": settings.northbound,
            "ovn_sb_connection": settings.southbound,
            "ovn_l3_scheduler": "leastloaded",
            "ovn_metadata_enabled": "true",
            "enable_distributed_floating_ip": "true",
            "dns_servers": ",".join(settings.networks.dns_servers),
            # Revision numbers already find what a crash left behind; a full comparison at each start costs seconds.
            "neutron_sync_mode": "off",
        },
        "ovs": {"ovsdb_connection": DATABASE_REMOTE},
    }


def ovn_agent_conf(settings: Settings) -> Ini:
    """Return ovn_agent.ini of neutron-ovn-agent, whose metadata extension serves 169.254.169.254."""
    return {
        "DEFAULT": {
            "nova_metadata_host": settings.controller_address,
            "nova_metadata_port": str(settings.ports.nova_metadata),
            **({"nova_metadata_protocol": "https", "auth_ca_cert": settings.authority} if settings.tls else {}),
            "metadata_proxy_shared_secret": settings.secret("metadata_secret"),
            # 0: threads of the agent itself answer, no further processes.
            "metadata_workers": "0",
        },
        "ovs": {"ovsdb_connection": DATABASE_REMOTE},
        "ovn": {"ovn_nb_connection": settings.northbound, "ovn_sb_connection": settings.southbound},
        "agent": {"extensions": settings.metadata_extension, "root_helper": privilege.root_helper(settings)},
    }
