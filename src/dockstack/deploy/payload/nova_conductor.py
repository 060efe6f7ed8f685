# SPDX-License-Identifier: Apache-2.0
"""nova-conductor, and an end to builds that nobody is working on any more; runs in the services' environment.

A build is a chain of messages without answers: from the API to a conductor, from there to a compute node. Whoever takes
one off the bus has it alone, and the bus keeps none over its own death. If one of them dies with it, no part of Nova
looks for the server, and it says BUILD for ever. Here such a server gets a fault and goes to ERROR, as one does for
which there was no host. A message that comes late does no harm: a conductor passes over a request that is gone, a
compute node builds the server in spite of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nova import monkey_patch

monkey_patch.patch(backend="threading")  # as nova-conductor itself does, before anything else of Nova is loaded

from nova import context as nova_context  # noqa: E402
from nova import exception, objects  # noqa: E402
from nova.compute import utils, vm_states  # noqa: E402
from nova.conductor import manager  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from oslo_service import periodic_task  # noqa: E402
from oslo_utils import timeutils  # noqa: E402

if TYPE_CHECKING:
    import datetime as dt

LOG = logging.getLogger(__name__)

BINARY = "nova-conductor"
EVERY = 30  # seconds
FORGOTTEN = 180  # seconds: scheduling gives up after one minute, and a message waits for nobody who is alive


class BuildForgotten(exception.NovaException):
    """What the server's fault says."""

    msg_fmt = "The request to build this server was lost: a service of the cloud ended while it had it. Create it anew."


class Conductor(manager.ConductorManager):
    """Nova's own, with one more thing to do."""

    @periodic_task.periodic_task(spacing=EVERY)
    def end_forgotten_builds(self, context: Any) -> None:
        """Put servers in ERROR whose build no service has any more."""
        for request in objects.BuildRequestList.get_all(context):
            if is_forgotten(request.created_at):
                self._end_request(context, request)
        for cell in objects.CellMappingList.get_all(context):
            with nova_context.target_cell(context, cell) as inside:
                nowhere = {"vm_state": vm_states.BUILDING, "host": None, "deleted": False}
                for instance in objects.InstanceList.get_by_filters(inside, nowhere):
                    if is_forgotten(instance.updated_at or instance.created_at):
                        _end_instance(context, inside, cell, instance)

    def _end_request(self, context: Any, request: Any) -> None:
        """End a build that reached no cell, as Nova does if there is no host."""
        LOG.warning("No service works on this build any more", instance_uuid=request.instance_uuid)
        try:
            specification = objects.RequestSpec.get_by_instance_uuid(context, request.instance_uuid)
        except exception.RequestSpecNotFound:  # the server is being deleted
            return
        try:
            raise BuildForgotten  # noqa: TRY301 - as below
        except BuildForgotten as fault:  # what follows asks where it was raised
            self.compute_task_mgr._bury_in_cell0(  # noqa: SLF001 - what it does with a build without a host
                context, specification, fault, build_requests=[request]
            )


def _end_instance(context: Any, inside: Any, cell: Any, instance: Any) -> None:
    """End a build that reached a cell, but no compute node.

    Args:
        context: of the API's database.
        inside: of the cell's.
        cell: the cell.
        instance: the server in it.
    """
    mapping = objects.InstanceMapping.get_by_instance_uuid(context, instance.uuid)
    if mapping.cell_mapping is None:  # its request is still there, and ends first
        return
    if mapping.cell_mapping.uuid != cell.uuid:  # the request did: users see that one, and this is nobody's
        instance.destroy()
        return
    LOG.warning("No service works on this build any more", instance=instance)
    before = instance.task_state
    instance.vm_state, instance.task_state = vm_states.ERROR, None
    try:
        instance.save(expected_task_state=[before])
    except (exception.UnexpectedTaskStateError, exception.InstanceNotFound):  # somebody does
        return
    utils.add_instance_fault_from_exc(inside, instance, BuildForgotten())


def is_forgotten(since: dt.datetime) -> bool:
    """Whether a build has stood still for longer than anybody works on it."""
    return bool(timeutils.is_older_than(since.replace(tzinfo=None), FORGOTTEN))


def main() -> None:
    """Be nova-conductor, with its own arguments."""
    from nova import service  # noqa: PLC0415 - only the service needs it
    from nova.cmd import conductor  # noqa: PLC0415 - as above

    service.SERVICE_MANAGERS[BINARY] = f"{Conductor.__module__}.{Conductor.__name__}"
    conductor.main()


if __name__ == "__main__":
    main()
