# SPDX-License-Identifier: Apache-2.0
"""Reverts of resizes and migrations that were broken off, and what must happen for them to end.

A revert has two steps, and a message between them. The first removes the server from the destination, where there may
be nothing left, and says "reverted" of the migration (``ComputeManager.revert_resize``). The second, on the source,
begins by giving the server its old host and flavor back (``finish_revert_resize``). Until then Nova has the server at
the destination, and its files are at the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nova import exception, objects, servicegroup
from nova.compute import rpcapi, task_states
from oslo_log import log as logging

if TYPE_CHECKING:
    from typing import Any

LOG = logging.getLogger(__name__)

_MOVES = ("resize", "migration")
_BROKEN_OFF = ("reverting", "reverted", "error")


def go_on(context: Any, instance: Any) -> None:
    """Ask for the step of a server's revert that has not ended; its task must be that it is being reverted."""
    migration = _find_last(context, instance, ("reverting", "reverted"))
    if migration is None:
        LOG.error("A resize that is being reverted has no migration", instance_uuid=instance.uuid)
    elif migration.status == "reverted":
        if _is_up(context, migration.source_compute):  # else requests would pile up, and it can do one only
            _finish(context, instance, migration)
    else:
        request = objects.RequestSpec.get_by_instance_uuid(context, instance.uuid)
        rpcapi.ComputeAPI().revert_resize(context, instance, migration, migration.dest_compute, request)


def bring_back(context: Any, instance: Any) -> None:
    """Have the source of its last move, if there is one, take back a server of which its host has nothing.

    A move whose files came has been confirmed or waits for that; any other one left them at the source.

    Args:
        context: an administrator's.
        instance: with ``old_flavor``; no task. The host that Nova has it on has neither a container nor a part of it.
    """
    migration = _find_last(context, instance, None)
    if migration is None or migration.status not in _BROKEN_OFF or instance.old_flavor is None:
        return
    if migration.dest_compute != instance.host or migration.source_compute == instance.host:
        return
    if not _is_up(context, migration.source_compute):
        return
    LOG.warning("Its files are where it moved from, so the server returns there", instance_uuid=instance.uuid)
    instance.task_state = task_states.RESIZE_REVERTING
    try:
        instance.save(expected_task_state=[None])
    except (exception.UnexpectedTaskStateError, exception.InstanceNotFound):  # somebody asked for something meanwhile
        return
    _finish(context, instance, migration)


def _find_last(context: Any, instance: Any, states: tuple[str, ...] | None) -> Any:
    found = objects.MigrationList.get_by_filters(context, {"instance_uuid": instance.uuid})
    moves = (each for each in found if each.migration_type in _MOVES and (states is None or each.status in states))
    return max(moves, key=lambda each: each.id, default=None)


def _finish(context: Any, instance: Any, migration: Any) -> None:
    """Ask the source for the second step."""
    request = objects.RequestSpec.get_by_instance_uuid(context, instance.uuid)
    rpcapi.ComputeAPI().finish_revert_resize(context, instance, migration, migration.source_compute, request)


def _is_up(context: Any, host: str) -> bool:
    try:
        service = objects.Service.get_by_compute_host(context, host)
    except exception.ComputeHostNotFound:  # it was removed from the cloud
        return False
    return bool(servicegroup.API().service_is_up(service))
