# SPDX-License-Identifier: Apache-2.0
"""What the driver needs of Neutron: its events, and a server's ports where Nova's own record of them is wrong."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import nova.conf
import nova.context
from keystoneauth1.exceptions import ClientException
from neutronclient.common.exceptions import NeutronException
from nova import exception
from nova.network import neutron as network_api
from oslo_log import log as logging

from dockstack.compute.nova_api import servers
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from dockstack.compute.model import Port

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

PLUGGED = "network-vif-plugged"


@contextmanager
def wait_for_ports(virtapi: Any, instance: Any, ports: Iterable[Port]) -> Iterator[set[str]]:
    """Run the body, then wait until Neutron has reported every port as plugged.

    Gives the body the ids of the ports to wait for; those that it takes out, it knows to be plugged. Follows
    ``vif_plugging_timeout`` (0: do not wait) and ``vif_plugging_is_fatal``. A port that is already active has no event
    to come.

    Raises:
        exception.BuildAbortException: an event failed or did not come in time, and that is fatal.
    """
    waiting = [port.id for port in ports if not port.active] if CONF.vif_plugging_timeout else []

    def on_failure(event: str, _instance: Any) -> bool:
        if CONF.vif_plugging_is_fatal:
            raise _not_plugged(instance, f"Neutron failed to plug port {event.removeprefix(PLUGGED + '-')}")
        LOG.warning(
            "Neutron reported %s as failed; going on, as vif_plugging_is_fatal is off",
            event,
            instance_uuid=instance.uuid,
        )
        return True

    try:
        with virtapi.wait_for_instance_event(
            instance,
            [(PLUGGED, port) for port in waiting],
            timeout=CONF.vif_plugging_timeout,
            error_callback=on_failure,
        ):
            awaited = set(waiting)
            yield awaited
            known = [(PLUGGED, port) for port in waiting if port not in awaited]
            if known:
                virtapi.exit_wait_early(known)
    except exception.InstanceEventTimeout as error:
        missing = f"Neutron did not report {', '.join(sorted(awaited))} as plugged within {CONF.vif_plugging_timeout} s"
        if CONF.vif_plugging_is_fatal:
            raise _not_plugged(instance, missing) from error
        LOG.warning("%s; going on, as vif_plugging_is_fatal is off", missing, instance_uuid=instance.uuid)


class PortsUnknown(DockstackError):  # noqa: N818 - said of the server
    """Nova's record of a server's ports is wrong, and Neutron cannot be asked; nothing was started."""


def complete_ports(instance: Any, network_info: Any, devices: Collection[str], *, arrives: bool = False) -> Any:
    """Return Nova's record of a server's ports, made anew if it is wrong; mostly nobody is asked.

    What is done is what Nova's own healing of that record does (``_heal_instance_info_cache``), which comes to one
    server a minute: unbound ports are bound to this host again, as a shelve that was broken off has left them, and the
    record is read from Neutron. Neutron's answer counts, whatever the server had before.

    Args:
        instance: a ``nova.objects.Instance`` of this host that is about to be started.
        network_info: Nova's record.
        devices: the host's ends of the links that the server has, or had when it started last.
        arrives: it has not run on this host yet, so its ports may be bound to the one that it came from: a move that
            was broken off has not come to that. Nova's record does not name the host.

    Raises:
        PortsUnknown: Neutron did not answer, and the server would start without a network that it has.
    """
    network_info = network_info or []
    unbound = servers.list_unbound(network_info)
    missing = set(devices) - {port.device for port in servers.build_ports(network_info)}
    if not unbound and not missing and not (arrives and network_info):
        return network_info
    LOG.warning(
        "Nova's record of the server's ports may be wrong; reading it from Neutron", instance_uuid=instance.uuid
    )
    context, api = nova.context.get_admin_context(), network_api.API()
    try:
        if unbound or arrives:
            api.setup_instance_network_on_host(context, instance, instance.host)
        return api.get_instance_nw_info(context, instance, force_refresh=True)
    except (ClientException, NeutronException, exception.NovaException) as error:
        if (
            network_info and not unbound and not arrives
        ):  # a port that was detached is missing, too: most likely it is that
            LOG.warning(
                "Neutron cannot say whether ports of the server are missing: %s", error, instance_uuid=instance.uuid
            )
            return network_info
        wrong = (
            "has unbound ones" if unbound else "is of another host" if network_info else "is empty, and there are some"
        )
        raise PortsUnknown(
            f"Nova's record of this server's ports {wrong}; Neutron could not be asked to put that right ({error}).",
            "Reboot the server with --hard when Neutron answers again.",
        ) from error


def _not_plugged(instance: Any, what: str) -> exception.BuildAbortException:
    return exception.BuildAbortException(
        instance_uuid=instance.uuid, reason=f"{what}. Check the network agent of {instance.host}."
    )
