# SPDX-License-Identifier: Apache-2.0
"""Fill the cloud document from DevStack's own directory: local.conf, its passwords, and what it noted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.deploy.join.deployer_variables import Filling, Variables
from dockstack.deploy.wanted.cloud_keys import OPEN_VSWITCH, OVN
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.join.service_files import Found

LOCAL = "[[local|localrc]]"
DEFAULT = "DevStack's default of"
DEFAULTS = {
    "SERVICE_HOST": "{{ HOST_IP }}",
    "RABBIT_HOST": "{{ SERVICE_HOST }}",
    "RABBIT_USERID": "stackrabbit",
    "REGION_NAME": "RegionOne",
    "KEYSTONE_SERVICE_URI": "http://{{ SERVICE_HOST }}/identity",
    "METADATA_SERVICE_PORT": 8775,
    "NOVA_CPU_CELL": 1,
    "CELLSV2_SETUP": "superconductor",
    "Q_AGENT": "ovn",
    "Q_DVR_MODE": "legacy",
    "Q_USE_SECGROUP": True,
    "Q_ML2_TENANT_NETWORK_TYPE": "geneve",
    "ENABLE_TENANT_TUNNELS": True,
    "PHYSICAL_NETWORK": "public",
    "OVS_PHYSICAL_BRIDGE": "br-ex",
    "OVS_BRIDGE_MAPPINGS": "{{ PHYSICAL_NETWORK }}:{{ OVS_PHYSICAL_BRIDGE }}",
    "OVN_SB_REMOTE": "{{ ovn_protocol }}:{{ SERVICE_HOST }}:6642",
    "OVN_NB_REMOTE": "{{ ovn_protocol }}:{{ SERVICE_HOST }}:6641",
}
ROWS = {
    "identity.auth_url": "{KEYSTONE_SERVICE_URI}",
    "identity.region": "{REGION_NAME}",
    "messaging.transport_url": "rabbit://{RABBIT_USERID}:{RABBIT_PASSWORD}@{RABBIT_HOST}:{port_and_cell}",
    "metadata.host": "{SERVICE_HOST}",
    "metadata.port": "{METADATA_SERVICE_PORT}",
    "messaging.neutron_transport_url": "rabbit://{RABBIT_USERID}:{RABBIT_PASSWORD}@{RABBIT_HOST}:5672/",
}
OF_OVN = {"ovn.southbound": "{OVN_SB_REMOTE}", "ovn.northbound": "{OVN_NB_REMOTE}"}
SERVICES = ("nova", "placement", "neutron", "cinder")
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(.*)")
_NAME = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def values(directory: str) -> Found:
    """Return what the directory tells; it does not tell the release.

    Raises:
        DockstackError: it has none of the files, or one cannot be read.
    """
    root = Path(directory)
    # What is named later counts: what stack.sh noted at its end is what it ran with.
    layers = [
        (str(path), assignments(_section(text) if path.name == "local.conf" else text))
        for path in (root / name for name in ("local.conf", ".localrc.password", ".stackenv"))
        if path.is_file() and (text := _text(path))
    ]
    if not layers:
        raise DockstackError(f"{root} has no local.conf and no .stackenv.", "Name the directory that stack.sh is in.")
    variables = Variables(layers).below(DEFAULT, DEFAULTS)
    services = variables.text("ENABLED_SERVICES").split(",") if variables.has("ENABLED_SERVICES") else []
    cells = variables.text("CELLSV2_SETUP") == "superconductor"
    derived = {
        "ovn_protocol": "ssl" if "tls-proxy" in services else "tcp",
        "port_and_cell": "5672/nova_cell{{ NOVA_CPU_CELL }}" if cells else "5672/",
    }
    filling = Filling(variables.below(DEFAULT, derived))
    filling.take(ROWS)
    filling.take(OF_OVN if filling.variables.text("Q_AGENT") == OVN else _agent(filling))
    for service in SERVICES:
        if service != "cinder" or "c-api" in services:
            filling.put(f"accounts.{service}.username", service, "DevStack")
            filling.take({f"accounts.{service}.password": "{SERVICE_PASSWORD}"})
    # Its catalogue has public endpoints only, and what agents sign with is empty on both sides.
    filling.put("identity.interface", "public", "DevStack")
    filling.put("metadata.secret", "", "DevStack")
    return filling.found()


def _agent(filling: Filling) -> dict[str, str]:
    """Fill in what its Open vSwitch agent does, and return the rows for the rest."""
    variables = filling.variables
    agent, distributed = variables.told("Q_AGENT"), variables.told("Q_DVR_MODE")
    filling.put("network.mechanism", OPEN_VSWITCH, *agent.sources)
    routers_here = distributed.value != "legacy"
    filling.put("openvswitch.distributed_routing", routers_here, *distributed.sources)
    filling.put("openvswitch.l2_population", routers_here, *distributed.sources)
    kind = variables.told("Q_ML2_TENANT_NETWORK_TYPE")
    if kind.value in {"gre", "vxlan"}:
        filling.put("openvswitch.tunnel_types", [kind.value], *kind.sources)
    else:
        tunnels = ["gre"] if variables.flag("ENABLE_TENANT_TUNNELS") else []
        filling.put("openvswitch.tunnel_types", tunnels, *variables.told("ENABLE_TENANT_TUNNELS").sources)
    groups = variables.told("Q_USE_SECGROUP")
    driver = OPEN_VSWITCH if variables.flag("Q_USE_SECGROUP") else "noop"
    filling.put("openvswitch.firewall_driver", driver, *groups.sources)
    return {"openvswitch.bridge_mappings": "{OVS_BRIDGE_MAPPINGS}"}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise DockstackError(f"{path} cannot be read: {error.strerror}.", "Run as its owner, or as root.") from error


def _section(text: str) -> str:
    """Return what local.conf says to stack.sh itself; its other sections are pieces of services' files."""
    _, _, after = text.partition(LOCAL)
    return re.split(r"^\[\[", after, maxsplit=1, flags=re.MULTILINE)[0]


def assignments(text: str) -> dict[str, Any]:
    """Return what a file of shell assignments sets, with references as Ansible writes them; nothing is run; pure."""
    found = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.match(line.strip())
        try:
            words = shlex.split(match[2], comments=True) if match else []
        except ValueError:
            continue  # a text of several lines, or an array
        if match:
            value = _NAME.sub(lambda name: f"{{{{ {name[1] or name[2]} }}}}", words[0] if words else "")
            found[match[1]] = "{% shell %}" if "$" in value or "`" in value else value
    return found
