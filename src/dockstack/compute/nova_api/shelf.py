# SPDX-License-Identifier: Apache-2.0
"""Servers that Nova has on this host, and whose files are in their image on the shelf alone.

A return from the shelf that is broken off before there is a container, as by the end of nova-compute, leaves the server
on this host in ERROR; so does the last step of a shelve, broken off when the container was gone. Nothing that Nova
takes in that state helps: a reboot finds no container, and a rebuild gives up what is on the shelf.
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
from dockstack.compute.nova_api import records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from typing import Any

LOG = logging.getLogger(__name__)

# ACTIVE is what reset-state makes of any of them.
_STATES = (vm_states.ERROR, vm_states.ACTIVE, vm_states.SHELVED, vm_states.SHELVED_OFFLOADED)


def return_all(host: str, here: Collection[str], hold: Callable[[str], AbstractContextManager[None]]) -> None:
    """Put servers on the shelf again that have nothing but their image there, so that they can be unshelved.

    Nova takes a server's image off the shelf, and forgets it, only when the server runs (``_unshelve_instance``).

    Args:
        host: Nova's name of this host.
        here: the servers of which anything is on this host, as it was before this is called.
        hold: has a server to oneself.
    """
    context = nova.context.get_admin_context()
    for server_uuid in sorted(records.list_uuids(host) - set(here)):
        with isolated("putting a server on the shelf again", server_uuid), hold(server_uuid):
            instance = objects.Instance.get_by_uuid(context, server_uuid, expected_attrs=["system_metadata"])
            if instance.host == host and _is_on_shelf(instance):
                _return(context, instance)


def _is_on_shelf(instance: Any) -> bool:
    shelved = "shelved_image_id" in instance.system_metadata
    return shelved and instance.task_state is None and instance.vm_state in _STATES


def _return(context: Any, instance: Any) -> None:
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
