# SPDX-License-Identifier: Apache-2.0
"""Images as Glance knows them, read whole, and their data as a stream."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import nova.conf
from cryptography.exceptions import InvalidSignature
from glanceclient.exc import HTTPForbidden, HTTPNotFound, HTTPUnauthorized
from nova import exception
from nova.compute import task_states
from nova.image import glance
from nova.objects import fields

from dockstack.compute.conf import image_limits
from dockstack.compute.model import Image
from dockstack.display import printable
from dockstack.oci.documents import ImageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dockstack.compute.model import Snapshot

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


def read_image(context: Any, image_id: str, *, returning: bool = False) -> Image:
    """Read an image with every property.

    The ``ImageMeta`` that Nova hands to a driver keeps only the properties that Nova knows, so ``docker_*`` and
    ``os_command_line`` have to be read from Glance itself.

    Args:
        context: the requester's.
        image_id: which.
        returning: it is what Nova kept of the very server that it is read for.

    Raises:
        exception.ImageNotFound: the image is gone, or the tenant may not see it.
    """
    return replace(_build_image(glance.API().get(context, image_id)), returning=returning)


def read_image_for(context: Any, image_id: str, project_id: str) -> Image:
    """Read an image that a project may see, whoever asks: an administrator could see every image.

    Args:
        context: the requester's, or an administrator's.
        image_id: which.
        project_id: the project.

    Raises:
        exception.ImageNotFound: the image is gone, or hidden from the project.
        exception.ImageNotAuthorized: the requester may not see it.
    """
    record = glance.API().get(context, image_id)
    if record.get("is_public") or record.get("owner") == project_id or _is_given(context, image_id, project_id):
        return _build_image(record)
    raise exception.ImageNotFound(image_id=image_id)


def download_image(image: Image) -> Iterable[bytes]:
    """Stream an image's data; its signature is verified first where the operator or the tenant asks for it.

    Must be called inside ``reading_as``.

    Raises:
        ImageRejected: it is larger than any that this host unpacks.
        exception.ImageNotFound: the image is gone, or the tenant may not see it.
        exception.ImageUnacceptable: it has no data.
    """
    requester = _requester.get()
    most = image_limits(CONF.docker).max_spooled_bytes
    if image.size is not None and image.size > most:
        raise _too_large(most)
    if verifies(requester.trusted_certs):
        return _download_verified(image, requester)
    chunks: Iterable[bytes] = glance.API().download(requester.context, image.id)
    return chunks


def verifies(trusted_certs: Any) -> bool:
    """Whether Nova verifies an image's signature: the operator wants it for all, or the tenant for a server."""
    options = CONF.glance
    by_default = options.enable_certificate_validation and options.default_trusted_certificate_ids
    return bool(trusted_certs or options.verify_glance_signatures or by_default)


def upload_snapshot(context: Any, image_id: str, update_task_state: Callable[..., None], taken: Snapshot) -> None:
    """Send a snapshot to the image that Nova has made for it.

    Nova inherits the base image's properties from records that keep 255 characters of each. Those that say how a server
    runs are therefore set anew, so that none is cut off in the middle.

    Args:
        context: the requester's.
        image_id: which image.
        update_task_state: tells Nova that the upload begins.
        taken: what to send.

    Raises:
        exception.ImageNotFound: somebody deleted the image meanwhile.
        exception.ImageUnacceptable: Glance did not take it as it was sent.
    """
    record = glance.API().get(context, image_id)
    inherited = record.get("properties") or {}
    properties = {name: value for name, value in taken.settings.items() if name in inherited}
    properties |= {
        "img_hv_type": fields.HVType.DOCKER,
        "hw_vm_mode": fields.VMMode.EXE,
        "hw_architecture": fields.Architecture.canonicalize(taken.architecture),
    }
    update_task_state(task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD)
    with closing(taken.archive()) as chunks:
        data = _Upload(chunks)
        wanted = {
            "container_format": "docker",
            "disk_format": "raw",
            "min_disk": max(int(record.get("min_disk") or 0), taken.disk_gb),
            "properties": properties,
        }
        stored = glance.API().update(context, image_id, wanted, data, purge_props=False)
    if not data.complete or stored.get("size") != data.count:
        reason = (
            f"Glance has {stored.get('size')} bytes of it and {data.count} were sent. Look at Glance's log; try again."
        )
        raise exception.ImageUnacceptable(image_id=image_id, reason=reason)


