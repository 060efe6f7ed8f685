# SPDX-License-Identifier: Apache-2.0
"""What Nova expects of a driver that rebuilds servers itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova.compute import task_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def leave_to_nova(bdms: Iterable[Any], *further: Any) -> None:
    """Leave a rebuild to Nova's own way, destroy and spawn, if it is more than a new root file system in its place.

    That way detaches and attaches volumes, refuses what no driver has (``preserve_ephemeral``), and is the right one on
    another host.

    Args:
        bdms: the server's block devices. That Nova asks for a boot volume to be written anew means nothing without one:
            by its API's version it asks so for every server.
        further: what else was asked for.

    Raises:
        NotImplementedError: Nova is to do it.
    """
    if any(further) or any(bdm.is_volume for bdm in bdms):
        raise NotImplementedError


def prepare_devices(context: Any, instance: Any, bdms: Any, attach: Callable[..., Any]) -> Any:
    """Take a rebuild through the task states that Nova's API knows, and return what ``spawn`` wants to know of disks.

    Args:
        context: the requester's.
        instance: whose.
        bdms: its block devices.
        attach: as Nova hands it to ``rebuild``.
    """
    instance.task_state = task_states.REBUILD_BLOCK_DEVICE_MAPPING
    instance.save(expected_task_state=[task_states.REBUILDING])
    devices = attach(context, instance, bdms)
    instance.task_state = task_states.REBUILD_SPAWNING
    instance.save(expected_task_state=[task_states.REBUILD_BLOCK_DEVICE_MAPPING])
    return devices
