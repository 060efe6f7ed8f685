# SPDX-License-Identifier: Apache-2.0
"""nova-conductor, and an end to what nobody is working on any more; runs in the services' environment.

A build is a chain of messages without answers: from the API to a conductor, from there to a compute node. Whoever takes
one off the bus has it alone, and the bus keeps none over its own death. If one of them dies with it, no part of Nova
looks for the server, and it says BUILD for ever. Here such a server gets a fault and goes to ERROR, as one does for
which there was no host.

A message may also come late, after its server was ended. A compute node then builds the server in spite of all. A
conductor would forget where the server's record is, as Nova takes a request that is gone for one that its user deleted:
the server would be listed for ever, and found by nobody. So it passes over such a request before it does anything.

Likewise with moves and shelved servers. A nova-compute that starts again takes the task from a server whose resize was
broken off, and leaves the migration as it was, which holds resources in Placement for ever; and no service takes the
task from a server that was about to leave its host or to come back to one.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from nova import monkey_patch

monkey_patch.patch(backend="threading")  # as nova-conductor itself does, before anything else of Nova is loaded

from nova import context as nova_context  # noqa: E402
from nova import exception, objects, servicegroup  # noqa: E402
from nova.compute import task_states, utils, vm_states  # noqa: E402
from nova.conductor import manager  # noqa: E402
from nova.scheduler import utils as scheduler_utils  # noqa: E402
from oslo_log import log as logging  # noqa: E402
from oslo_service import periodic_task  # noqa: E402
from oslo_utils import timeutils  # noqa: E402

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

LOG = logging.getLogger(__name__)

BINARY = "nova-conductor"
EVERY = 30  # seconds
FORGOTTEN = 180  # seconds: scheduling gives up after one minute, and a message waits for nobody who is alive


MOVING = ("pre-migrating", "migrating", "post-migrating", "confirming", "reverting")
ENDED = ("error", "failed", "confirmed", "reverted", "completed", "cancelled")
MOVES = ("resize", "migration")
UNSETTLED = (vm_states.BUILDING, vm_states.SHELVED_OFFLOADED, vm_states.DELETED, vm_states.RESIZED)
OF_A_NODE = ("VCPU", "PCPU", "MEMORY_MB")  # classes that no other provider has
# Set by whoever asks, and kept only until a compute node begins, which takes seconds; with what may be asked for then.
BEFORE_THE_BEGINNING = (task_states.UNSHELVING, task_states.SHELVING_OFFLOADING)
_REQUESTS = threading.Lock()  # no build is ended in the moment in which it is taken up


class BuildForgotten(exception.NovaException):
    """What the server's fault says."""

    msg_fmt = "The request to build this server was lost: a service of the cloud ended while it had it. Create it anew."


class Builder(manager.ComputeTaskManager):
    """Nova's own, which builds what is still asked for."""

    def schedule_and_build_instances(
        self, context: Any, build_requests: Any, request_specs: Any, *arguments: Any, **named: Any
    ) -> None:
        """Build servers, those left out whose requests have ended; the others are young again from now on."""
        pairs = zip(build_requests, request_specs, strict=True)
        asked_for = [(request, specification) for request, specification in pairs if _take_up(context, request)]
        if asked_for:
            requests, specifications = (list(each) for each in zip(*asked_for, strict=True))
            super().schedule_and_build_instances(context, requests, specifications, *arguments, **named)


