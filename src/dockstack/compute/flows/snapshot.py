# SPDX-License-Identifier: Apache-2.0
"""An image of a server: streamed to whoever takes it, while the server goes on.

What a server has written is copied first; a running one stands still only while what has changed meanwhile is copied
again, so that files which belong together are of one moment. The image is read from the copy, twice: an archive names
the size and digest of what follows, and what is kept of it would take the room of the whole root file system.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging

from dockstack.compute.engine import Conflict
from dockstack.compute.flows import lifecycle
from dockstack.compute.host import copies, originals, received
from dockstack.compute.model import PowerState, Snapshot
from dockstack.names import SPARSE_LABEL
from dockstack.oci import snapshot
from dockstack.oci.documents import hybrid_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server
    from dockstack.oci.documents import Layer

LOG = logging.getLogger(__name__)


def take(host: Host, server: Server, image_id: str, upload: Callable[[Snapshot], None]) -> None:
    """Make an image of a server's root file system and hand it to ``upload``; nothing of it stays here.

    Args:
        host: where.
        server: whose.
        image_id: the image's id in Glance; also names the copy meanwhile.
        upload: sends it; must read the archive to its end.

    Raises:
        NotFound: the server has no container, or lost it meanwhile.
        Unfinished: its newest files are not in its container yet.
        CannotCopy: there is no room for a copy, or the engine's storage lets nobody at it.
        SnapshotError: no server could boot from it.
        Exception: whatever ``upload`` raises.
    """
    with host.busy.hold(image_id), ExitStack() as cleanup:
        measure = cleanup.enter_context(host.images.measuring())
        with host.busy.hold(server.uuid):  # it may be deleted while its image is still being sent
            received.refuse_unfinished(host, server.uuid)
            if not server.rescued and originals.put_back(host, server):
                lifecycle.start(host, server)
            container = host.container(server.uuid)
            process = snapshot.build_process(_read_image(host, container), host.engine.process(container.id))
            cleanup.callback(copies.remove, host, image_id)
            copies.make(host, container, image_id, lambda: _standing_still(host, server, container, image_id))
        root = copies.RootFileSystem(host, image_id)
        upload(_describe(host, container, process, root, measure(root.read)))


@contextmanager
def _standing_still(host: Host, server: Server, container: Container, image_id: str) -> Iterator[None]:
    if container.state is not PowerState.RUNNING:
        yield
        return
    with copies.noted(host, container, image_id):
        with suppress(Conflict):  # it has ended meanwhile
            lifecycle.freeze(host, server)
        yield


def _read_image(host: Host, container: Container) -> dict[str, Any]:
    made_from = host.engine.image(container.image_id)
    return dict(made_from.config) if made_from else {}


def _describe(
    host: Host, container: Container, process: dict[str, Any], root: copies.RootFileSystem, layer: Layer
) -> Snapshot:
    """Say what a root file system, which was read as a layer, is as an image."""
    architecture = host.facts().architecture
    if root.left_out:
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(root.left_out.items()))
        LOG.info("An image cannot carry all that the server has: %s", said, instance_uuid=container.server_uuid)
    if root.sparse:
        process = process | {"Labels": {**(process.get("Labels") or {}), SPARSE_LABEL: "true"}}
    comment = f"a snapshot of server {container.server_uuid}"
    configuration = snapshot.build_configuration(layer, process, architecture, comment)
    return Snapshot(
        architecture=architecture,
        disk_gb=snapshot.needed_disk_gb(layer.size),
        settings=snapshot.describe_process(process),
        archive=lambda: hybrid_archive(configuration, [layer]),
    )
