# SPDX-License-Identifier: Apache-2.0
"""Files that have another deployer run the switch, OVN and metadata on our nodes, and nothing of Nova.

nova-compute and the engine on these hosts are ours: so they are in no group that a deployer puts compute nodes into.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.node.connection import address_of
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dockstack.deploy.wanted.inventory import Node

GROUP = "docker_compute"
HEADING = "# Written by `dockstack cloud export`; written anew each time.\n"
# Kolla-Ansible starts a service where the groups say, that are named on the right.
KOLLA_GROUPS = (
    "baremetal",  # prepares hosts
    "common",  # kolla_toolbox, which sets up the switch
    "openvswitch",
    "neutron-metadata-agent",  # the switch's containers come with it; with OVN, the agent itself does not
    "ovn-controller-compute",
    "neutron-ovn-agent",
    "neutron-ovn-metadata-agent",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # what an inventory takes for one host and no pattern of several


def kolla(nodes: Iterable[Node]) -> dict[str, str]:
    """Return an inventory to be given beside Kolla-Ansible's own, by the files' places."""
    hosts = tuple(nodes)
    groups: dict[str, Any] = {GROUP: {"hosts": {node.name: None for node in hosts}}}
    groups |= {name: {"children": {GROUP: None}} for name in KOLLA_GROUPS}
    made = {f"{GROUP}.yml": _yaml(groups)}
    return made | {f"host_vars/{node.name}.yml": _yaml(_connection(node)) for node in hosts}


def openstack_ansible(nodes: Iterable[Node]) -> dict[str, str]:
    """Return what OpenStack-Ansible's own inventory program reads below its configuration directory.

    Raises:
        DockstackError: the address of a node is a name.
    """
    containers, physical = f"{GROUP}_containers", f"{GROUP}_hosts"
    kind = {
        "container_skel": {
            f"{GROUP}_container": {
                "belongs_to": [containers],
                # Open vSwitch, ovn-controller and the metadata agent come with this one.
                "contains": ["neutron_ovn_controller"],
                "properties": {"is_metal": True},
            }
        },
        "physical_skel": {containers: {"belongs_to": ["all_containers"]}, physical: {"belongs_to": ["hosts"]}},
    }
    return {
        f"env.d/{GROUP}.yml": _yaml(kind),
        f"conf.d/{GROUP}.yml": _yaml({physical: {node.name: _physical(node) for node in nodes}}),
    }


EXPORTS: Mapping[str, Callable[[Iterable[Node]], dict[str, str]]] = {
    "kolla": kolla,
    "openstack-ansible": openstack_ansible,
}


def files(deployer: str, nodes: Iterable[Node]) -> dict[str, str]:
    """Return the files of one of EXPORTS by their places below a directory.

    Raises:
        DockstackError: a node cannot be written as such a deployer's host.
    """
    hosts = list(nodes)
    for node in hosts:
        if not _NAME.fullmatch(node.name):
            raise DockstackError(
                f"{node.name!r} is no name that an inventory takes.",
                "Give the node a name in the environment file, and its address as `address:`.",
            )
    return EXPORTS[deployer](hosts)


def _yaml(content: Mapping[str, Any]) -> str:
    return HEADING + yaml.safe_dump(dict(content), sort_keys=False)


def _connection(node: Node) -> dict[str, Any]:
    """Return how Ansible reaches a host; host keys are its own matter."""
    found: dict[str, Any] = {"ansible_host": address_of(node), "ansible_user": node.user}
    if node.port != 22:  # noqa: PLR2004 - SSH's
        found["ansible_port"] = node.port
    if node.user != "root":
        found["ansible_become"] = True
    if node.key:
        found["ansible_ssh_private_key_file"] = node.key
    if node.jump:
        found["ansible_ssh_common_args"] = f"-o ProxyJump={node.jump}"
    return found


def _physical(node: Node) -> dict[str, Any]:
    address = address_of(node)
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise DockstackError(
            f"The address of {node.name} is the name {address}, and OpenStack-Ansible wants one in numbers.",
            "Give the node `address: 192.0.2.31` in the environment file.",
        ) from None
    rest = {name: value for name, value in _connection(node).items() if name != "ansible_host"}
    if node.user == "root":
        del rest["ansible_user"]
    return {"ip": address, **({"host_vars": rest} if rest else {})}


def write(contents: Mapping[str, str], directory: str | Path) -> tuple[Path, ...]:
    """Write the files below a directory, and return their paths.

    Raises:
        DockstackError: one is there that is not ours, or cannot be written.
    """
    found = {Path(directory) / name: content for name, content in contents.items()}
    try:
        foreign = [path for path in found if path.exists() and not path.read_text().startswith(HEADING)]
        if foreign:
            raise DockstackError(
                f"{', '.join(map(str, foreign))} is there, and not written by dockstack.", "Name another directory."
            )
        for path, content in found.items():
            write_atomically(path, content)
    except OSError as error:
        raise DockstackError(f"{error.filename} cannot be written: {error.strerror}.", "Name another place.") from error
    return tuple(found)
