# SPDX-License-Identifier: Apache-2.0
"""Put a server's own container back in its place after a rescue, also after one that Nova knows nothing of.

Whether a server is rescued, Nova says. A rescue may be done here while Nova takes its task back, as it does when its
service starts: then the rescuing container runs under the server's name, and whoever starts, copies or moves that takes
the rescuing image's files for the server's. So those ask ``require`` for the container. Which containers there are
besides the server's own, ``set_aside`` finds out; here they are changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.engine import NotFound
from dockstack.compute.host import creation
from dockstack.compute.host.set_aside import find_rescued, is_rescuing
from dockstack.compute.model import PowerState

if TYPE_CHECKING:
    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server

LOG = logging.getLogger(__name__)


def require(host: Host, server: Server) -> Container:
    """Describe the container that a server is now: its own, put back first if Nova knows of no rescue.

    One that is put back is stopped, whatever ran in its place.

    Raises:
        NotFound: it has none on this host.
    """
    if server.rescued:
        return host.container(server.uuid)
    found = host.find_own(server.container_name)
    if found is not None and found.server_uuid == server.uuid and not is_rescuing(found):
        return found
    put_back(host, server)
    return host.container(server.uuid)


def put_back(host: Host, server: Server) -> bool:
    """Put a server's own container back if a rescuing one bears its name, or none does; mostly nothing is to be done.

    Returns:
        Whether the one that was in its place ran.
    """
    with host.busy.hold(server.uuid):
        try:
            found = host.container(server.uuid)
        except NotFound:
            restore(host, server)
            return False
        if not is_rescuing(found):
            return False
        LOG.warning("Nova knows of no rescue; the server's own container comes back", instance_uuid=server.uuid)
        return restore(host, server) and found.state is not PowerState.SHUTDOWN


def restore(host: Host, server: Server) -> bool:
    """Remove the rescuing container and give the server's own its name back; it is stopped then. Again is fine.

    Returns:
        Whether there was anything to do.
    """
    with host.busy.hold(server.uuid):
        original = find_rescued(host, server.uuid)
        if original is None:
            return False
        rescuing = host.find_own(server.container_name)
        if rescuing is None:
            LOG.info("A rescue was broken off; going on", instance_uuid=server.uuid)
        elif is_rescuing(rescuing):
            creation.remove(host, rescuing)
        host.engine.rename(original.id, server.container_name)
    host.audit.forget(server.uuid)
    return True
