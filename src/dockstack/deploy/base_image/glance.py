# SPDX-License-Identifier: Apache-2.0
"""Upload images to Glance, once for the same content.

A new image is uploaded under an interim name and gets its own name when it is complete, so that there is a working
image at every moment. The image that it replaces is renamed and hidden, not deleted, because servers were booted from
it. A killed upload is completed by the next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions as keystone_errors
from openstack import exceptions as sdk_errors

from dockstack.deploy.base_image import base
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[int, int], None]  # bytes sent, bytes in all

INTERIM = ".incoming"
_CHUNK = 1 << 20
_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
_DATA = {"Content-Type": "application/octet-stream"}
# the specification's (Go's) architectures in Nova's words (nova/objects/fields.py: Architecture)
_NOVA_ARCHITECTURES = {"amd64": "x86_64", "386": "i686", "arm64": "aarch64", "arm": "armv7l"}


@dataclass(frozen=True)
class Upload:
    """What goes into Glance.

    Attributes:
        size: of the data, in bytes.
        open: starts reading the data from its first byte.
        architecture: the specification's name ("amd64"); empty: runs anywhere.
        min_disk: GiB that a flavor's disk must have.
        min_ram: MiB that a flavor must have.
        container_format: Glance's word for what the data are.
    """

    name: str
    size: int
    open: Callable[[], Iterable[bytes]]
    architecture: str = ""
    public: bool = False
    min_disk: int = 0
    min_ram: int = 0
    container_format: str = "docker"
    properties: dict[str, str] = field(default_factory=dict)

    def digest(self, algorithm: str) -> str:
        """Compute the data's digest, as Glance will."""
        state = hashlib.new(algorithm)
        for chunk in self.open():
            state.update(chunk)
        return state.hexdigest()

    def record(self) -> dict[str, Any]:
        """Build the image record that Nova's scheduler and driver understand."""
        architecture = _NOVA_ARCHITECTURES.get(self.architecture, self.architecture)
        return {
            "container_format": self.container_format,
            "disk_format": "raw",
            "visibility": "public" if self.public else "private",
            "min_disk": self.min_disk,
            "min_ram": self.min_ram,
            "img_hv_type": "docker",
            "hw_vm_mode": "exe",
            **({"hw_architecture": architecture} if architecture else {}),
            **self.properties,
        }


@dataclass(frozen=True)
class Imported:
    """What an import came to."""

    id: str
    name: str
    uploaded: bool  # False: Glance had the same content under this name already
    replaced: tuple[str, ...] = ()  # ids of the images that had the name before; hidden now


def of_file(path: Path, **more: Any) -> Upload:
    """Describe a file to upload; see ``Upload`` for the keywords."""

    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    return Upload(size=path.stat().st_size, open=read, **more)


def import_base(connection: Any, progress: Progress | None = None) -> Imported:
    """Build the base image and put it into Glance for everybody, unless it is there already.

    Args:
        connection: an openstack.connection.Connection that may make public images.
        progress: called while data is sent.

    Raises:
        DockstackError: the packages cannot be had, or Glance refuses.
    """
    return import_image(connection, base_upload(), progress)


def base_upload(archive: Path | None = None) -> Upload:
    """Build the base image, or take the archive of one that was built before.

    Raises:
        DockstackError: the packages cannot be had.
    """
    about: dict[str, Any] = {"name": base.NAME, "public": True, "properties": {"os_admin_user": base.USER}}
    if archive is not None:
        return of_file(archive, architecture=base.platform().architecture, **about)
    image = base.build()
    return Upload(
        size=image.size(), open=image.archive, architecture=image.configuration.platform.architecture, **about
    )


def alias(upload: Upload, name: str) -> Upload:
    """Describe the same image under a name that programs look for; its description says what it is."""
    description = f"This is {upload.name} under another name."
    return replace(upload, name=name, properties={**upload.properties, "description": description})


def import_image(connection: Any, upload: Upload, progress: Progress | None = None) -> Imported:
    """Put an image into Glance, unless it has the same content under that name.

    Args:
        connection: an openstack.connection.Connection; the image will belong to its project.
        upload: what to put there.
        progress: called while data is sent.

    Raises:
        DockstackError: Glance is not there or refuses.
    """
    try:
        glance = _Glance(connection)
        named = glance.images(upload.name)
        same = _same_content(named, upload)
        if same is not None:
            glance.change(same["id"], visibility=upload.record()["visibility"])
            return Imported(same["id"], upload.name, uploaded=False)
        image_id, sent = _incoming(glance, upload, progress)
        for image in named:
            glance.change(image["id"], name=_former_name(image), os_hidden=True)
        glance.change(image_id, name=upload.name)
    except (sdk_errors.SDKException, keystone_errors.ClientException) as error:
        raise DockstackError(
            "The image service does not answer.", "Look at `dockstack status`, or name another cloud.", str(error)
        ) from error
    return Imported(image_id, upload.name, sent, tuple(image["id"] for image in named))


