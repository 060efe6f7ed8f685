# SPDX-License-Identifier: Apache-2.0
"""Fill the cloud document from Kolla-Ansible's configuration directory: globals, passwords and the inventory.

The tables say what its templates of 2026.1 and 2026.2 make of which variables, for a compute node.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.join import ansible
from dockstack.deploy.join.deployer_variables import Filling, UntoldError, Variables, read
from dockstack.deploy.join.service_files import SYSTEM_BUNDLES, Found
from dockstack.deploy.join.site_files import Site, authority, bracketed, databases, inventory_of
from dockstack.deploy.wanted.cloud_keys import KOLLA, OPEN_VSWITCH, OVN, RELEASES
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

INVENTORIES = ("multinode", "all-in-one", "inventory", "inventory.ini", "inventory.yml", "inventory.json", "hosts")
DEFAULT = "Kolla-Ansible's default of"
DEFAULTS = {
    "kolla_internal_fqdn": "{{ kolla_internal_vip_address }}",
    "kolla_external_vip_address": "{{ kolla_internal_vip_address }}",
    "keystone_internal_fqdn": "{{ kolla_internal_fqdn }}",
    "keystone_internal_port": 5000,
    "kolla_enable_tls_internal": False,
    "openstack_region_name": "RegionOne",
    "openstack_interface": "internal",
    "rabbitmq_user": "openstack",
    "rabbitmq_enable_tls": False,
    "om_rpc_user": "{{ rabbitmq_user }}",
    "om_rpc_password": "{{ rabbitmq_password }}",
    "om_rpc_group": "rabbitmq",
    "om_rpc_vhost": "/",
    "om_enable_rabbitmq_tls": "{{ rabbitmq_enable_tls }}",
    "om_enable_rabbitmq_stream_fanout": True,
    "om_rabbitmq_qos_prefetch_count": 50,
    "use_queue_manager": True,
    "rabbit_quorum_queue": True,
    "rabbit_transient_quorum_queue": True,
    "nova_keystone_user": "nova",
    "placement_keystone_user": "placement",
    "neutron_keystone_user": "neutron",
    "cinder_keystone_user": "cinder",
    "enable_cinder": False,
    "default_project_domain_name": "Default",
    "default_user_domain_name": "Default",
    "nova_internal_fqdn": "{{ kolla_internal_fqdn }}",
    "nova_metadata_port": 8775,
    "neutron_plugin_agent": OPEN_VSWITCH,
    "enable_ovn_sb_db_relay": True,
    "ovn_nb_db_port": 6641,
    "ovn_sb_db_port": 6642,
    "ovn_sb_db_relay_port_prefix": 1664,
    "enable_neutron_dvr": False,
    "enable_neutron_provider_networks": False,
    "enable_neutron_qos": False,
    "neutron_ovn_distributed_fip": False,
    "neutron_compute_dvr_mode": "dvr",
    "neutron_bridge_name": "br-ex",
    "nova_console": "novnc",
    "enable_nova_serialconsole_proxy": False,
    "haproxy_single_external_frontend": False,
    "nova_novncproxy_fqdn": "{{ kolla_external_fqdn }}",
    "nova_novncproxy_port": 6080,
    "nova_serialproxy_fqdn": "{{ kolla_external_fqdn }}",
    "nova_serialproxy_port": 6083,
}
ROWS = {
    "identity.auth_url": "{internal_protocol}://{keystone_internal_fqdn}:{keystone_internal_port}",
    "identity.region": "{openstack_region_name}",
    "identity.interface": "{openstack_interface}",
    "messaging.use_queue_manager": "{use_queue_manager}",
    "messaging.rabbit_quorum_queue": "{rabbit_quorum_queue}",
    "messaging.rabbit_transient_quorum_queue": "{rabbit_transient_quorum_queue}",
    "messaging.rabbit_stream_fanout": "{om_enable_rabbitmq_stream_fanout}",
    "messaging.ssl": "{om_enable_rabbitmq_tls}",
    "metadata.host": "{nova_internal_fqdn}",
    "metadata.port": "{nova_metadata_port}",
    "metadata.protocol": "{internal_protocol}",
    "metadata.secret": "{metadata_secret}",
    "network.mechanism": "{neutron_plugin_agent}",
}
SERVICES = ("nova", "placement", "neutron")
AGENT = {
    "openvswitch.tunnel_types": ["vxlan"],
    "openvswitch.l2_population": True,
    "openvswitch.firewall_driver": "iptables_hybrid",
    "openvswitch.metadata": "dhcp",
}
"""What its templates for the Open vSwitch and DHCP agents say, whatever the variables."""
MANAGEMENT = (
    "The addresses of RabbitMQ and OVN are those by which Ansible reaches their hosts. If the network of "
    "api_interface is another: --set ovn.southbound=..., --set-file messaging.transport_url=FILE."
)


def values(directory: str, inventory: str | None = None) -> Found:
    """Return what the directory tells.

    Args:
        directory: with globals.yml and passwords.yml, as /etc/kolla.
        inventory: the inventory, or its listing as JSON, if it is elsewhere.

    Raises:
        DockstackError: a file is missing, cannot be read, or is encrypted.
    """
    root = Path(directory)
    for name in ("globals.yml", "passwords.yml"):
        if not (root / name).is_file():
            raise DockstackError(f"{root} has no {name}.", "Name Kolla-Ansible's configuration directory: /etc/kolla.")
    places = inventory_of(root, INVENTORIES, inventory)
    site = Site(places, ansible.listing(places))
    # What is named later counts, as in Ansible's own calls.
    files = (*sorted(root.glob("globals.d/*.y*ml")), root / "globals.yml", root / "passwords.yml")
    variables = Variables((str(path), read(path)) for path in files).below(DEFAULT, DEFAULTS)
    for derived in (_outside, _protocols):
        variables = variables.below(DEFAULT, derived(variables))
    filling = Filling(variables)
    filling.put("deployer", KOLLA, str(root))
    filling.take(dict(_rows(variables)))
    _bus(filling, site)
    _networks(filling, site)
    _certificates(filling, root)
    filling.warnings.append(MANAGEMENT)
    return filling.found()


def _outside(variables: Variables) -> dict[str, object]:
    """Return the defaults of what users reach: as inside, unless there is an address of its own for them."""
    try:
        apart = variables.text("kolla_internal_vip_address") != variables.text("kolla_external_vip_address")
    except UntoldError:
        apart = False  # each key that needs the address says so
    if apart:
        return {"kolla_external_fqdn": "{{ kolla_external_vip_address }}", "kolla_enable_tls_external": False}
    return {
        "kolla_external_fqdn": "{{ kolla_internal_fqdn }}",
        "kolla_enable_tls_external": "{{ kolla_enable_tls_internal }}",
    }


def _protocols(variables: Variables) -> dict[str, object]:
    secure = variables.flag("kolla_enable_tls_external")
    return {
        "internal_protocol": "https" if variables.flag("kolla_enable_tls_internal") else "http",
        "public_protocol": "https" if secure else "http",
        "public_socket": "wss" if secure else "ws",
        "om_rpc_port": 5671 if variables.flag("om_enable_rabbitmq_tls") else 5672,
    }


def _rows(variables: Variables) -> Iterator[tuple[str, str]]:
    yield from ROWS.items()
    if variables.has("openstack_release") and variables.text("openstack_release") in RELEASES:
        yield "release", "{openstack_release}"  # "master" tells nothing
    if variables.flag("om_enable_rabbitmq_stream_fanout"):
        yield "messaging.rabbit_qos_prefetch_count", "{om_rabbitmq_qos_prefetch_count}"
    for service in (*SERVICES, *(["cinder"] if variables.flag("enable_cinder") else [])):
        yield f"accounts.{service}.username", f"{{{service}_keystone_user}}"
        yield f"accounts.{service}.password", f"{{{service}_keystone_password}}"
        for domain in ("project", "user"):
            yield f"accounts.{service}.{domain}_domain", f"{{default_{domain}_domain_name}}"
    single = variables.flag("haproxy_single_external_frontend")
    if variables.text("nova_console") == "novnc":
        port = "" if single else ":{nova_novncproxy_port}"
        yield "consoles.novnc_url", f"{{public_protocol}}://{{nova_novncproxy_fqdn}}{port}/vnc_lite.html"
    if variables.flag("enable_nova_serialconsole_proxy"):
        port = "" if single else ":{nova_serialproxy_port}"
        yield "consoles.serial_url", f"{{public_socket}}://{{nova_serialproxy_fqdn}}{port}/"


def _bus(filling: Filling, site: Site) -> None:
    """Fill in RabbitMQ's address; of a cell, what nova_cell_name says."""
    variables = filling.variables
    keys = ("messaging.transport_url", "messaging.neutron_transport_url")
    try:
        user, password = variables.told("om_rpc_user"), variables.told("om_rpc_password")
        group, port = variables.text("om_rpc_group"), variables.text("om_rpc_port")
        hosts, where = site.addresses(group)
        of_neutron = variables.text("om_rpc_vhost")
        of_nova = f"nova_{variables.text('nova_cell_name')}" if variables.has("nova_cell_name") else of_neutron
    except UntoldError as untold:
        for key in keys:
            filling.miss(key, untold.brief)
        return
    servers = ",".join(f"{user.value}:{password.value}@{bracketed(host)}:{port}" for host in hosts)
    for key, virtual_host in zip(keys, (of_nova, of_neutron), strict=True):
        filling.put(key, f"rabbit://{servers}/{virtual_host}", where, *user.sources, *password.sources)


