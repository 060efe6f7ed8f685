# SPDX-License-Identifier: Apache-2.0
"""Tasks of servers that nobody is working on any more: found, and brought to an end.

A request to a compute node is a message without an answer. Whoever takes it off the bus has it alone, and the bus keeps
none over its own death; what a nova-compute was doing when it died, nobody goes on with. Nova looks at some tasks when
its service starts, and at none later, so a server may say for ever that it is being suspended, and nothing can be asked
of it. Who works on a server is told by its events (``nova.compute.utils.EventReporter``): a compute node begins one
with each request, and ends it when it is done. Where the database or the conductors are away in that moment, the end is
written down nowhere, and neither is what the request failed with. So of its own events this process knows better: each
has a reporter, which lives for as long as the request is being worked on.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import nova.context
from nova import exception, objects
from nova.compute import rpcapi, task_states, vm_states
from nova.compute import utils as compute_utils
from oslo_log import log as logging
from oslo_utils import timeutils

from dockstack.compute.failures import isolated
from dockstack.compute.nova_api import reverts

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

LOG = logging.getLogger(__name__)

FORGOTTEN = 180  # seconds without a change: no message waits that long for a service that lives
ELSEWHERE = 300  # seconds that a step on another host may take, as a choice of a host or a claim there
_ACTIONS = 10  # how many of a server's last actions are looked at: a later one may have been refused meanwhile

_MOVES = (task_states.RESIZE_PREP, task_states.RESIZE_MIGRATING, task_states.RESIZE_MIGRATED, task_states.RESIZE_FINISH)


class TaskForgotten(exception.NovaException):  # type: ignore[misc] # Nova has no types
    """What the server's fault says."""

    msg_fmt = (
        "The compute service stopped during %(task)s, or failed and could not write that down. Nobody goes on with it, "
        "and nothing of the server was removed: reboot it with --hard."
    )


class BuildForgotten(exception.NovaException):  # type: ignore[misc] # Nova has no types
    """What the server's fault says of a build."""

    msg_fmt = "The build of this server failed, and its failure could not be written down. Create it anew."


def end_all(host: str, began: dt.datetime, is_busy: Callable[[str], bool]) -> None:
    """End the tasks of this host's servers that nobody is working on.

    What may be repeated and has no way back is begun again: a delete, as Nova's own start does, and a resize's revert,
    of which only the end tells where the server is. Another one that nobody has begun is taken back, so that it can be
    asked for again. Anything else brings the server to ERROR with a fault, as it does when it fails; so does a build
    whose failure Nova could not write down.

    Args:
        host: Nova's name of this host.
        began: when this process began to take requests, in UTC: no older event is of anybody who lives.
        is_busy: whether a flow is working on a server.
    """
    context = nova.context.get_admin_context()
    for instance in objects.InstanceList.get_by_host(context, host, expected_attrs=[]):
        if not _may_be_forgotten(instance):
            continue
        if is_busy(instance.uuid) or not _is_older(instance.updated_at or instance.created_at, FORGOTTEN):
            continue
        with isolated(f"ending {instance.task_state}, on which nobody works any more", instance.uuid):
            open_events = _list_open_events(context, instance)
            # Where the database was away when a build failed, the end of its event is not there either.
            alive = any(_is_alive(event, instance.uuid, host, began) for event in open_events)
            if instance.task_state is None or not alive:
                _end(context, instance, begun=bool(open_events))


def _may_be_forgotten(instance: Any) -> bool:
    """Tell whether it is ours to end what a server is said to be doing; Nova's own start ends all else."""
    if instance.vm_state == vm_states.BUILDING:  # without a task for the moment of a claim only
        return instance.task_state is None or instance.task_state in _BEGUN_AGAIN
    return instance.task_state not in (None, task_states.MIGRATING)


def _list_open_events(context: Any, instance: Any) -> list[Any]:
    actions = objects.InstanceActionList.get_by_instance_uuid(context, instance.uuid, limit=_ACTIONS)
    events = (event for each in actions for event in objects.InstanceActionEventList.get_by_action(context, each.id))
    return [event for event in events if event.finish_time is None]


def _is_alive(event: Any, server_uuid: str, host: str, began: dt.datetime) -> bool:
    if event.host != host:
        return not _is_older(event.start_time, ELSEWHERE)
    return event.start_time.replace(tzinfo=None) >= began and _is_reported(server_uuid, event.event)


def _is_reported(server_uuid: str, name: str) -> bool:
    """Whether this process is at work on a request: its reporter is referred to by that alone.

    Nova keeps no list of them, so they are looked for among all objects; that takes some tenths of a second, and is
    done only for a server that has stood still for minutes.
    """
    reporters = (each for each in gc.get_objects() if isinstance(each, compute_utils.EventReporter))
    return any(each.event_name == name and server_uuid in each.instance_uuids for each in reporters)


def _end(context: Any, instance: Any, *, begun: bool) -> None:
    task = instance.task_state
    LOG.warning("Nobody works on this server's task any more: %s", task or "build", instance_uuid=instance.uuid)
    if task in _BEGUN_AGAIN:
        _BEGUN_AGAIN[task](context, instance)
        return
    failed = begun or task is None or task in _MOVES
    if failed:
        instance.vm_state = vm_states.ERROR
    instance.task_state = None
    try:
        instance.save(expected_task_state=[task])
    except (exception.UnexpectedTaskStateError, exception.InstanceNotFound):  # somebody does
        return
    if failed:
        fault = TaskForgotten(task=task) if task else BuildForgotten()
        compute_utils.add_instance_fault_from_exc(context, instance, fault)


def _delete_again(context: Any, instance: Any) -> None:
    devices = objects.BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
    rpcapi.ComputeAPI().terminate_instance(context, instance, devices)


def _soft_delete_again(context: Any, instance: Any) -> None:
    rpcapi.ComputeAPI().soft_delete_instance(context, instance)


_BEGUN_AGAIN: dict[str, Callable[[Any, Any], None]] = {
    task_states.RESIZE_REVERTING: reverts.go_on,
    task_states.DELETING: _delete_again,
    task_states.SOFT_DELETING: _soft_delete_again,
}


def _is_older(since: dt.datetime, seconds: int) -> bool:
    return bool(timeutils.is_older_than(since.replace(tzinfo=None), seconds))
