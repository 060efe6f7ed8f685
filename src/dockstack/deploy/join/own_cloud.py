# SPDX-License-Identifier: Apache-2.0
"""Fill the cloud document from the cloud that `dockstack up` made on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration.registry import wanted as has_registry
from dockstack.deploy.join import service_files
from dockstack.deploy.recipes import neutron, nova
from dockstack.deploy.wanted.attributes import SourceValues

if TYPE_CHECKING:
    from dockstack.deploy.node.shell import Shell
    from dockstack.deploy.wanted.attributes import Attributes

FILES = (nova.CONF, neutron.CONF, neutron.ML2_CONF, neutron.AGENT_CONF)
# Database, its control socket, the key that it fills.
DATABASES = (
    ("southbound", "/run/ovn/ovnsb_db.ctl", "ovn.southbound"),
    ("northbound", "/run/ovn/ovnnb_db.ctl", "ovn.northbound"),
)
AUTHORITIES = {"tls.authority": Path(paths.AUTHORITY), "ovn.authority": Path(paths.OVN_AUTHORITY)}
_LISTENER = re.compile(r"^p(tcp|ssl):(\d+)(?::(\[[^]]+\]|[^:\s]+))?$")


def values(attributes: Attributes, shell: Shell) -> service_files.Found:
    """Return what this machine's services run with, and where OVN's databases listen for other machines."""
    found = service_files.read(FILES)
    release = attributes.setting("release")
    sources = [*found.sources, SourceValues(f"attribute release ({release.source})", {"release": release.value})]
    own = attributes.text("public_address") or attributes.text("listen_address")
    registry = attributes.setting("registry.enable")
    if has_registry(attributes):
        scheme = "" if attributes.flag("tls.enable") else "http://"
        address = f"{scheme}{own}:{attributes.number('ports.registry')}"
        sources.append(SourceValues(f"attribute registry.enable ({registry.source})", {"registry.address": address}))
    for title, socket, key in DATABASES:
        command = ["ovs-appctl", "--timeout=10", "-t", socket, "ovsdb-server/list-remotes"]
        remotes = listeners(shell.run(command, check=False).lines, own)
        if remotes:
            sources.append(SourceValues(f"OVN's {title} database", {key: remotes}))
        if any(remote.startswith("ssl:") for remote in remotes):
            sources += [_content("ovn.authority"), SourceValues("a cloud of `dockstack up`", {"ovn.issue": True})]
    if any(problem.key == "tls.authority" for problem in found.problems):
        sources.append(_content("tls.authority"))
    return service_files.Found(tuple(sources), found.problems)  # that it is a controller's is known


def _content(key: str) -> SourceValues:
    return SourceValues(str(AUTHORITIES[key]), {key: AUTHORITIES[key].read_text()})


def listeners(lines: list[str], own: str) -> list[str]:
    """Return how others reach a database, from what it says of its remotes: ``ptcp:6642:0.0.0.0`` and the like.

    Args:
        lines: what it printed.
        own: this machine's address, for a listener on all of them.
    """
    found = [_LISTENER.match(line.strip()) for line in lines]
    parts = [match.groups() for match in found if match]
    wild = {None, "0.0.0.0", "[::]"}
    return [f"{protocol}:{own if address in wild else address}:{port}" for protocol, port, address in parts]