def _incoming(glance: _Glance, upload: Upload, progress: Progress | None) -> tuple[str, bool]:
    """Return a complete image under the interim name, one that a killed run uploaded or a new one."""
    interim = upload.name + INTERIM
    left = glance.images(interim)
    whole = _same_content(left, upload)
    for image in left:
        if image is not whole:
            glance.delete(image["id"])
    if whole is not None:
        return whole["id"], False
    image_id = glance.create({"name": interim} | upload.record())
    try:
        glance.send(image_id, _Body(upload, progress))
        _require_same(glance.image(image_id), upload)
    except BaseException:
        glance.delete(image_id)
        raise
    return image_id, True


def _require_same(image: dict[str, Any], upload: Upload) -> None:
    if _same_content([image], upload) is None:
        raise DockstackError(
            f"Glance stored image {upload.name} differently from what was sent.",
            "Look at Glance's log and at the disk that it stores to.",
        )


def _same_content(images: list[dict[str, Any]], upload: Upload) -> dict[str, Any] | None:
    for image in images:
        algorithm = image.get("os_hash_algo")
        if image.get("status") != "active" or image.get("size") != upload.size or not algorithm:
            continue
        if upload.digest(algorithm) == image.get("os_hash_value"):
            return image
    return None


def _former_name(image: dict[str, Any]) -> str:
    return f"{image['name']}.{image['created_at'][:10]}.{image['id'][:8]}"


class _Body:
    """The data as a request's body with a length, because servers may limit chunked bodies."""

    def __init__(self, upload: Upload, progress: Progress | None) -> None:
        """Read nothing yet."""
        self._upload = upload
        self._progress = progress

    def __len__(self) -> int:
        return self._upload.size

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for chunk in self._upload.open():
            yield chunk
            sent += len(chunk)
            if self._progress is not None:
                self._progress(sent, self._upload.size)


class _Glance:
    """The few calls of the Image API v2 that an import needs; images of the caller's own project only."""

    def __init__(self, connection: Any) -> None:
        """Use the connection's session."""
        self._api = connection.image
        self._project = connection.current_project_id

    def images(self, name: str) -> list[dict[str, Any]]:
        """List the project's images of that name, the newest first."""
        query = {"name": name, "owner": self._project, "sort": "created_at:desc", "limit": "1000"}
        found: list[dict[str, Any]] = self._checked(self._api.get("/images", params=query)).json()["images"]
        return [image for image in found if image["name"] == name]

    def image(self, image_id: str) -> dict[str, Any]:
        """Describe an image."""
        found: dict[str, Any] = self._checked(self._api.get(f"/images/{image_id}")).json()
        return found

    def create(self, record: dict[str, Any]) -> str:
        """Make a record without data."""
        return str(self._checked(self._api.post("/images", json=record)).json()["id"])

    def send(self, image_id: str, body: _Body) -> None:
        """Upload the data; Glance hashes it and turns the image active."""
        self._checked(self._api.put(f"/images/{image_id}/file", data=body, headers=_DATA))

    def change(self, image_id: str, **values: Any) -> None:
        """Replace members of the record."""
        changes = [{"op": "replace", "path": f"/{key}", "value": value} for key, value in values.items()]
        self._checked(self._api.patch(f"/images/{image_id}", json=changes, headers=_PATCH))

    def delete(self, image_id: str) -> None:
        """Remove an image; absent is success."""
        answer = self._api.delete(f"/images/{image_id}")
        if answer.status_code != HTTPStatus.NOT_FOUND:
            self._checked(answer)

    @staticmethod
    def _checked(answer: Any) -> Any:
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        if answer.status_code == HTTPStatus.FORBIDDEN:
            advice = "Only an administrator may make an image public: leave --public out, or use an admin's cloud."
        elif answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            advice = "Delete images that are not needed, or ask for a larger quota."
        else:
            advice = "Look at `dockstack logs glance`."
        raise DockstackError(f"Glance refused with status {answer.status_code}.", advice, answer.text[:2000])
