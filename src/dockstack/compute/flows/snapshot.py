# SPDX-License-Identifier: Apache-2.0
"""An image of a server: streamed to whoever takes it, while the server goes on.

A running server stands still only while the engine copies what the server itself has written since its first boot. It
must: of a file that shrinks while it is read, the engine drops all that follows without an error, and files that belong
together would be of different moments. Everything else, reading the whole root file system and sending it, works on
that copy. A server that does not run needs no copy.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers import volumes
from dockstack.compute.engine import Conflict, EngineError, EngineFull, EngineUnavailable, NotFound
from dockstack.compute.flows import lifecycle
from dockstack.compute.host import originals, received
from dockstack.compute.model import PowerState, Snapshot
from dockstack.errors import DockstackError
from dockstack.names import HOST_LABEL, UUID_LABEL
from dockstack.oci import snapshot
from dockstack.oci.documents import hybrid_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.compute.engine import Container
    from dockstack.compute.host.host import Host
    from dockstack.compute.model import Server

LOG = logging.getLogger(__name__)

COPY_PREFIX = "dockstack-snapshot-"


def take(host: Host, server: Server, image_id: str, upload: Callable[[Snapshot], None]) -> None:
    """Make an image of a server's root file system and hand it to ``upload``; nothing of it stays here.

    Args:
        host: where.
        server: whose.
        image_id: the image's id in Glance; also names what lies in the engine meanwhile.
        upload: sends it; must read the archive to its end.

    Raises:
        NotFound: the server has no container, or lost it meanwhile.
        Unfinished: its newest files are not in its container yet.
        SnapshotError: no server could boot from it.
        Exception: whatever ``upload`` raises.
    """
    with (
        host.busy.hold(image_id),
        ExitStack() as kept,
        _standing_still(host, server, image_id) as (container, source),
    ):
        upload(_describe(host, container, source, kept))


def sweep(host: Host) -> None:
    """Remove the copies that killed snapshots left; a failure is logged and left to the next sweep."""
    try:
        for image in host.engine.images(reference=snapshot.REPOSITORY):
            for tag in image.tags if image.labels.get(HOST_LABEL) == host.name else ():
                repository, _, image_id = tag.rpartition(":")
                if repository == snapshot.REPOSITORY and image_id not in host.busy:
                    LOG.info("Removing the copy that snapshot %s left when its process ended", image_id)
                    _remove_copy(host, image_id)
    except DockstackError as error:
        LOG.warning("Cannot look for what killed snapshots left: %s", error)


@contextmanager
def _standing_still(host: Host, server: Server, image_id: str) -> Iterator[tuple[Container, str]]:
    """Yield a server's container, and the id or name of a container to read its root file system from.

    Nothing writes to that one: it is a copy if the server runs, and else the server's container itself. The server is
    held only while the copy is made: it may be deleted while its image is still being sent.
    """
    with ExitStack() as cleanup:
        with host.busy.hold(server.uuid):
            received.refuse_unfinished(host, server.uuid)
            if not server.rescued and originals.put_back(host, server):
                lifecycle.start(host, server)
            container = host.container(server.uuid)
            source = container.id
            if container.state is PowerState.RUNNING:
                cleanup.callback(_remove_copy, host, image_id)
                source = _copy(host, container, image_id)
        yield container, source


def _copy(host: Host, container: Container, image_id: str) -> str:
    """Freeze a server, have the engine copy what it has written, thaw it; return the copy's name."""
    try:
        copied = host.engine.commit(container.id, repository=snapshot.REPOSITORY, tag=image_id)
    except (Conflict, EngineFull, EngineUnavailable, NotFound):
        raise
    except EngineError as error:
        raise EngineError(
            error.brief, "Stop the server and try again: then no copy is needed.", error.details
        ) from error
    name = COPY_PREFIX + image_id
    labels = {UUID_LABEL: "", HOST_LABEL: host.name}  # the copy has the server's labels and must not be taken for it
    host.engine.shelter(name, copied, labels, volumes.cover(host.engine.process(container.id).get("Volumes") or ()))
    return name


def _remove_copy(host: Host, image_id: str) -> None:
    try:
        copy = host.find_own(COPY_PREFIX + image_id)
        if copy is not None:
            host.engine.remove(copy.id)
        host.engine.remove_image(f"{snapshot.REPOSITORY}:{image_id}")
    except DockstackError as error:
        LOG.warning("The copy of snapshot %s stays until the next sweep: %s", image_id, error)


def _describe(host: Host, container: Container, source: str, kept: ExitStack) -> Snapshot:
    """Read a root file system, and say what it is as an image.

    Args:
        host: where.
        container: the server's own.
        source: what holds its root file system still.
        kept: gives back what was kept of it until it is sent.
    """
    engine, architecture = host.engine, host.facts().architecture
    made_from = engine.image(container.image_id)
    process = snapshot.build_process(made_from.config if made_from else {}, engine.process(container.id))
    layer = host.images.measure(lambda: engine.export(source), kept)
    comment = f"a snapshot of server {container.server_uuid}"
    configuration = snapshot.build_configuration(layer, process, architecture, comment)
    return Snapshot(
        architecture=architecture,
        disk_gb=snapshot.needed_disk_gb(layer.size),
        settings=snapshot.describe_process(process),
        archive=lambda: hybrid_archive(configuration, [layer]),
    )
