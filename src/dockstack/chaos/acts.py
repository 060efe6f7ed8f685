# SPDX-License-Identifier: Apache-2.0
"""Carry out one decision on one server, as a user or an administrator would ask for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.chaos import diary, volumes
from dockstack.chaos.cloud import Refused, ask, doing, look, settle
from dockstack.chaos.model import Action
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.chaos.means import Means

IMAGE_SECONDS = 180.0
PLAIN = {
    Action.STOP: "stop_server",
    Action.START: "start_server",
    Action.PAUSE: "pause_server",
    Action.UNPAUSE: "unpause_server",
    Action.SUSPEND: "suspend_server",
    Action.RESUME: "resume_server",
    Action.SHELVE: "shelve_server",
    Action.UNSHELVE: "unshelve_server",
    Action.CONFIRM: "confirm_server_resize",
    Action.REVERT: "revert_server_resize",
    Action.RESCUE: "rescue_server",
    Action.UNRESCUE: "unrescue_server",
}


def create(connection: Any, means: Means, name: str) -> str:
    """Ask for a server; return its id, also where the answer was lost and the server is there.

    Raises:
        Refused: the cloud says no.
        DockstackError: nobody knows of it.
    """
    try:
        with doing():
            server = connection.compute.create_server(
                name=name,
                image_id=means.image_id,
                flavor_id=means.flavors[0],
                networks=[{"uuid": means.network_id}],
                security_groups=[{"name": means.group}],
                metadata=diary.METADATA,
            )
    except Refused:
        raise
    except DockstackError:
        found = ask(lambda: list(connection.compute.servers(name=f"^{name}$")))
        if not found:
            raise
        server = found[0]
    return str(server.id)


def act(connection: Any, means: Means, action: Action, server: Any) -> None:
    """Ask for an action on a server that is there; its end is not waited for.

    Raises:
        Refused: the cloud says no.
        Unsure: the answer was lost.
    """
    with doing():
        if action in PLAIN:
            getattr(connection.compute, PLAIN[action])(server.id)
        else:
            SPECIAL[action](connection, means, server)


def _delete(connection: Any, means: Means, server: Any) -> None:
    del means
    connection.compute.delete_server(server.id)


def _reboot_soft(connection: Any, means: Means, server: Any) -> None:
    del means
    connection.compute.reboot_server(server.id, "SOFT")


def _reboot_hard(connection: Any, means: Means, server: Any) -> None:
    del means
    connection.compute.reboot_server(server.id, "HARD")


def _rebuild(connection: Any, means: Means, server: Any) -> None:
    connection.compute.rebuild_server(server.id, means.image_id, name=server.name)


def _resize(connection: Any, means: Means, server: Any) -> None:
    own = server.flavor["original_name"]
    others = [flavor for flavor in means.flavors if connection.compute.get_flavor(flavor).name != own]
    if not others:
        raise Refused("There is no other flavor with the same disk.")
    connection.compute.resize_server(server.id, others[0])


def _migrate(connection: Any, means: Means, server: Any) -> None:
    del means
    connection.compute.migrate_server(server.id)


def _attach(connection: Any, means: Means, server: Any) -> None:
    connection.compute.create_server_interface(server.id, net_id=means.network_id)


def _detach(connection: Any, means: Means, server: Any) -> None:
    del means
    ports = sorted(connection.network.ports(device_id=server.id), key=lambda port: (port.created_at, port.id))
    if len(ports) < 2:  # noqa: PLR2004 - the first stays
        raise Refused("It has no second interface.")
    connection.compute.delete_server_interface(ports[-1].id, server=server.id)


def _snapshot(connection: Any, means: Means, server: Any) -> None:
    """Make an image, wait until it is complete or Nova gave up, and remove it."""
    image = connection.compute.create_server_image(server.id, means.name(f"image-{server.id[:8]}"))
    deadline = time.monotonic() + IMAGE_SECONDS
    while time.monotonic() < deadline:
        found = ask(lambda: connection.image.find_image(image.id))
        if found is None or found.status == "active":
            break
        time.sleep(1)
    ask(lambda: connection.image.delete_image(image.id, ignore_missing=True))


def _recover(connection: Any, means: Means, server: Any) -> None:
    """Do what a person does with a server in ERROR."""
    del means
    connection.compute.reset_server_state(server.id, "active")
    connection.compute.reboot_server(server.id, "HARD")


SPECIAL: dict[Action, Callable[[Any, Means, Any], None]] = {
    Action.DELETE: _delete,
    Action.REBOOT_SOFT: _reboot_soft,
    Action.REBOOT_HARD: _reboot_hard,
    Action.REBUILD: _rebuild,
    Action.RESIZE: _resize,
    Action.MIGRATE: _migrate,
    Action.ATTACH: _attach,
    Action.DETACH: _detach,
    Action.SNAPSHOT: _snapshot,
    Action.VOLUME_ATTACH: volumes.attach,
    Action.VOLUME_DETACH: volumes.detach,
    Action.VOLUME_EXTEND: volumes.extend,
    Action.VOLUME_SNAPSHOT: volumes.snapshot,
    Action.RECOVER: _recover,
}


def delete_whatever_happens(connection: Any, server_id: str, seconds: float) -> bool:
    """Delete a server, asking again as long as it is there; return whether it is gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if look(connection, server_id) is None:
            return True
        try:
            ask(lambda: connection.compute.delete_server(server_id, ignore_missing=True))
        except sdk_errors.HttpException:
            time.sleep(1)
            continue
        settle_deadline = min(30.0, max(1.0, deadline - time.monotonic()))
        if settle(connection, server_id, settle_deadline) is None:
            return True
    return look(connection, server_id) is None
