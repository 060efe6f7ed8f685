# SPDX-License-Identifier: Apache-2.0
"""Images that only point to a registry, as Glance and Nova's records have them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dockstack.compute.model import REFERENCE_BYTES, REFERENCE_FORMAT
from dockstack.compute.nova_api import glance
from dockstack.oci.documents import ImageRejected, Reference, shown

if TYPE_CHECKING:
    from dockstack.compute.model import Image

PROPERTY = "docker_ref"
PIN = "docker_pin"  # in a server's system metadata: the image's id, a space, the digest


@dataclass(frozen=True)
class Asking:
    """Who asks for an image, and for which server."""

    context: Any  # nova.context.RequestContext
    instance: Any = None  # nova.objects.Instance; None: for servers to come

    @property
    def token(self) -> str | None:
        """The requester's Keystone token; Nova's own tasks have none."""
        return self.context.auth_token or None

    def require_trust(self, image: Image) -> Image:
        """Note on an image whose signature Nova is to verify, if it is to."""
        trusted = self.instance.trusted_certs if self.instance is not None else None
        if not glance.verifies(trusted):
            return image
        signed = {name: value for name, value in sorted(image.properties.items()) if name.startswith("img_signature")}
        said = json.dumps([sorted(trusted.ids) if trusted else [], signed])
        return replace(image, trust=hashlib.sha256(said.encode()).hexdigest())

    def read(self, image: Image) -> str | None:
        """Return the reference that an image is; None if it is an archive. Must be called inside ``reading_as``.

        Raises:
            ImageRejected: it should be a reference, and is none.
            Exception: as ``glance.download_image``.
        """
        if not image.may_point:
            return None
        text = _read_text(image) if image.size != 0 else ""
        if text is None or (text and image.container_format != REFERENCE_FORMAT and not _is_reference(text)):
            if image.container_format == REFERENCE_FORMAT:
                raise _no_reference(image)
            return None
        if text:
            return text
        named = image.properties.get(PROPERTY, "").strip()
        if not named and image.container_format == REFERENCE_FORMAT:
            raise _no_reference(image)
        if named and image.trust:
            raise ImageRejected(
                f"The reference of image {image.name} is in its property {PROPERTY}, which nobody can sign.",
                "Upload the reference as the image's data, and sign that.",
            )
        return named or None

    def pinned(self, image_id: str) -> str | None:
        """Return the digest that a server's image was at first; None if it has none yet."""
        found = self.instance.system_metadata.get(PIN, "") if self.instance is not None else ""
        known, _, digest = found.partition(" ")
        return digest if digest and known == image_id else None

    def pin(self, image_id: str, digest: str) -> None:
        """Note what a server's image is, for whichever host makes the server again."""
        if self.instance is not None and self.instance.image_ref in (image_id, ""):  # none: it boots from a volume
            self.instance.system_metadata[PIN] = f"{image_id} {digest}"
            self.instance.save()


def _read_text(image: Image) -> str | None:
    """Read an image's data; None if they are no text."""
    data = b""
    chunks = glance.download_image(image)
    try:
        for chunk in chunks:
            data += chunk
            if len(data) > REFERENCE_BYTES:
                return None
    finally:
        if callable(close := getattr(chunks, "close", None)):
            close()
    return data.decode().strip() if data.isascii() else None


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except ImageRejected:
        return False
    return "/" in text


def _no_reference(image: Image) -> ImageRejected:
    return ImageRejected(
        f"Image {shown(image.name)} has the format {REFERENCE_FORMAT} and names no image in a registry.",
        f"Its data must be one line, registry/name:tag, or its property {PROPERTY} must be that.",
    )
