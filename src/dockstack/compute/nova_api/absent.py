# SPDX-License-Identifier: Apache-2.0
"""Servers that Nova has on this host, and of which nothing is here: their files are elsewhere.

They may be in their image on the shelf alone. A return from the shelf that is broken off before there is a container,
as by the end of nova-compute, leaves the server on this host in ERROR; so does the last step of a shelve, broken off
when the container was gone.

Or they are on the host that the server moved from: a revert was broken off when the container was gone here.

Nothing that Nova takes in that state helps: a reboot finds no container, and a rebuild gives up the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import nova.context
from nova import exception, objects
from nova.compute import power_state, vm_states
from nova.network import neutron
from nova.scheduler.client import report
from oslo_log import log as logging

from dockstack.compute.failures import isolated
from dockstack.compute.nova_api import records, reverts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from typing import Any

LOG = logging.getLogger(__name__)

# ACTIVE is what reset-state makes of any of them.
_ON_SHELF = (vm_states.ERROR, vm_states.ACTIVE, vm_states.SHELVED, vm_states.SHELVED_OFFLOADED)
_MOVED = (vm_states.ERROR, vm_states.ACTIVE, vm_states.STOPPED, vm_states.RESIZED)
_READ = ["system_metadata", "flavor"]


def bring_back_all(host: str, here: Collection[str], hold: Callable[[str], AbstractContextManager[None]]) -> None:
    """Put servers on the shelf again that have nothing but their image there, and have others return where they were.

    Nova takes a server's image off the shelf, and forgets it, only when the server runs (``_unshelve_instance``).

    Args:
        host: Nova's name of this host.
        here: the servers of which anything is on this host, as it was before this is called.
        hold: has a server to oneself.
    """
    context = nova.context.get_admin_context()
    for server_uuid in sorted(records.list_uuids(host) - set(here)):
        with isolated("bringing back a server of which nothing is here", server_uuid), hold(server_uuid):
            instance = objects.Instance.get_by_uuid(context, server_uuid, expected_attrs=_READ)
            if instance.host != host or instance.task_state is not None:
                continue
            if "shelved_image_id" in instance.system_metadata:
                if instance.vm_state in _ON_SHELF:
                    _return_to_shelf(context, instance)
            elif instance.vm_state in _MOVED:
                reverts.bring_back(context, instance)


def _return_to_shelf(context: Any, instance: Any) -> None:
    """Do what the end of a shelve does: ports on no host, nothing in Placement, the server on no host."""
    LOG.warning("Its files are on the shelf alone, so the server returns there", instance_uuid=instance.uuid)
    neutron.API().cleanup_instance_network_on_host(context, instance, instance.host)
    report.report_client_singleton().delete_allocation_for_instance(context, instance.uuid, force=True)
    if instance.image_ref == instance.system_metadata["shelved_image_id"]:
        instance.image_ref = instance.system_metadata.get("image_base_image_ref", instance.image_ref)
    instance.vm_state, instance.power_state = vm_states.SHELVED_OFFLOADED, power_state.NOSTATE
    instance.host = instance.node = instance.compute_id = None
    try:
        instance.save(expected_task_state=[None])
    except (exception.UnexpectedTaskStateError, exception.InstanceNotFound):  # somebody asked for something meanwhile
        LOG.info("Something is asked of the server meanwhile", instance_uuid=instance.uuid)
