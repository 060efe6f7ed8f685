# SPDX-License-Identifier: Apache-2.0
"""Time the engine alone: what `docker run` costs for the same image, without network and without OpenStack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import docker
from docker import errors as engine_errors
from dockstack.bench.model import RawRun
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

LABEL = "dockstack.bench"
ENGINE_SECONDS = 120


class Engine:
    """The machine's engine, through the low-level SDK (about 1 ms a call; no client process is started)."""

    def __init__(self) -> None:
        """Connect to the local engine.

        Raises:
            DockstackError: it does not answer.
        """
        try:
            self._api = docker.APIClient(version="auto", timeout=ENGINE_SECONDS)
            self.version = str(self._api.version()["Version"])
        except (engine_errors.DockerException, OSError) as error:
            raise DockstackError("The engine does not answer here.", "Run on the compute node, as root.") from error

    def image_of(self, server_id: str) -> str:
        """Return the image that a server's container was made from."""
        try:
            return str(self._api.inspect_container(f"nova-{server_id}")["Image"])
        except engine_errors.NotFound as error:
            raise DockstackError(f"Server {server_id} has no container on this machine.") from error

    def time_listing(self) -> float:
        """Return the seconds that one listing of all containers takes, as the compute service's audits make it."""
        started = time.monotonic()
        self._api.containers(all=True)
        return time.monotonic() - started

    def run_idle(self, image: str) -> None:
        """Start one container of an image and leave it running."""
        self._api.start(self._create(image)["Id"])

    def _create(self, image: str) -> dict[str, Any]:
        limits = self._api.create_host_config(network_mode="none")
        return dict(self._api.create_container(image, labels={LABEL: "raw"}, host_config=limits))

    def time_run(self, image: str) -> RawRun:
        """Create, start and remove one container of an image."""
        started = time.monotonic()
        container = self._create(image)
        try:
            self._api.start(container["Id"])
            running = time.monotonic()
        finally:
            removing = time.monotonic()
            self._api.remove_container(container["Id"], force=True)
        return RawRun(running - started, time.monotonic() - removing)

    def leftovers(self) -> Iterator[str]:
        """Yield the containers that a killed run left."""
        for container in self._api.containers(all=True, filters={"label": LABEL}):
            yield container["Id"]

    def clean(self) -> None:
        """Remove what a killed run left."""
        for container in self.leftovers():
            self._api.remove_container(container, force=True)
