# SPDX-License-Identifier: Apache-2.0
"""A server gets another flavor on its own host: the same container with other limits.

Only the engine's limits change, so there is nothing to copy, nothing to clean after a confirmation, and a revert
is the same step back. The truth about a server's limits is Nova's: every start of a server sets them anew, so that a
resize that was broken off anywhere ends with the next start, whichever flavor Nova then says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers import limits
from dockstack.compute.engine import EngineError
from dockstack.compute.flows import lifecycle, volumes
from dockstack.compute.host import disks, originals
from dockstack.compute.model import PowerState
from dockstack.compute.resources import cgroups
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Limits, Server

LOG = logging.getLogger(__name__)


class Unresizable(DockstackError):  # noqa: N818 - said of the request
    """The server cannot be resized so; nothing was touched."""


def begin(host: Host, server: Server, wanted: Server, timeout: int) -> None:
    """Refuse what is impossible, then stop the server, but only if it cannot have its new limits while it runs.

    One with volumes is stopped, too: Nova has Cinder take them off the host and give them to it again meanwhile.

    Args:
        host: where.
        server: which, with its flavor of now.
        wanted: the same with its new flavor.
        timeout: seconds that its processes get before they are killed.

    Raises:
        Unresizable: nothing was touched.
        NotFound: it has no container.
    """
    refuse_impossible(server.limits, wanted.limits)
    refuse_on_same_host(server, wanted, disk_grows=disks.can_grow(host))
    with host.busy.hold(server.uuid):
        container = originals.require(host, server)
        attached = volumes.list_attached(host, server)
        if container.state is not PowerState.SHUTDOWN and (attached or not _fits(container, wanted.limits)):
            lifecycle.stop(host, server, timeout)
        if attached:
            volumes.release(host, server.uuid)


def refuse_impossible(old: Limits, new: Limits) -> None:
    """Refuse what no host could do.

    Raises:
        Unresizable: the disk would shrink.
        DockstackError: the engine knows no such limits.
    """
    if new.disk_gb < old.disk_gb:
        raise Unresizable(
            f"The server's disk of {old.disk_gb} GB cannot shrink to {new.disk_gb} GB.",
            f"Choose a flavor with a disk of at least {old.disk_gb} GB.",
        )
    limits.update_values(new)


def refuse_on_same_host(old: Server, new: Server, *, disk_grows: bool) -> None:
    """Refuse what holds for a container's whole life; on another host a new one is made anyway.

    Args:
        old: the server with its flavor of now.
        new: the same with its new flavor.
        disk_grows: the engine's storage can give a container a larger disk, or none is held to one.

    Raises:
        Unresizable: naming it.
    """
    for fixed, spec in (
        (new.limits.nofile == old.limits.nofile, "limit on open files (docker:nofile_limit)"),
        (new.limits.disk_rates == old.limits.disk_rates, "disk rates (quota:disk_*)"),
        (disk_grows or new.limits.disk_gb == old.limits.disk_gb, "disk"),
        (new.confinement == old.confinement, "confinement (docker:privileged, cap_add and the like)"),
    ):
        if not fixed:
            raise Unresizable(
                f"A server's {spec} cannot change while it stays on its host.",
                f"Choose a flavor with the same {spec}, or create a new server.",
            )


def fit(host: Host, server: Server, *, power_on: bool) -> None:
    """Give the server the limits that Nova says it has now: after a resize, and after its revert.

    Repeatable at will. A running server goes on running unless the engine refuses, as for less memory than is in use.

    Args:
        host: where.
        server: which, with its new limits.
        power_on: have it run at the end; otherwise a stopped one stays stopped.

    Raises:
        NotFound: it has no container.
    """
    with host.busy.hold(server.uuid):
        container = originals.require(host, server)
        if container.state is not PowerState.SHUTDOWN and not _changed_live(host, server, container):
            lifecycle.stop(host, server, host.options.stop_timeout)
            container = host.container(server.uuid)
        if container.state is PowerState.SHUTDOWN:
            lifecycle.set_limits(host, server, container)
            if power_on:
                lifecycle.start(host, server)
    host.audit.forget(server.uuid)


def _changed_live(host: Host, server: Server, container: Container) -> bool:
    if not _fits(container, server.limits):
        return False
    try:
        lifecycle.set_limits(host, server, container)
    except EngineError as error:
        LOG.info("The server must be restarted to get its new limits: %s", error, instance_uuid=server.uuid)
        return False
    return True


def _fits(container: Container, wanted: Limits) -> bool:
    """Whether what a server holds fits its new limit; a kernel with cgroup v2 would kill processes until it does."""
    used = cgroups.usage(container.pid)
    return used is not None and used.memory_bytes < wanted.memory_mb << 20
