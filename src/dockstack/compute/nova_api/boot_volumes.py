# SPDX-License-Identifier: Apache-2.0
"""Which image a server is made of that boots from a volume: Nova does not say it, but Cinder notes it of the volume.

The volume's owner can change that note. So it counts as a request of the server's project: an administrator, who may
see every image, reads none for a server that its project could not have booted itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova import exception
from nova.volume import cinder

from dockstack.compute.model import Image
from dockstack.compute.nova_api import glance, servers
from dockstack.compute.nova_api.volumes import read_volumes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.compute.model import Volume


def read_image(context: Any, instance: Any, volumes: Iterable[Volume] | None = None) -> Image:
    """Read the image that a server is made of.

    Args:
        context: the requester's, or an administrator's.
        instance: the server.
        volumes: those that Nova says it has; it is asked if it has not.

    Raises:
        exception.ImageNotFound: the image of a server that boots from none is gone, or hidden from the requester.
        exception.BuildAbortException: the volume that it boots from is shared, was made of no image, or of one that is
            gone or hidden from the server's project; no other host could help.
    """
    root = _find_root(instance, volumes)
    if root is None:
        image_id = str(instance.image_ref or "")
        return glance.read_image(context, image_id, returning=servers.is_returning(instance))
    image_id = _read_image_id(context, instance, root)
    try:
        return glance.read_image_for(context, image_id, instance.project_id)
    except (exception.ImageNotFound, exception.ImageNotAuthorized) as error:
        reason = (  # Nova keeps 255 characters of it
            f"image {image_id} of its root volume is gone, or hidden from its project. Share it, or correct the volume "
            "(openstack volume set --image-property image_id=ID VOLUME)."
        )
        raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=reason) from error


def find_image(context: Any, instance: Any, volumes: Iterable[Volume] | None = None) -> Image | None:
    """Read the image that a server is made of; None where nobody gives it, as a server that is here can do without."""
    try:
        return read_image(context, instance, volumes)
    except (exception.ImageNotFound, exception.ImageNotAuthorized, exception.BuildAbortException):
        return None


def find_or_name_image(context: Any, instance: Any, volumes: Iterable[Volume] | None = None) -> Image:
    """Read as ``find_image``; else return a name alone for the image that came with the server from another host.

    That is the image's id, or the id of the volume that it boots from: nobody may choose the name of another's image.
    """
    found = find_image(context, instance, volumes)
    if found is not None:
        return found
    root = _find_root(instance, volumes)
    return Image(id=root.id if root is not None else str(instance.image_ref or ""), name="")


def _find_root(instance: Any, volumes: Iterable[Volume] | None) -> Volume | None:
    found = read_volumes(instance.uuid) if volumes is None else volumes
    return next((volume for volume in found if volume.is_root), None)


def _read_image_id(context: Any, instance: Any, root: Volume) -> str:
    volume = cinder.API().get(context, root.id)
    image_id = (volume.get("volume_image_metadata") or {}).get("image_id")
    shared = (
        f"volume {root.id} may be attached to several servers, and the root file system of one is no other's. "
        "Boot from a volume whose type has no multiattach."
    )
    silent = (
        f"volume {root.id} was made of no image, so nothing says what to run. Make it of an image of a container "
        "(openstack volume create --image), or of a snapshot of such a volume."
    )
    if volume.get("multiattach") or not image_id:
        reason = shared if volume.get("multiattach") else silent
        raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=reason)
    return str(image_id)
