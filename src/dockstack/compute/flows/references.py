# SPDX-License-Identifier: Apache-2.0
"""Where a server's image is, if Glance has only a reference to a registry; and what it is, for as long as it lives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from dockstack.compute.images.registries import ALWAYS, POLICIES
from dockstack.compute.model import Source
from dockstack.oci.documents import Digest, ImageRejected, shown

if TYPE_CHECKING:
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Image, Server


class Asking(Protocol):
    """Who asks for an image, and for which server."""

    @property
    def token(self) -> str | None:
        """The requester's Keystone token."""

    def require_trust(self, image: Image) -> Image:
        """Note on an image whose signature it must have."""

    def read(self, image: Image) -> str | None:
        """Return the reference that an image is; None if it is an archive."""

    def pinned(self, image_id: str) -> str | None:
        """Return the digest that the server's image was at first."""

    def pin(self, image_id: str, digest: str) -> None:
        """Note it."""


def locate(host: Host, server: Server, asking: Asking) -> Server:
    """Find out where a server's image is, as ``find``."""
    return replace(server, image=find(host, server.image, asking))


def find(host: Host, image: Image, asking: Asking) -> Image:
    """Find out where an image is, and pin what it is: the server is made of the same again wherever that happens.

    Args:
        host: where.
        image: as Glance has it.
        asking: who asks, for which server.

    Raises:
        ImageRejected: the reference is none, or there is no such image.
        CannotPull: this host does not pull from there.
        RegistryError: the registry does not say what the tag means, or whether the user may have it.
    """
    image = asking.require_trust(image)
    text = asking.read(image)
    registries = host.images.registries
    if text is None or registries is None:
        return image
    reference = registries.parse(text)
    policy = image.properties.get("docker_pull_policy", ALWAYS)
    if policy not in POLICIES:
        raise ImageRejected(
            f"The property docker_pull_policy is {shown(policy)}, not one of {', '.join(POLICIES)}.", "Correct it."
        )
    known = asking.pinned(image.id)
    if reference.digest is None and known is not None:
        reference = replace(reference, digest=Digest.parse(known))
    if reference.digest is None or registries.is_own(reference.registry):  # the latter knows who may read what
        digest = registries.resolve(reference, asking.token, policy)
    else:
        digest = reference.digest
    if known is None:
        asking.pin(image.id, str(digest))
    platform = image.properties.get("docker_platform", "")
    return replace(image, source=Source(reference.registry, reference.repository, str(digest), platform, asking.token))
