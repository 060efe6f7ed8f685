# SPDX-License-Identifier: Apache-2.0
"""What Nova's database says about the servers of this host, for recovery."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

import nova.context
from nova import crypto, exception, objects
from nova.api.metadata import password as passwords
from nova.compute import power_state, task_states, vm_states
from nova.compute import utils as compute_utils
from oslo_log import log as logging
from oslo_utils import timeutils

from dockstack.compute.failures import isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockstack.compute.engine import Event

# A migration's states in which its servers may yet come back (nova/objects/migration.py and its users).
UNDER_WAY = [
    *("queued", "accepted", "preparing", "pre-migrating", "running", "migrating", "post-migrating"),
    *("finished", "confirming", "reverting"),
]


# What servers.describe reads of an instance beside its own row; each that is not read with it is a call to the
# conductor of its own.
DESCRIBED = ["info_cache", "flavor", "metadata", "numa_topology"]

LOG = logging.getLogger(__name__)
_BUILD_SECONDS, _BUILD_ROUND = 60, 0.5  # that Nova may take to write down that a server was built
_NEW_SECONDS = 11  # after that: what has not come up by then has ended by ten, and databases keep whole seconds
MEMORY_LOST = "docker_suspended_memory_lost"
# What ends with the nova-compute that does it; the next one forgets it at its start (ComputeManager._init_instance).
_SNAPSHOTS = (
    *(task_states.IMAGE_SNAPSHOT_PENDING, task_states.IMAGE_SNAPSHOT),
    *(task_states.IMAGE_PENDING_UPLOAD, task_states.IMAGE_UPLOADING),
)


@dataclass(frozen=True)
class Record:
    """One server as Nova has it on this host.

    Attributes:
        instance: Nova's object, to hand back to Nova's side.
        half_built: its build has not ended.
        half_rescued: a rescue or its end was under way.
        should_run: Nova wants it running, and nobody is working on it.
        should_run_at_start: the same when nova-compute starts, and nobody takes images any more.
        unrescued: no other image is to run in its place, and nobody is working on it.
        under_way: somebody is working on it.
    """

    instance: Any
    half_built: bool
    half_rescued: bool
    should_run: bool
    should_run_at_start: bool
    unrescued: bool
    under_way: bool


def list_uuids(host: str) -> set[str]:
    """Ask which servers Nova has on this host, in one question."""
    return set(objects.InstanceList.get_uuids_by_host(nova.context.get_admin_context(), host))


def list_records(host: str) -> dict[str, Record]:
    """Read the servers that Nova has on this host, by uuid: their rows only, see ``read_record``."""
    context = nova.context.get_admin_context()
    return read_records(objects.InstanceList.get_by_host(context, host, expected_attrs=[]))


def read_record(host: str, server_uuid: str) -> Record | None:
    """Read what Nova says now of one server of this host; None if it has it elsewhere or no more."""
    context = nova.context.get_admin_context()
    try:
        instance = objects.Instance.get_by_uuid(context, server_uuid, expected_attrs=DESCRIBED)
    except exception.InstanceNotFound:
        return None
    return read_records([instance])[server_uuid] if instance.host == host else None


def read_records(instances: Any) -> dict[str, Record]:
    """Translate a ``nova.objects.InstanceList``."""
    return {instance.uuid: _read(instance) for instance in instances}


def _read(instance: Any) -> Record:
    task = instance.task_state
    runs = (
        instance.vm_state in (vm_states.ACTIVE, vm_states.RESIZED, vm_states.RESCUED)
        and instance.power_state == power_state.RUNNING
    )
    return Record(
        instance=instance,
        half_built=instance.vm_state == vm_states.BUILDING,
        half_rescued=task in (task_states.RESCUING, task_states.UNRESCUING),
        should_run=runs and task is None,
        should_run_at_start=runs and task in (None, *_SNAPSHOTS),
        unrescued=instance.vm_state != vm_states.RESCUED and task is None,
        under_way=task is not None,
    )


def explain_abandoned(context: Any, records: Iterable[Record]) -> None:
    """Give the servers whose build was broken off a fault: Nova itself only turns them to ERROR, without a reason."""
    for record in records:
        if record.half_built:
            reason = "the compute service stopped while it built this server. Delete the server and create it again."
            error = exception.BuildAbortException(instance_uuid=record.instance.uuid, reason=reason)
            with isolated("saying why its build was broken off", record.instance.uuid):
                compute_utils.add_instance_fault_from_exc(context, record.instance, error)


def give_back(record: Record) -> None:
    """Record that a server whose rescue was broken off is itself again; Nova starts it if it is to run."""
    instance = record.instance
    instance.vm_state, instance.task_state = vm_states.ACTIVE, None
    instance.save()


def fail_new_server(host: str, event: Event, reason: str, still_ended: Callable[[], bool]) -> bool:
    """Turn a server that Nova has just built to ERROR, with a fault; its container stays, and with it its console log.

    Waits until Nova is done with the build, and with whatever its user has asked for in that time.

    Args:
        host: this one.
        event: its end. One long after Nova's build is of a server that was started again since, and is not new.
        reason: why it ended.
        still_ended: looks whether it is off, and has been since; asked when Nova has nothing under way with it.

    Returns:
        False if it is no new server of this host that Nova takes for a running one.
    """
    context = nova.context.get_admin_context()
    deadline = time.monotonic() + _BUILD_SECONDS
    while True:
        try:
            instance = objects.Instance.get_by_uuid(context, event.server_uuid, expected_attrs=[])
        except exception.InstanceNotFound:
            return False
        if instance.task_state is None and instance.vm_state != vm_states.BUILDING:
            break
        if time.monotonic() > deadline:
            return False
        time.sleep(_BUILD_ROUND)
    if instance.host != host or instance.vm_state != vm_states.ACTIVE or instance.launched_at is None:
        return False
    launched = timeutils.normalize_time(instance.launched_at).replace(tzinfo=UTC).timestamp()
    if event.time_ns > (launched + _NEW_SECONDS) * 10**9 or not still_ended():
        return False
    instance.vm_state, instance.power_state = vm_states.ERROR, power_state.SHUTDOWN
    try:  # whoever stops it, or asks for anything else, comes first
        instance.save(expected_vm_state=[vm_states.ACTIVE], expected_task_state=[None])
    except (exception.InstanceUpdateConflict, exception.InstanceNotFound):
        return False
    LOG.warning("The new server is off: %s", reason, instance_uuid=event.server_uuid)
    error = exception.InstancePowerOnFailure(reason=reason.removesuffix("."))
    compute_utils.add_instance_fault_from_exc(context, instance, error)
    return True


def explain_lost_memory(context: Any, instance: Any) -> None:
    """Tell in the server's list of actions that its suspended processes are gone and that it was started instead."""
    reason = (
        "The container engine or its machine was restarted while this server was suspended. What its processes had in "
        "memory is lost; the server was started from its disk instead."
    )
    LOG.warning("%s", reason, instance_uuid=instance.uuid)
    objects.InstanceActionEvent.event_start(context, instance.uuid, MEMORY_LOST, want_result=False)
    objects.InstanceActionEvent.event_finish_with_failure(
        context, instance.uuid, MEMORY_LOST, exc_val=reason, exc_tb="", want_result=False
    )


