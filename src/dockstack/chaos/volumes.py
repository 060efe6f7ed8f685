# SPDX-License-Identifier: Apache-2.0
"""A server's volume: what is done to it, what Cinder says of it, and its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.chaos.cloud import Refused, ask
from dockstack.chaos.model import Volume
from dockstack.verify.model import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.chaos.means import Means

READY_SECONDS = 60.0
LARGEST = 4  # GB
OURS = f"{PREFIX}chaos-"


def attach(connection: Any, means: Means, server: Any) -> None:
    """Attach a server's volume, which is made first if there is none.

    Raises:
        Refused: it does not come to be.
    """
    volume = _find(connection, means, server)
    if volume is None:
        volume = connection.block_storage.create_volume(name=_name(means, server), size=1)
    if not _wait(lambda: connection.block_storage.get_volume(volume.id).status == "available"):
        raise Refused("Its volume is not available.")
    connection.compute.create_volume_attachment(server.id, volume)


def detach(connection: Any, means: Means, server: Any) -> None:
    """Detach it."""
    connection.compute.delete_volume_attachment(server.id, _must(connection, means, server), ignore_missing=False)


def extend(connection: Any, means: Means, server: Any) -> None:
    """Make it larger, up to a bound."""
    volume = _must(connection, means, server)
    if volume.size >= LARGEST:
        raise Refused("It is large enough.")
    connection.block_storage.extend_volume(volume, volume.size + 1)


def snapshot(connection: Any, means: Means, server: Any) -> None:
    """Make a snapshot, wait until it is complete or Cinder gave up, and remove it."""
    block_storage = connection.block_storage
    volume = _must(connection, means, server)
    made = block_storage.create_snapshot(volume_id=volume.id, name=volume.name, is_forced=True)
    _wait(lambda: block_storage.get_snapshot(made.id).status != "creating")
    ask(lambda: block_storage.delete_snapshot(made.id, ignore_missing=True))


def read(connection: Any) -> tuple[Volume, ...]:
    """Return what Cinder says of the volumes of such runs."""
    found = ask(lambda: list(connection.block_storage.volumes(all_projects=True)))
    return tuple(
        Volume(each.id, each.status, frozenset(attachment["server_id"] for attachment in each.attachments or ()))
        for each in found
        if (each.name or "").startswith(OURS)
    )


def delete_all(connection: Any, means: Means, seconds: float) -> list[str]:
    """Delete a run's volumes with their snapshots, asking again as long as they are there; return those that stay."""
    block_storage = connection.block_storage
    deadline = time.monotonic() + seconds
    while True:
        left = [each for each in ask(lambda: list(block_storage.volumes())) if _is_of(means, each)]
        if not left or time.monotonic() > deadline:
            return [each.id for each in left]
        for snapshot_left in ask(lambda: [each for each in block_storage.snapshots() if _is_of(means, each)]):
            _try(block_storage.delete_snapshot, snapshot_left.id)
        for each in left:
            _try(block_storage.delete_volume, each.id)
        time.sleep(2)


def _try(delete: Callable[..., object], identity: str) -> None:
    try:
        ask(lambda: delete(identity, ignore_missing=True))
    except sdk_errors.HttpException:
        return  # it is being worked on: the next round will do


def _is_of(means: Means, each: Any) -> bool:
    return (each.name or "").startswith(OURS) and each.name.endswith(means.token)


def _name(means: Means, server: Any) -> str:
    return means.name(f"volume-{server.id[:8]}")


def _find(connection: Any, means: Means, server: Any) -> Any:
    return next(iter(connection.block_storage.volumes(name=_name(means, server))), None)


def _must(connection: Any, means: Means, server: Any) -> Any:
    volume = _find(connection, means, server)
    if volume is None:
        raise Refused("It has no volume.")
    return volume


def _wait(ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if ask(ready):
            return True
        time.sleep(1)
    return False
