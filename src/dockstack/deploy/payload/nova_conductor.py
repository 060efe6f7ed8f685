# SPDX-License-Identifier: Apache-2.0
"""Nova's conductor, which also ends the builds that nobody works on any more; runs in the services' environment.

The API accepts a server and hands it on in two messages: to a conductor, and from there to a host. If one of them dies,
with its reader or with the message bus, the server stands in BUILD for ever. No host can see that: until a host has
taken it, a server is in the API's database or names no host, so that nova-compute's [DEFAULT] instance_build_timeout
passes it over. The conductor has all of Nova's databases, so here such servers are found. They end as servers do that
could not be built: in ERROR, with a fault that says why, and with nothing left in Placement.

In a cloud of one's own: run this in the place of nova-conductor, with the same options
(``python -m dockstack.deploy.payload.nova_conductor --config-file /etc/nova/nova.conf``).
"""

from __future__ import annotations

# isort: off
from nova.cmd import conductor  # first: it decides on the kind of threads
# isort: on

import itertools
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import nova.conf
from nova import context as contexts
from nova import exception, objects, service
from nova.compute import task_states, vm_states
from nova.conductor import manager
from oslo_log import log as logging
from oslo_service import periodic_task
from oslo_utils import timeutils

if TYPE_CHECKING:
    from collections.abc import Iterator

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

INTERVAL = 60  # seconds
PATIENCE = 600  # seconds, unless instance_build_timeout says another; a message that takes longer is lost


class Manager(manager.ConductorManager):
    """Nova's own, with one more periodic task."""

    @periodic_task.periodic_task(spacing=INTERVAL)
    def end_lost_builds(self, context: Any) -> None:
        """End the builds whose message was lost."""
        for _ in end_lost_builds(context, self.compute_task_mgr, CONF.instance_build_timeout or PATIENCE):
            pass


def end_lost_builds(context: Any, tasks: Any, patience: int) -> Iterator[str]:
    """End the builds that no host has taken for too long; yield each one's uuid.

    Args:
        context: an administrator's.
        tasks: Nova's ``ComputeTaskManager``, whose own ways of giving up a build are used.
        patience: seconds.
    """
    for find in (_end_unread_requests, _end_untaken):
        for lost in find(context, tasks, patience):
            LOG.warning("Nobody has worked on its build for %s s: ended it", patience, instance_uuid=lost)
            yield lost


def _end_unread_requests(context: Any, tasks: Any, patience: int) -> Iterator[str]:
    """End the requests that no conductor has read to the end."""
    for request in objects.BuildRequestList.get_all(context):
        if not timeutils.is_older_than(request.created_at, patience):
            continue
        try:
            _end_request(context, tasks, request)
        except exception.NotFound as error:  # its user deletes it meanwhile, or another conductor was faster
            LOG.info("Its build ended by itself: %s", error, instance_uuid=request.instance_uuid)
        else:
            yield request.instance_uuid


def _end_request(context: Any, tasks: Any, request: Any) -> None:
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, request.instance_uuid)
    cell = mapping.cell_mapping or _find_cell(context, request.instance_uuid)
    if cell is not None:  # the conductor died after it had made the record, which is looked at next
        mapping.cell_mapping = cell
        mapping.save()
        request.destroy()
        return
    specification = objects.RequestSpec.get_by_instance_uuid(context, request.instance_uuid)
    with _lost(request.instance_uuid) as error:
        tasks._bury_in_cell0(  # noqa: SLF001 - as Nova does with a server that no host can take
            context,
            specification,
            error,
            build_requests=[request],
            block_device_mapping=_unsaved(context, request.block_device_mappings),
            tags=request.tags,
        )
    _free(context, tasks, request.instance_uuid)


def _unsaved(context: Any, devices: Any) -> Any:
    """Return a request's block devices as the API sends them: with a context, and with each field still to be saved."""
    made = [
        type(device)(context, **{name: getattr(device, name) for name in device.obj_fields if _is_told(device, name)})
        for device in devices
    ]
    return type(devices)(context, objects=made)


def _is_told(device: Any, name: str) -> bool:
    return name != "id" and bool(device.obj_attr_is_set(name))


def _find_cell(context: Any, instance_uuid: str) -> Any:
    """Find the cell that has a server which is in no cell as far as the API knows."""
    for cell in _cells(context):
        with contexts.target_cell(context, cell) as inside:
            try:
                objects.Instance.get_by_uuid(inside, instance_uuid, expected_attrs=[])
            except exception.InstanceNotFound:
                continue
            return cell
    return None


def _end_untaken(context: Any, tasks: Any, patience: int) -> Iterator[str]:
    """End the builds that a conductor has handed on, but no host has taken."""
    building = {"vm_state": vm_states.BUILDING, "deleted": False}
    for cell in _cells(context):
        with contexts.target_cell(context, cell) as inside:
            for instance in objects.InstanceList.get_by_filters(inside, building, expected_attrs=[]):
                since = instance.updated_at or instance.created_at
                if instance.host is None and timeutils.is_older_than(since, patience):
                    yield from _end_one(context, inside, tasks, instance)


def _end_one(context: Any, inside: Any, tasks: Any, instance: Any) -> Iterator[str]:
    instance.vm_state, instance.task_state = vm_states.ERROR, None
    try:
        specification = objects.RequestSpec.get_by_instance_uuid(context, instance.uuid)
        instance.save(expected_vm_state=[vm_states.BUILDING], expected_task_state=[task_states.SCHEDULING, None])
    except (exception.InstanceUpdateConflict, exception.NotFound):
        return  # a host has taken it at this moment, or it was deleted
    updates = {"vm_state": vm_states.ERROR, "task_state": None}
    with suppress(exception.InstanceNotFound), _lost(instance.uuid) as error:
        tasks._create_instance_action_for_cell0(inside, instance, error)  # noqa: SLF001 - whichever cell
        tasks._set_vm_state_and_notify(  # noqa: SLF001
            inside, instance.uuid, "build_instances", updates, error, specification
        )
    _free(context, tasks, instance.uuid)
    yield instance.uuid


def _free(context: Any, tasks: Any, instance_uuid: str) -> None:
    """Give back what the scheduler had claimed for a server that is not built."""
    tasks.report_client.delete_allocation_for_instance(context, instance_uuid, force=True)


@contextmanager
def _lost(instance_uuid: str) -> Iterator[Exception]:
    """Give the error that a lost build ends with; it is under way meanwhile, as Nova reads its traceback."""
    reason = (
        "the message by which it was to be built was lost, with a service that was stopped or with the message bus. "
        "Delete the server and create it again."
    )
    try:
        raise exception.BuildAbortException(instance_uuid=instance_uuid, reason=reason)  # noqa: TRY301 - that is all
    except exception.BuildAbortException as error:
        yield error


def _cells(context: Any) -> Iterator[Any]:
    """List the cells that have hosts."""
    cells = objects.CellMappingList.get_all(context)
    return itertools.filterfalse(lambda cell: cell.is_cell0(), cells)


def main() -> None:
    """Run the conductor, under Nova's own name for it in logs and reports."""
    sys.argv[0] = "nova-conductor"
    service.SERVICE_MANAGERS["nova-conductor"] = f"{Manager.__module__}.{Manager.__name__}"
    conductor.main()


if __name__ == "__main__":
    main()