def _is_given(context: Any, image_id: str, project_id: str) -> bool:
    """Whether an image is everybody's who knows it, or shared with a project; what Nova reads of it does not say so."""
    ask = partial(glance.GlanceClientWrapper().call, context, 2, "get")
    try:
        visibility = ask(args=(image_id,))["visibility"]
        return visibility == "community" or (
            visibility == "shared" and bool(ask(controller="image_members", args=(image_id, project_id)))
        )
    except (HTTPForbidden, HTTPNotFound, HTTPUnauthorized):  # it has no such member, or the requester may not know
        return False


def _build_image(record: dict[str, Any]) -> Image:
    properties = {name: str(value) for name, value in (record.get("properties") or {}).items() if value is not None}
    size = record.get("size")
    return Image(
        id=str(record["id"]),
        name=printable(record.get("name") or record["id"]),
        checksum=properties.get("os_hash_value") or record.get("checksum"),
        size=int(size) if size is not None else None,
        disk_format=record.get("disk_format"),
        container_format=record.get("container_format"),
        properties=properties,
    )


class _Upload:
    """The file that Glance's client reads; it counts, because the client sends the rest when it tries again."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.count = 0
        self.complete = False
        self._chunks = chunks
        self._left = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end, none after it.

        An archive comes in pieces as small as a header. Sent as they come, each costs Glance more than its bytes do.
        """
        pieces: list[memoryview] = []
        missing = size
        while missing and self._has_some():
            piece, self._left = self._left[:missing], self._left[missing:]
            missing -= len(piece)
            pieces.append(piece)
        self.count += size - missing
        return b"".join(pieces)

    def _has_some(self) -> bool:
        while not self._left and not self.complete:
            chunk = next(self._chunks, None)
            self.complete = chunk is None
            self._left = memoryview(chunk or b"")
        return bool(self._left)


def _download_verified(image: Image, requester: Requester) -> Iterator[bytes]:
    """Download an image into an unnamed file, have Nova verify its signature, and then stream the file.

    Nova's verification reads all of the data, so a stream would be used up by it. Any tenant can ask for verification,
    so the file may not become larger than the image is said to be.
    """
    most = image_limits(CONF.docker).max_spooled_bytes
    with tempfile.TemporaryFile(dir=CONF.docker.state_directory) as data:
        bounded = _Bounded(data, most if image.size is None else image.size)
        try:
            glance.API().download(requester.context, image.id, data=bounded, trusted_certs=requester.trusted_certs)
        except InvalidSignature as error:  # which says nothing itself
            raise ImageRejected(
                f"The data of image {image.name} are not what its signature (img_signature) was made for.",
                "Sign and upload it again; if nobody changed it, look at Glance's store.",
            ) from error
        data.seek(0)
        while chunk := data.read(CHUNK):
            yield chunk


class _Bounded:
    """A file that Nova writes an image's data to, and that takes no more than the image has."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most
        self._left = most

    def write(self, data: bytes) -> None:
        """Append."""
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._most)
        self._file.write(data)

    def truncate(self, size: int) -> None:
        """Forget all: its signature is wrong."""
        self._file.truncate(size)


def _too_large(most: int) -> ImageRejected:
    return ImageRejected(
        f"The image's data are more than the {most} bytes that were expected of it, or that this host unpacks.",
        "Make it smaller, for one platform alone, or raise the host's limit ([docker] image_max_unpacked_mb).",
    )
