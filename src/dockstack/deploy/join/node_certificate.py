# SPDX-License-Identifier: Apache-2.0
"""A node's own certificate for OVN's databases, made where the cloud's authority is, which never leaves that machine.

It is made in memory, so that looking at a node changes nothing, and kept when the node is told of it: a second ``add``
tells the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dockstack.deploy import paths
from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.configuration import certificates
from dockstack.deploy.configuration.certificates import CLIENT, Holder
from dockstack.deploy.configuration.compute_node import encrypted
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.wanted.cloud_document import CloudDocument

KEYS = ("ovn.certificate", "ovn.private_key")
ELSEWHERE = (
    "Run this command as root on the cloud's controller, after `dockstack cloud import --from-here` there. Or set "
    f"ovn.issue: false in the cloud document, and give {' and '.join(KEYS)}."
)


class NodeCertificates:
    """The certificates of the nodes of the cloud that `dockstack up` made on this machine."""

    def __init__(self, authority: str = paths.OWN_AUTHORITY, directory: str = paths.NODE_CERTIFICATES) -> None:
        """Have the authority in this file, and what it made for nodes in this directory."""
        self._authority, self._directory = Path(authority), Path(directory)

    def given(self, cloud: CloudDocument, node: str, hostname: str, address: str) -> CloudDocument:
        """Return the cloud as one node sees it: with a certificate of its own, where the cloud's nodes get one.

        Args:
            cloud: the whole cloud's document.
            node: what the person calls the node.
            hostname: what the machine calls itself.
            address: where its tunnels end.

        Raises:
            DockstackError: the cloud's authority is not here, or the machine's name is none.
        """
        if not (cloud.values.flag("ovn.issue") and encrypted(cloud)):
            return cloud
        signer = _read(self._authority)
        if signer is None or certificates.certificate_of(signer).strip() != cloud.text("ovn.authority").strip():
            raise DockstackError(f"The authority that gives {node} its certificate for OVN is not here.", ELSEWHERE)
        holder = Holder(hostname, (hostname, address), CLIENT)
        try:
            made = certificates.issued(_read(self._path(node)), signer, holder, datetime.now(UTC))
        except ValueError as error:
            brief = f"{node} calls itself {hostname!r}, which no certificate can name."
            raise DockstackError(brief, "Give it a name of letters, digits, dashes and dots.") from error
        parts = (certificates.certificate_of(made), certificates.key_of(made))
        return cloud.and_then(
            SourceValues(f"this machine's authority, for {node}", dict(zip(KEYS, parts, strict=True)))
        )

    def keep(self, node: str, cloud: CloudDocument) -> None:
        """Keep what a node is told of."""
        if cloud.values.flag("ovn.issue"):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            write_atomically(self._path(node), "".join(cloud.text(key) for key in KEYS), mode=0o600)

    def forget(self, node: str) -> None:
        """Keep nothing for a node that is none any more; another machine of its name gets its own."""
        self._path(node).unlink(missing_ok=True)

    def _path(self, node: str) -> Path:
        return self._directory / f"{quote(node, safe='')}.pem"


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (FileNotFoundError, PermissionError):
        return None