class Conductor(manager.ConductorManager):
    """Nova's own, with more to do."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Take our builder in the place of Nova's."""
        super().__init__(*arguments, **named)
        self.compute_task_mgr: Any = Builder()
        self.additional_endpoints = [self.compute_task_mgr]
        self._services = servicegroup.API()

    @periodic_task.periodic_task(spacing=EVERY)
    def end_forgotten_builds(self, context: Any) -> None:
        """Put servers in ERROR whose build no service has any more."""
        for request in objects.BuildRequestList.get_all(context):
            with isolated("ending a build", request.instance_uuid), _REQUESTS:
                if _is_request_forgotten(context, request):
                    self._end_request(context, request)
        for cell in objects.CellMappingList.get_all(context):
            for inside, instance in _list_forgotten(context, cell, vm_state=vm_states.BUILDING, host=None):
                with isolated("ending a build", instance.uuid):
                    _end_instance(context, inside, cell, instance)

    @periodic_task.periodic_task(spacing=EVERY)
    def end_forgotten_moves(self, context: Any) -> None:
        """End migrations that no service is working on any more, and give back what ended ones hold in Placement."""
        for cell in objects.CellMappingList.get_all(context):
            with (
                isolated(f"looking at the moves of cell {cell.name}"),
                nova_context.target_cell(context, cell) as inside,
            ):
                for migration in objects.MigrationList.get_by_filters(inside, {"status": list(MOVING)}):
                    with isolated("ending a move", migration.instance_uuid):
                        _end_move(inside, migration)
                for node in objects.ComputeNodeList.get_all(inside):
                    with isolated(f"giving back what moves hold of {node.host}"):
                        self._give_back(inside, node)
                    with isolated(f"having the servers on {node.host} hold what they take"):
                        self._hold(inside, node)

    @periodic_task.periodic_task(spacing=EVERY)
    def end_forgotten_tasks(self, context: Any) -> None:
        """Let a shelved server be asked for again if no service has the last request any more."""
        for cell in objects.CellMappingList.get_all(context):
            for inside, instance in _list_forgotten(context, cell, task_state=list(BEFORE_THE_BEGINNING)):
                with isolated("ending a task", instance.uuid):
                    if not self._waits_for_a_host(inside, instance):
                        _end_task(instance)
            for _, instance in _list_forgotten(context, cell, host=None):
                with isolated("putting it on the shelf again", instance.uuid):
                    _put_on_shelf(instance)

    def _waits_for_a_host(self, inside: Any, instance: Any) -> bool:
        """Whether a request lies in the queue of a host that is down, and that begins with it when it is back.

        If it were asked for again meanwhile, the server would come up on another host, and that one take it away.
        """
        for provider in self.compute_task_mgr.report_client.get_allocations_for_consumer(inside, instance.uuid):
            with suppress(exception.NotFound):  # the host was removed from the cloud
                node = objects.ComputeNode.get_by_uuid(inside, provider)
                if not self._services.service_is_up(objects.Service.get_by_compute_host(inside, node.host)):
                    return True
        return False

    def _give_back(self, inside: Any, node: Any) -> None:
        """Take from ended moves what they still hold of a node."""
        reports = self.compute_task_mgr.report_client
        for consumer in reports.get_allocations_for_resource_provider(inside, node.uuid).allocations:
            try:
                migration = objects.Migration.get_by_uuid(inside, consumer)
            except exception.MigrationNotFound:  # a server, or another cell's
                continue
            ended = migration.status in ENDED or migration.deleted  # with its server
            with isolated("giving back what a move held", migration.instance_uuid):
                if not ended or not _stands_still(inside, migration):
                    continue
                LOG.warning("A move that has ended held resources", instance_uuid=migration.instance_uuid)
                node_now, flavor_now = _where_and_what_it_is(inside, migration)
                if flavor_now == migration.old_instance_type_id and node_now == migration.source_node:
                    reports.move_allocations(inside, consumer, migration.instance_uuid)
                else:
                    reports.delete_allocation_for_instance(inside, consumer, consumer_type="migration", force=True)

    def _hold(self, inside: Any, node: Any) -> None:
        """Have servers on a node hold what they take there, if they hold nothing of it, or what another flavor takes.

        A rebuild with another image that fails gives up what the server holds: Nova takes the place that was chosen for
        it for another one's, as an evacuation's is (``ComputeManager.rebuild_instance``). A resize that fails after
        the server's files have come leaves it there with its old flavor and what the new one takes: Nova forgets
        what it held before (``ComputeManager.finish_resize``).
        """
        reports = self.compute_task_mgr.report_client
        holding = reports.get_allocations_for_resource_provider(inside, node.uuid).allocations
        for instance in objects.InstanceList.get_by_host_and_node(inside, node.host, node.hypervisor_hostname):
            settled = instance.task_state is None and instance.vm_state not in UNSETTLED
            if not settled or not is_forgotten(instance.updated_at or instance.created_at):
                continue
            with isolated("having it hold what it takes", instance.uuid):
                here = holding.get(instance.uuid, {}).get("resources", {})
                if not _fits(here, instance.flavor):
                    _correct(reports, inside, node, instance)

    def _end_request(self, context: Any, request: Any) -> None:
        """End a build that reached no cell, as Nova does if there is no host."""
        LOG.warning("No service works on this build any more", instance_uuid=request.instance_uuid)
        specification = objects.RequestSpec.get_by_instance_uuid(context, request.instance_uuid)
        mapping = objects.InstanceMapping.get_by_instance_uuid(context, request.instance_uuid)
        in_a_cell = mapping.cell_mapping is not None
        try:
            raise BuildForgotten  # noqa: TRY301 - as below
        except BuildForgotten as fault:  # what follows asks where it was raised
            self.compute_task_mgr._bury_in_cell0(  # noqa: SLF001 - what it does with a build without a host
                context,
                specification,
                fault,
                build_requests=[request],
                block_device_mapping=_unsaved(context, request.block_device_mappings),
                tags=request.tags,
            )
        if not in_a_cell:  # the conductor may have died between its claim in Placement and the server's record
            self.compute_task_mgr.report_client.delete_allocation_for_instance(
                context, request.instance_uuid, force=True
            )


