# SPDX-License-Identifier: Apache-2.0
"""Fill the cloud document from the cloud that `dockstack up` made on this machine.

What it runs with tells, not what a command line would give it now: `up` need not be told the same each time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dockstack.deploy import paths
from dockstack.deploy.configuration import oslo_file, registry
from dockstack.deploy.join import service_files
from dockstack.deploy.node.own_package import release_of
from dockstack.deploy.recipes import neutron, nova
from dockstack.deploy.wanted.attributes import SourceValues

if TYPE_CHECKING:
    from dockstack.deploy.node.shell import Shell
    from dockstack.deploy.wanted.attributes import Attributes

FILES = (nova.CONF, neutron.CONF, neutron.ML2_CONF, neutron.AGENT_CONF)
LOCK_MARKER, REGISTRY = Path(paths.LOCK_MARKER), Path(registry.CONF)
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
    sources = [*found.sources, _release(attributes)]
    own = _host(found)
    if REGISTRY.exists():  # it goes with the registry
        url = oslo_file.parse(REGISTRY.read_text(), str(REGISTRY))["registry"]["url"]
        sources.append(SourceValues(f"{REGISTRY} [registry] url", {"registry.address": url.removeprefix("https://")}))
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


def _release(attributes: Attributes) -> SourceValues:
    """Return the release that is installed; what the attribute says where another dockstack has installed it."""
    installed = release_of(LOCK_MARKER.read_text().strip()) if LOCK_MARKER.exists() else ""
    if installed:
        return SourceValues(f"what is installed in {paths.OPENSTACK_VENV}", {"release": installed})
    said = attributes.setting("release")
    return SourceValues(f"attribute release ({said.source})", {"release": said.value})


def _host(found: service_files.Found) -> str:
    """Return what everybody calls this machine: where Keystone is for all."""
    urls = [str(one.values["identity.auth_url"]) for one in found.sources if "identity.auth_url" in one.values]
    return urlsplit(urls[-1]).netloc.rpartition(":")[0] if urls else ""


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
