# SPDX-License-Identifier: Apache-2.0
"""What the driver needs of Neutron: its events."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import nova.conf
from nova import exception

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
        LOG.warning("Neutron reported %s as failed; going on, as vif_plugging_is_fatal is off", event)
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
        LOG.warning("%s; going on, as vif_plugging_is_fatal is off", missing)


def _not_plugged(instance: Any, what: str) -> exception.BuildAbortException:
    return exception.BuildAbortException(
        instance_uuid=instance.uuid, reason=f"{what}. Check the network agent of {instance.host}."
    )
