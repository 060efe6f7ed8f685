# SPDX-License-Identifier: Apache-2.0
"""Nova's moves of a server: a resize or a cold migration, until it is confirmed or reverted."""

from __future__ import annotations

from typing import Any

from nova import exception, objects
from nova.compute import task_states

from dockstack.compute.model import Destination
from dockstack.compute.nova_api import limits, security_profile


def refuse_unsupported(instance: Any, flavor: Any) -> None:
    """Refuse to move a server with what cannot be moved yet, or to give it that.

    Raises:
        exception.ResizeError: naming it and what to do instead.
    """
    if flavor.ephemeral_gb or instance.flavor.ephemeral_gb:
        raise exception.ResizeError(
            reason="ephemeral disks of servers on Docker hosts neither move nor change. Keep what is needed elsewhere, "
            "and make the server anew."
        )


def with_flavor(instance: Any, flavor: Any) -> Any:
    """Return the instance as it would be with another flavor; Nova's own object stays what it is.

    Raises:
        exception.BuildAbortException: the flavor says something that we do not understand.
    """
    wished = instance.obj_clone()
    wished.flavor = flavor
    security_profile.refuse_unreadable(wished)
    limits.refuse_unreadable(wished)
    return wished


def find_destination(context: Any, instance: Any, address: str, here: Destination) -> Destination | None:
    """Name the host that Nova wants a server to move to; None if it is this one.

    Args:
        context: Nova's.
        instance: a ``nova.objects.Instance`` that is being resized or migrated.
        address: the destination's, as Nova gives it.
        here: this host.
    """
    if instance.migration_context is None:
        return None if address == here.address else Destination(address, address)
    migration = objects.Migration.get_by_id(context, instance.migration_context.migration_id)
    return other_end(migration, here.name)


def other_end(migration: Any, here: str) -> Destination | None:
    """Name the destination of a move; None if it is this host."""
    return None if migration.dest_compute == here else Destination(migration.dest_compute, migration.dest_host)


def half_sent(migration: Any, here: str) -> Destination | None:
    """Name the host that may still hold what was sent to it, because the move was broken off; None if there is none."""
    return other_end(migration, here) if migration.status == "migrating" else None


def stays_here(context: Any, instance: Any) -> bool:
    """Whether Nova "destroys" a server only to give it back its old flavor on this very host.

    When a resize is reverted, Nova has the destination destroy its new server before the source starts the old one. On
    one host both are the same container.
    """
    if instance.task_state != task_states.RESIZE_REVERTING or instance.migration_context is None:
        return False
    migration = objects.Migration.get_by_id(context, instance.migration_context.migration_id)
    return bool(migration.source_compute == migration.dest_compute)
