# SPDX-License-Identifier: Apache-2.0
"""One compute host: what every flow works with."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.engine import Engine
from dockstack.compute.flows.audit import Audit
from dockstack.compute.images.fetch import ImageStore
from dockstack.compute.images.streams import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from oslo_config import cfg

    from dockstack.compute.engine import EngineInfo
    from dockstack.compute.model import Image

WORKSPACE = "images"  # below the state directory


class Busy:
    """The servers that a flow of this process is making or unmaking right now; a sweep leaves them alone."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    @contextmanager
    def hold(self, server_uuid: str) -> Iterator[None]:
        """Count the server as busy while the body runs; holds nest."""
        with self._lock:
            self._counts[server_uuid] = self._counts.get(server_uuid, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._counts[server_uuid] -= 1
                if not self._counts[server_uuid]:
                    del self._counts[server_uuid]

    def __contains__(self, server_uuid: str) -> bool:
        with self._lock:
            return server_uuid in self._counts


@dataclass(frozen=True)
class Host:
    """One compute host.

    Attributes:
        name: Nova's name of the host; a label of every container, because several hosts may share an engine.
        engine: the container engine.
        images: the images that the engine has of Glance's.
        audit: the last listing, remembered for a moment.
        busy: the servers that a flow is working on.
        options: the [docker] options.
        facts: what the engine says of itself; asked once, since nothing that is used of it changes while it runs.
    """

    name: str
    engine: Engine
    images: ImageStore
    audit: Audit
    busy: Busy
    options: cfg.GroupAttr
    facts: Callable[[], EngineInfo]


def build_host(name: str, options: cfg.GroupAttr, download: Callable[[Image], Iterable[bytes]]) -> Host:
    """Put a host together; nothing is called yet.

    Args:
        name: Nova's name of it.
        options: the [docker] options.
        download: streams an image's data from Glance.
    """
    engine = Engine(options.host_url, options.timeout)
    unpacked = options.image_max_unpacked_mb << 20
    limits = ImageLimits(
        max_unpacked_bytes=unpacked, max_spooled_bytes=2 * unpacked, max_entries=options.image_max_entries
    )
    return Host(
        name=name,
        engine=engine,
        images=ImageStore(engine, download, Path(options.state_directory) / WORKSPACE, limits),
        audit=Audit(engine, name),
        busy=Busy(),
        options=options,
        facts=cache(engine.info),
    )
