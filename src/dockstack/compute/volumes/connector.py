# SPDX-License-Identifier: Apache-2.0
"""How this host reaches a volume: os-brick makes what Cinder says of it a file or a block device of the host."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.compute.model import Volume

_ROOT_HELPER = "sudo"  # what os-brick runs as root goes by its own privsep context
_HOST_DIGITS = 16
_LOCAL, _RBD = "local", "rbd"
_SHARES = ("nfs", "glusterfs", "quobyte", "scality", "vzstorage")  # a volume is a file of what is mounted
SHARES_DIRECTORY = "/var/lib/nova/mnt"  # where Nova's other drivers have them, too


class Unreachable(DockstackError):  # noqa: N818 - said of the volume
    """This host cannot reach a volume."""


def tag(host_name: str) -> str:
    """Return the digits that tell this host from others of one machine in the labels of its loop devices."""
    return hashlib.sha256(host_name.encode()).hexdigest()[:_HOST_DIGITS]


def describe_host(host_name: str, address: str) -> dict[str, Any]:
    """Tell Cinder by which ways this host can reach volumes."""
    from os_brick.initiator import connector  # noqa: PLC0415 - see _find

    found = connector.get_connector_properties(
        _ROOT_HELPER, address, multipath=False, enforce_multipath=False, host=host_name
    )
    return dict(found)


def connect(volume: Volume) -> str:
    """Make a volume a file or a block device of this host, and return its path; again is fine.

    Raises:
        Unreachable: that cannot be done.
    """
    try:
        path = str(_find(volume).connect_volume(dict(volume.connection))["path"])
    except Exception as error:  # os-brick's errors have no common base
        raise Unreachable(
            f"Volume {volume.id} cannot be had on this host ({volume.protocol or 'no protocol'}): {error}.",
            "See docs/volumes.md for what a host's kernel must be able to do, and cinder-volume's log.",
        ) from error
    return path


def disconnect(volume: Volume) -> None:
    """Take a volume off this host; absent is success.

    Raises:
        Unreachable: that cannot be done.
    """
    try:
        _find(volume).disconnect_volume(dict(volume.connection), None)
    except Exception as error:
        raise Unreachable(f"Volume {volume.id} cannot be taken off this host: {error}.", "Detach it again.") from error


def grow(volume: Volume) -> None:
    """Have this host see that a volume has become larger; a file is as large as it is.

    Raises:
        Unreachable: that cannot be done.
    """
    if volume.protocol in (_LOCAL, *_SHARES):
        return
    try:
        _find(volume).extend_volume(dict(volume.connection))
    except Exception as error:
        raise Unreachable(
            f"Volume {volume.id} does not grow on this host: {error}.", "Detach and attach it."
        ) from error


def _find(volume: Volume) -> Any:
    """Return os-brick's connector. Its import takes long, and most hosts' servers never have a volume."""
    from os_brick.initiator import connector  # noqa: PLC0415

    more: dict[str, Any] = {}
    if volume.protocol == _RBD:
        more["do_local_attach"] = True  # else it gives no device
    if volume.protocol in _SHARES:
        more["conn"] = {
            **volume.connection,
            "mount_point_base": SHARES_DIRECTORY,
        }  # Cinder says where it has them itself
    return connector.InitiatorConnector.factory(volume.protocol, _ROOT_HELPER, **more)
