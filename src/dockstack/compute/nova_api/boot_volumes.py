# SPDX-License-Identifier: Apache-2.0
"""Which image a server is made of that boots from a volume: Nova does not say it, but Cinder notes it of the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova import exception
from nova.volume import cinder

from dockstack.compute.nova_api.volumes import read_volumes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.compute.model import Volume


def find_image_id(context: Any, instance: Any, volumes: Iterable[Volume] | None = None) -> str:
    """Return the id of the image that a server is made of, or was.

    Args:
        context: the requester's, or an administrator's.
        instance: the server.
        volumes: those that Nova says it has; it is asked if it has not.

    Raises:
        exception.BuildAbortException: the volume that it boots from was made of no image, or is shared; no other host
            could help.
    """
    found = read_volumes(instance.uuid) if volumes is None else volumes
    root = next((volume for volume in found if volume.is_root), None)
    if root is None:
        return str(instance.image_ref or "")
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
