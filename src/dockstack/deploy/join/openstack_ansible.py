# SPDX-License-Identifier: Apache-2.0
"""Fill the cloud document from OpenStack-Ansible's configuration directory: variables, secrets, and its inventory.

The tables say what its roles make of which variables, for a compute node.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.deploy.join import ansible
from dockstack.deploy.join.deployer_variables import Filling, UntoldError, Variables, read
from dockstack.deploy.join.site_files import Site, authority, bracketed, databases, inventory_of
from dockstack.deploy.wanted.cloud_keys import OPEN_VSWITCH, OPENSTACK_ANSIBLE, OVN
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dockstack.deploy.join.service_files import Found

INVENTORY = "openstack_inventory.json"  # what its own inventory program writes beside the configuration
DEFAULT = "OpenStack-Ansible's default of"
# Files with variables for all hosts, or for those of Nova and Neutron; of them and user_*.yml, a later one counts.
GROUPS = ("all.yml", "all/*.yml", "nova_all.yml", "nova_all/*.yml", "neutron_all.yml", "neutron_all/*.yml")
DEFAULTS = {
    "openstack_service_internaluri_proto": "http",
    "openstack_service_publicuri_proto": "https",
    "keystone_service_internaluri_proto": "{{ openstack_service_internaluri_proto }}",
    "keystone_service_port": 5000,
    "service_region": "RegionOne",
    "nova_service_region": "{{ service_region }}",
    "nova_service_user_name": "nova",
    "nova_service_project_name": "service",
    "rabbitmq_host_group": "rabbitmq_all",
    "rabbitmq_use_ssl": True,
    "rabbitmq_queue_replication": True,
    "nova_oslomsg_rpc_userid": "nova",
    "neutron_oslomsg_rpc_userid": "neutron",
    "oslomsg_rpc_use_ssl": "{{ rabbitmq_use_ssl }}",
    "oslomsg_rabbit_quorum_queues": "{{ rabbitmq_queue_replication }}",
    "nova_oslomsg_rabbit_quorum_queues": "{{ oslomsg_rabbit_quorum_queues }}",
    "oslomsg_rabbit_stream_fanout": "{{ nova_oslomsg_rabbit_quorum_queues }}",
    "nova_oslomsg_rabbit_stream_fanout": "{{ oslomsg_rabbit_stream_fanout }}",
    "oslomsg_rabbit_transient_quorum_queues": "{{ nova_oslomsg_rabbit_stream_fanout }}",
    "nova_oslomsg_rabbit_transient_quorum_queues": "{{ oslomsg_rabbit_transient_quorum_queues }}",
    "nova_oslomsg_rabbit_qos_prefetch_count": "{{ oslomsg_rabbit_qos_prefetch_count }}",
    "oslomsg_rabbit_queue_manager": False,
    "nova_oslomsg_rabbit_queue_manager": "{{ oslomsg_rabbit_queue_manager }}",
    "oslomsg_rabbit_quorum_delivery_limit": 0,
    "nova_oslomsg_rabbit_quorum_delivery_limit": "{{ oslomsg_rabbit_quorum_delivery_limit }}",
    "oslomsg_rabbit_quorum_max_memory_bytes": 0,
    "nova_oslomsg_rabbit_quorum_max_memory_bytes": "{{ oslomsg_rabbit_quorum_max_memory_bytes }}",
    "nova_metadata_port": 8775,
    "nova_metadata_protocol": "{{ openstack_service_internaluri_proto }}",
    "neutron_nova_metadata_protocol": "{{ nova_metadata_protocol }}",
    "neutron_plugin_type": "ml2.ovn",
    "neutron_ovn_ssl": True,
    "neutron_ml2_drivers_type": "geneve,vlan,flat",
    "neutron_firewall_driver": "iptables_hybrid",
    "neutron_dnsmasq_force_metadata": False,
    "nova_console_type": "novnc",
    "nova_novncproxy_proto": "{{ openstack_service_publicuri_proto }}",
    "nova_novncproxy_port": 6080,
    "nova_serialconsoleproxy_proto": "ws",
    "nova_serialconsoleproxy_port": 6083,
    "openstack_pki_service_intermediate_cert_name": "ExampleCorpIntermediate",
}
ROWS = {
    "identity.auth_url": "{keystone_service_internaluri_proto}://{internal_lb_vip_address}:{keystone_service_port}/v3",
    "identity.region": "{nova_service_region}",
    "messaging.rabbit_quorum_queue": "{nova_oslomsg_rabbit_quorum_queues}",
    "messaging.rabbit_stream_fanout": "{nova_oslomsg_rabbit_stream_fanout}",
    "messaging.rabbit_transient_quorum_queue": "{nova_oslomsg_rabbit_transient_quorum_queues}",
    "messaging.rabbit_qos_prefetch_count": "{nova_oslomsg_rabbit_qos_prefetch_count}",
    "messaging.use_queue_manager": "{nova_oslomsg_rabbit_queue_manager}",
    "messaging.rabbit_quorum_delivery_limit": "{nova_oslomsg_rabbit_quorum_delivery_limit}",
    "messaging.rabbit_quorum_max_memory_bytes": "{nova_oslomsg_rabbit_quorum_max_memory_bytes}",
    "messaging.ssl": "{oslomsg_rpc_use_ssl}",
    "metadata.host": "{internal_lb_vip_address}",
    "metadata.port": "{nova_metadata_port}",
    "metadata.protocol": "{neutron_nova_metadata_protocol}",
    "metadata.secret": "{nova_metadata_proxy_secret}",
}
CONSOLES = {
    "novnc": (
        "consoles.novnc_url",
        "{nova_novncproxy_proto}://{external_lb_vip_address}:{nova_novncproxy_port}/vnc_lite.html",
    ),
    "serialconsole": (
        "consoles.serial_url",
        "{nova_serialconsoleproxy_proto}://{external_lb_vip_address}:{nova_serialconsoleproxy_port}",
    ),
}
NOT_TUNNELS = ("flat", "vlan", "local")
CERTIFICATE = "OpenStack-Ansible makes one for each of its hosts. Have its authority make one for these nodes."


def values(directory: str, inventory: str | None = None) -> Found:
    """Return what the directory tells; it does not tell the release.

    Args:
        directory: with user_secrets.yml and user_variables.yml, as /etc/openstack_deploy.
        inventory: the inventory, or its listing as JSON, if it is elsewhere.

    Raises:
        DockstackError: a file is missing, cannot be read, or is encrypted.
    """
    root = Path(directory)
    if not (root / "user_secrets.yml").is_file():
        raise DockstackError(f"{root} has no user_secrets.yml.", "Name its directory: /etc/openstack_deploy.")
    places = inventory_of(root, (INVENTORY,), inventory)
    site = Site(places, ansible.listing(places))
    variables = Variables([*_overrides(root), *_files(root)]).below(DEFAULT, DEFAULTS)
    variables = variables.below(DEFAULT, _derived(variables))
    filling = Filling(variables)
    filling.put("deployer", OPENSTACK_ANSIBLE, str(root))
    filling.take(dict(_rows(variables)))
    _bus(filling, site)
    _networks(filling, site)
    _certificates(filling, root)
    return filling.found()


def _overrides(root: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in (root / "openstack_user_config.yml", *sorted(root.glob("conf.d/*.yml"))):
        overrides = read(path).get("global_overrides")
        if isinstance(overrides, dict):
            yield f"{path} global_overrides:", overrides


def _files(root: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = [path for pattern in GROUPS for path in sorted((root / "group_vars").glob(pattern))]
    for path in (*found, *sorted(root.glob("user_*.yml"))):
        yield str(path), read(path)


def _derived(variables: Variables) -> dict[str, object]:
    quorum = variables.flag("nova_oslomsg_rabbit_quorum_queues")
    return {
        "oslomsg_rabbit_qos_prefetch_count": 10 if variables.flag("nova_oslomsg_rabbit_stream_fanout") else 0,
        "rabbitmq_port": 5671 if variables.flag("rabbitmq_use_ssl") else 5672,
        "oslomsg_rpc_port": "{{ rabbitmq_port }}",
        # Classic queues had virtual hosts whose names began with a slash.
        "nova_oslomsg_rpc_vhost": "nova" if quorum else "/nova",
        "neutron_oslomsg_rpc_vhost": "neutron" if quorum else "/neutron",
        "openstack_pki_root": "ExampleCorpRoot",
    }


def _rows(variables: Variables) -> Iterator[tuple[str, str]]:
    yield from ROWS.items()
    for service in ("nova", "placement", "neutron", "cinder"):  # its Nova calls all of them by its own account
        yield f"accounts.{service}.username", "{nova_service_user_name}"
        yield f"accounts.{service}.password", "{nova_service_password}"
        yield f"accounts.{service}.project", "{nova_service_project_name}"
    console = variables.text("nova_console_type")
    if console in CONSOLES:
        yield CONSOLES[console]


def _bus(filling: Filling, site: Site) -> None:
    variables = filling.variables
    for service, key in (("nova", "messaging.transport_url"), ("neutron", "messaging.neutron_transport_url")):
        try:
            user = variables.told(f"{service}_oslomsg_rpc_userid")
            password = variables.told(f"{service}_oslomsg_rpc_password")
            virtual_host = _present(variables.told(f"{service}_oslomsg_rpc_vhost").value)
            port = variables.text("oslomsg_rpc_port")
            hosts, where = site.addresses(variables.text("rabbitmq_host_group"), "management_address")
        except UntoldError as untold:
            filling.miss(key, untold.brief)
            continue
        servers = ",".join(f"{user.value}:{password.value}@{bracketed(host)}:{port}" for host in hosts)
        filling.put(key, f"rabbit://{servers}/{virtual_host}", where, *user.sources, *password.sources)


def _present(told: Any) -> str:
    """Return the virtual host of a list of them with states, of which one is present."""
    if isinstance(told, list):
        return next((str(one["name"]) for one in told if one.get("state", "present") == "present"), "")
    return str(told)


def _networks(filling: Filling, site: Site) -> None:
    variables = filling.variables
    kind = variables.told("neutron_plugin_type")
    ovn = kind.value == "ml2.ovn"
    filling.put("network.mechanism", OVN if ovn else OPEN_VSWITCH, *kind.sources)
    if not ovn:
        _agent(filling)
        return
    protocol, group = "ssl" if variables.flag("neutron_ovn_ssl") else "tcp", "neutron_ovn_northd"
    databases(filling, site, protocol, {"ovn.southbound": (group, 6642), "ovn.northbound": (group, 6641)})


def _agent(filling: Filling) -> None:
    """Fill in what its Open vSwitch agents do; which bridges its hosts have, their own variables say."""
    variables = filling.variables
    kind, types = variables.told("neutron_plugin_type"), variables.told("neutron_ml2_drivers_type")
    distributed = kind.value == "ml2.ovs.dvr"
    population = variables.told("neutron_l2_population") if variables.has("neutron_l2_population") else None
    filling.put("openvswitch.distributed_routing", distributed, *kind.sources)
    filling.put(
        "openvswitch.l2_population",
        population.value if population else distributed,
        *(population or kind).sources,
    )
    tunnels = [name for name in str(types.value).replace(" ", "").split(",") if name not in NOT_TUNNELS]
    filling.put("openvswitch.tunnel_types", tunnels, *types.sources)
    filling.take({"openvswitch.firewall_driver": "{neutron_firewall_driver}"})
    forced = variables.told("neutron_dnsmasq_force_metadata")
    by_dhcp = variables.flag("neutron_dnsmasq_force_metadata")
    filling.put("openvswitch.metadata", "dhcp" if by_dhcp else "router", *forced.sources)
    plugins = variables.told("neutron_plugin_base") if variables.has("neutron_plugin_base") else None
    if plugins and isinstance(plugins.value, list) and "qos" in plugins.value:
        filling.put("openvswitch.extensions", ["qos"], *plugins.sources)


def _certificates(filling: Filling, root: Path) -> None:
    """Fill in who signed: its own authority, as far as its directory holds what it makes."""
    variables = filling.variables
    roots = root / "pki/roots"
    own = variables.text("openstack_pki_root")
    between = variables.text("openstack_pki_service_intermediate_cert_name")
    if variables.flag("oslomsg_rpc_use_ssl") or variables.text("keystone_service_internaluri_proto") == "https":
        authority(filling, "tls.authority", [roots / own / f"certs/{own}.crt"])
    if variables.text("neutron_plugin_type") == "ml2.ovn" and variables.flag("neutron_ovn_ssl"):
        authority(filling, "ovn.authority", [roots / between / f"certs/{between}-chain.crt"])
        filling.miss("ovn.certificate", CERTIFICATE)
        filling.miss("ovn.private_key", "The key of that certificate.")
