# SPDX-License-Identifier: Apache-2.0
"""Images as Glance knows them, read whole, and their data as a stream."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import nova.conf
from nova.image import glance

from dockstack.compute.model import Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONF = nova.conf.CONF
CHUNK = 1 << 20


class Requester(NamedTuple):
    """On whose behalf images are read."""

    context: Any  # nova.context.RequestContext
    trusted_certs: Any = None  # nova.objects.TrustedCerts


_requester: ContextVar[Requester] = ContextVar("requester")


@contextmanager
def reading_as(context: Any, trusted_certs: Any = None) -> Iterator[None]:
    """Have downloads that the body starts made with the tenant's token, and checked against its certificates."""
    token = _requester.set(Requester(context, trusted_certs))
    try:
        yield
    finally:
        _requester.reset(token)


def read_image(context: Any, image_id: str) -> Image:
    """Read an image with every property.

    The ``ImageMeta`` that Nova hands to a driver keeps only the properties that Nova knows, so ``docker_*`` and
    ``os_command_line`` have to be read from Glance itself.

    Raises:
        exception.ImageNotFound: the image is gone, or the tenant may not see it.
    """
    record = glance.API().get(context, image_id)
    properties = {name: str(value) for name, value in (record.get("properties") or {}).items() if value is not None}
    size = record.get("size")
    return Image(
        id=str(record["id"]),
        name=record.get("name") or str(record["id"]),
        checksum=properties.get("os_hash_value") or record.get("checksum"),
        size=int(size) if size is not None else None,
        disk_format=record.get("disk_format"),
        container_format=record.get("container_format"),
        properties=properties,
    )


def download_image(image: Image) -> Iterable[bytes]:
    """Stream an image's data; its signature is verified first where the operator or the tenant asks for it.

    Must be called inside ``reading_as``.

    Raises:
        exception.ImageNotFound: the image is gone, or the tenant may not see it.
        exception.ImageUnacceptable: it has no data.
    """
    requester = _requester.get()
    if requester.trusted_certs or CONF.glance.verify_glance_signatures:
        return _download_verified(image, requester)
    chunks: Iterable[bytes] = glance.API().download(requester.context, image.id)
    return chunks


def _download_verified(image: Image, requester: Requester) -> Iterator[bytes]:
    """Go over an unnamed file: Nova's verification reads the whole stream and then returns it spent."""
    with tempfile.TemporaryFile(dir=CONF.docker.state_directory) as data:
        glance.API().download(requester.context, image.id, data=data, trusted_certs=requester.trusted_certs)
        data.seek(0)
        while chunk := data.read(CHUNK):
            yield chunk