def _networks(filling: Filling, site: Site) -> None:
    variables = filling.variables
    if variables.text("neutron_plugin_agent") != OVN:
        _agent(filling)
        return
    relays = variables.flag("enable_ovn_sb_db_relay") and site.has("ovn-sb-db-relay")
    # With more than 50 chassis, there are more relays on each of these hosts, on the ports above; the first is always.
    relay = int(variables.text("ovn_sb_db_relay_port_prefix")) * 10 + 1
    southbound = ("ovn-sb-db-relay", relay) if relays else ("ovn-sb-db", variables.text("ovn_sb_db_port"))
    northbound = ("ovn-nb-db", variables.text("ovn_nb_db_port"))
    databases(filling, site, "tcp", {"ovn.southbound": southbound, "ovn.northbound": northbound})


def _agent(filling: Filling) -> None:
    """Fill in what its Open vSwitch agents do."""
    variables = filling.variables
    for key, value in AGENT.items():
        filling.put(key, value, "Kolla-Ansible's templates")
    filling.take({"openvswitch.distributed_routing": "{enable_neutron_dvr}"})
    if variables.flag("enable_neutron_qos"):
        filling.put("openvswitch.extensions", ["qos"], *variables.told("enable_neutron_qos").sources)
    at_the_edge = variables.flag("enable_neutron_dvr") and variables.text("neutron_compute_dvr_mode") == "dvr"
    by_default = at_the_edge or any(
        variables.flag(name) for name in ("enable_neutron_provider_networks", "neutron_ovn_distributed_fip")
    )
    asked = "computes_need_external_bridge"
    if variables.flag(asked) if variables.has(asked) else by_default:
        bridges = variables.told("neutron_bridge_name")
        names = [f"physnet{number}" for number, _ in enumerate(str(bridges.value).split(","), 1)]
        if variables.has("neutron_physical_networks"):
            names = variables.text("neutron_physical_networks").split(",")
        mappings = [f"{name}:{bridge}" for name, bridge in zip(names, str(bridges.value).split(","), strict=False)]
        filling.put("openvswitch.bridge_mappings", mappings, *bridges.sources)


def _certificates(filling: Filling, root: Path) -> None:
    """Fill in who signed: what Kolla-Ansible copies into containers, or the file that openstack_cacert names."""
    variables = filling.variables
    if not (variables.flag("kolla_enable_tls_internal") or variables.flag("om_enable_rabbitmq_tls")):
        return
    copied = sorted((root / "certificates/ca").glob("*.crt"))
    named = variables.text("openstack_cacert") if variables.has("openstack_cacert") else ""
    if copied:
        authority(filling, "tls.authority", copied)
    elif named and named not in SYSTEM_BUNDLES:
        authority(filling, "tls.authority", [Path(named)])