def has_left(host: str, server_uuid: str) -> bool | None:
    """Ask Nova whether a server that it does not have on this host has left it for good.

    Returns:
        True if Nova has deleted it or has it on another host with nothing under way; False if a move is not over, such
        as a resize that nobody has confirmed; None if Nova does not know it, or no more.
    """
    context = nova.context.get_admin_context().elevated(read_deleted="yes")
    try:
        instance = objects.Instance.get_by_uuid(context, server_uuid, expected_attrs=[])
    except exception.InstanceNotFound:
        return None
    if instance.deleted:
        return True
    if instance.host in (None, host) or instance.task_state is not None:
        return False
    if instance.vm_state in (vm_states.RESIZED, vm_states.ERROR):  # after a broken move, only the source may be whole
        return False
    moves = objects.MigrationList.get_by_filters(context, {"instance_uuid": server_uuid, "status": UNDER_WAY})
    return not any(host in (move.source_compute, move.dest_compute) for move in moves)


def keep_password(instance: Any, password: str) -> None:
    """Keep a new password for the server's owner alone, who can decrypt it with the server's RSA key.

    Nova shows it by ``GET /servers/{id}/os-server-password``. Other kinds of keys cannot encrypt.
    """
    key = instance.key_data or ""
    if key.startswith("ssh-rsa "):
        encrypted = base64.b64encode(crypto.ssh_encrypt_text(key, password)).decode()
        instance.system_metadata.update(passwords.convert_password(None, encrypted))
        instance.save()
