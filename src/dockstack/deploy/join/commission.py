# SPDX-License-Identifier: Apache-2.0
"""What a machine is told that becomes a compute node: its attributes, and what it must know of the cloud.

It is one file on the node, which only root may read, and holds no secret that a node of this kind has no use for.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths
from dockstack.deploy.wanted.attributes import Kind, SourceValues, resolve
from dockstack.deploy.wanted.catalogue import CATALOGUE
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.deploy.wanted.inventory import Node, Role
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.wanted.attributes import Setting

PATH = paths.COMMISSION


@dataclass(frozen=True)
class Commission:
    """What one node is told.

    Attributes:
        name: what the person calls the node.
        attributes: values that are not the defaults.
        cloud: likewise, of the cloud document.
        disabled: why nothing may be placed on the node at first, "" if the cloud decides.
    """

    name: str
    attributes: Mapping[str, Any]
    cloud: Mapping[str, Any]
    disabled: str = ""

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    def node(self) -> Node:
        """Return the machine that reads this, as a node."""
        attributes = resolve(CATALOGUE, [SourceValues(PATH, self.attributes)])
        return Node(self.name, attributes, roles=frozenset({Role.COMPUTE}))

    def document(self) -> CloudDocument:
        """Return what the node knows of its cloud."""
        return CloudDocument([SourceValues(PATH, self.cloud)])


def commission(node: Node, cloud: CloudDocument, tunnel_address: str) -> Commission:
    """Return what to tell a node.

    Args:
        node: it.
        cloud: its cloud's whole document.
        tunnel_address: where its tunnels end, which only a look at it may have told.
    """
    changed = {one.attribute.name: _written(one) for one in node.attributes.settings() if one.source != "default"}
    own = {"network.encap_ip": tunnel_address, "release": cloud.text("release")}
    known = {
        key.name: setting.value
        for key, setting in cloud.settings()
        if setting.source != "default" and (not key.secret or cloud.has_use_for(key))
    }
    return Commission(node.name, {**changed, **own}, known)


def _written(setting: Setting) -> Any:
    """Return a value as a file would have it: of a mode, its octal digits."""
    return setting.attribute.show(setting.value) if setting.attribute.kind is Kind.MODE else setting.value


def read(path: str | Path = PATH) -> Commission:
    """Read the file.

    Raises:
        DockstackError: it is not there, or not whole.
    """
    try:
        return Commission(**json.loads(Path(path).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DockstackError(
            f"{path} does not say what this machine is to become: {error}", "Run `dockstack node add` for it."
        ) from error