def _take_up(context: Any, request: Any) -> bool:
    """Begin with a build; return False if it has ended.

    One that comes late is young again from now on, or it would be ended while it is being built. One that its user has
    deleted is in no cell, and Nova passes over it by itself.
    """
    if not _is_older(request.created_at, FORGOTTEN // 2):
        return True
    try:
        with _REQUESTS:
            request.updated_at = timeutils.utcnow(with_timezone=True)
            request.save()
    except exception.BuildRequestNotFound:
        if not _is_in_a_cell(context, request.instance_uuid):
            return True
        LOG.warning("The message to build this server comes too late", instance_uuid=request.instance_uuid)
        return False
    return True


def _is_in_a_cell(context: Any, server_uuid: str) -> bool:
    try:
        mapping = objects.InstanceMapping.get_by_instance_uuid(context, server_uuid)
    except exception.InstanceMappingNotFound:
        return False
    return mapping.cell_mapping is not None


def _is_request_forgotten(context: Any, request: Any) -> bool:
    found = objects.BuildRequest.get_by_instance_uuid(context, request.instance_uuid)
    return is_forgotten(found.updated_at or found.created_at)


@contextmanager
def isolated(doing: str, server_uuid: str | None = None) -> Iterator[None]:
    """Log what the body fails with: the others have their turn, as a failure at one server is that one's own.

    Args:
        doing: what the body does, as a gerund.
        server_uuid: whom it is about.
    """
    try:
        yield
    except exception.NotFound:  # its user deletes it meanwhile, or another conductor was faster
        LOG.info("Gone before %s", doing, instance_uuid=server_uuid)
    except Exception:
        LOG.exception("Failed at %s", doing, instance_uuid=server_uuid)


def _list_forgotten(context: Any, cell: Any, **wanted: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the servers of a cell that stand still, each with a context for the cell; none if it does not answer."""
    with nova_context.target_cell(context, cell) as inside:
        found: Any = ()
        with isolated(f"looking at the servers of cell {cell.name}"):
            found = objects.InstanceList.get_by_filters(inside, {**wanted, "deleted": False})
        for instance in found:
            if is_forgotten(instance.updated_at or instance.created_at):
                yield inside, instance


def _unsaved(context: Any, devices: Any) -> Any:
    """Return a request's block devices as the API sends them: with a context, and with each field still to be saved."""
    made = [
        type(device)(context, **{name: getattr(device, name) for name in device.obj_fields if _is_set(device, name)})
        for device in devices
    ]
    return type(devices)(context, objects=made)


def _is_set(device: Any, name: str) -> bool:
    return name != "id" and bool(device.obj_attr_is_set(name))


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
    if _release(instance, vm_states.ERROR):
        utils.add_instance_fault_from_exc(inside, instance, BuildForgotten())


def _release(instance: Any, vm_state: str) -> bool:
    """Give a server a state in which it waits for nobody; return whether it has it now, as somebody may be faster."""
    before = instance.task_state
    instance.vm_state, instance.task_state = vm_state, None
    try:
        instance.save(expected_task_state=[before])
    except (exception.UnexpectedTaskStateError, exception.InstanceNotFound):
        return False
    return True


def _end_move(inside: Any, migration: Any) -> None:
    if migration.migration_type not in MOVES or not _stands_still(inside, migration):
        return
    LOG.warning("No service works on this move any more", instance_uuid=migration.instance_uuid)
    migration.status = "error"
    migration.save()


def _stands_still(inside: Any, migration: Any) -> bool:
    """Whether nobody works on a move: it is old, and its server is gone or waits for nothing."""
    if not is_forgotten(migration.updated_at or migration.created_at):
        return False
    try:
        instance = objects.Instance.get_by_uuid(inside, migration.instance_uuid)
    except exception.InstanceNotFound:
        return True
    if instance.vm_state == vm_states.ERROR:
        return True
    return instance.task_state is None and instance.vm_state != vm_states.RESIZED


def _where_and_what_it_is(inside: Any, migration: Any) -> tuple[str | None, int | None]:
    """Return a server's node and its flavor's id; nothing of one that is deleted."""
    try:
        instance = objects.Instance.get_by_uuid(inside, migration.instance_uuid)
    except exception.InstanceNotFound:
        return None, None
    return instance.node, instance.flavor.id


def _fits(held: dict[str, int], flavor: Any) -> bool:
    """Whether this is what a flavor takes at first sight; its extra specs may say something else."""
    processors = held.get("VCPU", 0) + held.get("PCPU", 0)
    return bool(held.get("MEMORY_MB") == flavor.memory_mb and processors == flavor.vcpus)


def _correct(reports: Any, inside: Any, node: Any, instance: Any) -> None:
    """Have a server hold of its node what it takes there, unless it does; what it holds elsewhere stays."""
    takes = _takes(inside, instance)
    now = reports.get_allocs_for_consumer(inside, instance.uuid)
    held = now["allocations"].get(node.uuid, {}).get("resources", {})
    if all(held.get(each) == takes.get(each) for each in OF_A_NODE):
        return
    LOG.warning("It held %s of its host, and takes %s", held or "nothing", takes, instance=instance)
    if held and "DISK_GB" not in held:  # another provider has the disks
        takes.pop("DISK_GB", None)
    besides = {name: amount for name, amount in held.items() if name not in {*OF_A_NODE, "DISK_GB"}}
    elsewhere = {provider: each for provider, each in now["allocations"].items() if not _is_of_a_node(each)}
    wanted = {
        "allocations": elsewhere | {node.uuid: {"resources": besides | takes}},
        "project_id": instance.project_id,
        "user_id": instance.user_id,
        "consumer_generation": now.get("consumer_generation"),
    }
    reports.put_allocations(inside, instance.uuid, wanted)


def _takes(inside: Any, instance: Any) -> dict[str, int]:
    """Return what a server's flavor takes of its node, as the scheduler reckons it."""
    specification = objects.RequestSpec.get_by_instance_uuid(inside, instance.uuid)
    specification.flavor = instance.flavor
    asked = scheduler_utils.ResourceRequest.from_request_spec(specification).get_request_group(None).resources
    return {name: amount for name, amount in asked.items() if name in {*OF_A_NODE, "DISK_GB"}}


def _is_of_a_node(allocation: Any) -> bool:
    """Whether this is held of a node; a port's bandwidth is held of other providers."""
    return "MEMORY_MB" in allocation["resources"]


def _end_task(instance: Any) -> None:
    """Take its task from a server: it stays as it is, and may be asked for again."""
    LOG.warning("No service works on this task any more: %s", instance.task_state, instance=instance)
    _release(instance, instance.vm_state)


def _put_on_shelf(instance: Any) -> None:
    """Let a server whose return from the shelf failed be asked for again: it is on no host, and its image is there.

    Nova has it in ERROR then, from where it takes no unshelve, and a reboot is sent to no host.
    """
    if "shelved_image_id" not in instance.system_metadata:
        return
    if instance.vm_state not in (vm_states.ERROR, vm_states.ACTIVE):  # ACTIVE is what reset-state makes of it
        return
    LOG.warning("This server's return from the shelf failed; it can be unshelved again", instance=instance)
    _release(instance, vm_states.SHELVED_OFFLOADED)


def is_forgotten(since: dt.datetime) -> bool:
    """Whether a build has stood still for longer than anybody works on it."""
    return _is_older(since, FORGOTTEN)


def _is_older(since: dt.datetime, seconds: int) -> bool:
    return bool(timeutils.is_older_than(since.replace(tzinfo=None), seconds))


def main() -> None:
    """Be nova-conductor, with its own arguments, and under that name in logs and reports."""
    sys.argv[0] = BINARY
    from nova import service  # noqa: PLC0415 - only the service needs it
    from nova.cmd import conductor  # noqa: PLC0415 - as above

    service.SERVICE_MANAGERS[BINARY] = f"{Conductor.__module__}.{Conductor.__name__}"
    conductor.main()


if __name__ == "__main__":
    main()
