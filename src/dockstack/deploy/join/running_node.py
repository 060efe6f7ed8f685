# SPDX-License-Identifier: Apache-2.0
"""Fill the cloud document from a running compute node, whoever made its cloud: from its files and its switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.join import look, service_files
from dockstack.deploy.join.service_files import Found
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.join.look import PresentFile
    from dockstack.deploy.node.connection import Connection

# Nova's, of which the first that is there counts: Kolla-Ansible's, DevStack's, everybody else's with what adds to it.
NOVA = (
    ("/etc/kolla/nova-compute/nova.conf",),
    ("/etc/nova/nova-cpu.conf",),
    ("/etc/nova/nova.conf", "/etc/nova/nova-compute.conf"),
)
# Neutron's, of which all count that are there.
NEUTRON = (
    "/etc/neutron/neutron.conf",
    "/etc/neutron/plugins/ml2/ml2_conf.ini",
    "/etc/neutron/plugins/ml2/openvswitch_agent.ini",
    "/etc/neutron/neutron_ovn_metadata_agent.ini",
    "/etc/neutron/ovn_agent.ini",
    "/etc/neutron/plugins/ml2/ovn_agent.ini",
    "/etc/kolla/neutron-openvswitch-agent/neutron.conf",
    "/etc/kolla/neutron-openvswitch-agent/openvswitch_agent.ini",
    "/etc/kolla/neutron-ovn-metadata-agent/neutron.conf",
    "/etc/kolla/neutron-ovn-metadata-agent/neutron_ovn_metadata_agent.ini",
    "/etc/kolla/neutron-ovn-agent/neutron.conf",
    "/etc/kolla/neutron-ovn-agent/neutron_ovn_agent.ini",
    "/etc/kolla/neutron-ovn-agent/ovn_agent.ini",
)
# external-ids of Open vSwitch, and the keys that they fill.
SWITCH = (("ovn-remote", "ovn.southbound"), ("ovn-encap-type", "ovn.encap_type"))


def values(connection: Connection, root: str = "") -> Found:
    """Return what the node's files and its switch tell; nothing is changed on it.

    Args:
        connection: to the node.
        root: the directory below which the files are; a test's.

    Raises:
        DockstackError: it has no nova.conf of a compute node.
    """
    name = connection.node.name
    places = [f"{root}{path}" for path in (*(path for group in NOVA for path in group), *NEUTRON)]
    present = look.read(connection, places)
    nova = next(([path for path in group if path in present] for group in _below(root) if group[0] in present), [])
    if not nova:
        raise DockstackError(
            f"{name} has no nova.conf where it is looked for: {', '.join(group[0] for group in NOVA)}.",
            "Name a compute node, or copy its files here and name them.",
        )
    found = _switch(connection)
    for path in (*nova, *(f"{root}{path}" for path in NEUTRON)):
        if path in present:
            found = found.and_then(service_files.told_by(f"{name}:{path}", present[path].content))
    return found.and_then(_authorities(connection, {path: present[path] for path in nova}))


def _below(root: str) -> list[list[str]]:
    return [[f"{root}{path}" for path in group] for group in NOVA]


def _switch(connection: Connection) -> Found:
    """Return what the switch tells of OVN; where there is none, or it is in a container, nothing."""
    sources = []
    for identifier, key in SWITCH:
        line = f"ovs-vsctl --timeout=10 --if-exists get Open_vSwitch . external-ids:{identifier} 2>/dev/null; :"
        value = look.ask(connection, line).stdout.strip().strip('"')
        if key == "ovn.encap_type":  # several are offered, the first is preferred
            value = value.partition(",")[0]
        if value:
            sources.append(
                SourceValues(f"{connection.node.name}: Open vSwitch, external-ids:{identifier}", {key: value})
            )
    return Found(tuple(sources))


def _authorities(connection: Connection, nova: Mapping[str, PresentFile]) -> Found:
    """Return the certificates that nova.conf names, where they are files of the host and not of a container."""
    paths = [path for file in nova.values() for path in service_files.authority_paths(file.content)]
    there = look.read(connection, dict.fromkeys(paths))
    if len(there) < len(set(paths)):
        return Found()
    text = "\n".join(file.content.strip() for file in there.values())
    return Found((SourceValues(f"{connection.node.name}:{', '.join(there)}", {"tls.authority": text}),) if text else ())
