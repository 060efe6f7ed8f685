# SPDX-License-Identifier: Apache-2.0
"""The engine baseline: what `docker run` costs for the same image, without network and without OpenStack."""

from __future__ import annotations

import io
import os
import tarfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import docker
from docker import errors as engine_errors
from dockstack.bench.model import EngineRun
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABEL = "dockstack.bench"
ENGINE_SECONDS = 120
CHUNK = 1 << 20


class EngineBaseline:
    """Times the machine's engine through the low-level SDK (about 1 ms a call; no client process is started)."""

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

    def time_run(self, image: str) -> EngineRun:
        """Create, start and remove one container of an image."""
        started = time.monotonic()
        container = self._create(image)
        try:
            self._api.start(container["Id"])
            running = time.monotonic()
        finally:
            removing = time.monotonic()
            self._api.remove_container(container["Id"], force=True)
        return EngineRun(running - started, time.monotonic() - removing)

    def time_snapshot(self, image: str, size: int, archive: Path) -> tuple[str, float]:
        """Make an image of a container that has written random bytes, and save it.

        Args:
            image: what the container is made from.
            size: how much it has written, MiB.
            archive: the file to save to.

        Returns:
            The new image's id, and the seconds of commit and save.
        """
        container = self._create(image)["Id"]
        try:
            self._api.put_archive(container, "/", _tar_of_random(size))
            started = time.monotonic()
            made = str(self._api.commit(container, changes=f"LABEL {LABEL}=raw")["Id"])
            with archive.open("wb") as file:
                for chunk in self._api.get_image(made, chunk_size=CHUNK):
                    file.write(chunk)
            return made, time.monotonic() - started
        finally:
            self._api.remove_container(container, force=True)

    def time_load(self, archive: Path) -> float:
        """Load an archive, and return the seconds that it takes."""
        started = time.monotonic()
        with archive.open("rb") as file:
            for message in self._api.load_image(file):  # type: ignore[no-untyped-call]
                if "error" in message:
                    raise DockstackError("The engine does not load its own archive.", details=str(message["error"]))
        return time.monotonic() - started

    def forget(self, image: str) -> None:
        """Remove an image with all its names, if it is there and nothing runs from it."""
        with suppress(engine_errors.NotFound):
            found = self._api.inspect_image(image)  # type: ignore[no-untyped-call]
            for name in found["RepoTags"] or [image]:
                self._api.remove_image(name)

    def write(self, server_id: str, size: int) -> None:
        """Have a server write random bytes, MiB, and wait until it has."""
        self.execute(server_id, ["dd", "if=/dev/urandom", "of=/bench", "bs=1M", f"count={size}"])

    def execute(self, server_id: str, line: list[str]) -> str:
        """Run a program in a server as root, and return what it said.

        Raises:
            DockstackError: it failed.
        """
        run = self._api.exec_create(f"nova-{server_id}", line, user="0")
        said = self._api.exec_start(run["Id"]).decode(errors="replace")
        if self._api.exec_inspect(run["Id"])["ExitCode"]:
            raise DockstackError(
                f"Server {server_id} could not do what it was to: {' '.join(line)}.",
                "Is its disk or the engine's full?",
                said,
            )
        return str(said)

    def put(self, server_id: str, path: Path, place: Path) -> None:
        """Give a server a file of this machine, in a place where it has none."""
        with suppress(engine_errors.NotFound):
            self._api.get_archive(f"nova-{server_id}", str(place))
            return
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(path.resolve(), arcname=str(place))
        self._api.put_archive(f"nova-{server_id}", "/", buffer.getvalue())

    def leftovers(self) -> Iterator[str]:
        """Yield the containers that a killed run left."""
        for container in self._api.containers(all=True, filters={"label": LABEL}):
            yield container["Id"]

    def clean(self) -> None:
        """Remove what a killed run left."""
        for container in self.leftovers():
            self._api.remove_container(container, force=True)
        for image in self._api.images(filters={"label": f"{LABEL}=raw"}, quiet=True):
            self.forget(image)


def _tar_of_random(size: int) -> bytes:
    """Return an archive of one file of random bytes, MiB."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("bench")
        entry.size = size << 20
        archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    return buffer.getvalue()
