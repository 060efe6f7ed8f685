# SPDX-License-Identifier: Apache-2.0
"""Calls to the engine, one method each."""

from __future__ import annotations

import contextlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import docker.errors

from dockstack.compute.engine import faults
from dockstack.compute.engine.faults import Conflict, ImageUnusable, NotFound, message_of, translated
from dockstack.compute.engine.files import Files
from dockstack.compute.engine.images import Images
from dockstack.compute.engine.records import Container, EngineInfo, Execution
from dockstack.compute.engine.streams import EVENT_KINDS, EventStream, converse, tail
from dockstack.compute.engine.terminals import Terminals
from dockstack.names import UUID_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dockstack.compute.engine.records import ContainerSpec

_EXIT_ROUND = 0.02  # seconds between two looks whether a command has ended
_LOG_LINES = (2_000, 200_000)  # a console tail needs one round if lines are of usual length, else a second


class Engine(Images, Files):
    """A Docker engine."""

    def info(self) -> EngineInfo:
        """Describe the engine and its machine."""
        with translated("asking for its description"):
            said = self._client().info()
            version = self._client().version()
        return EngineInfo(
            name=said["Name"],
            version=said["ServerVersion"],
            api_version=version["ApiVersion"],
            cpus=said["NCPU"],
            memory_bytes=said["MemTotal"],
            root_directory=said["DockerRootDir"],
            storage_driver=said["Driver"],
            kernel=said["KernelVersion"],
            architecture=said["Architecture"],
            cgroup_version=int(said.get("CgroupVersion") or 1),
            runtimes=tuple(sorted(said.get("Runtimes") or {})),
            live_restore=bool(said.get("LiveRestoreEnabled")),
            security_options=tuple(said.get("SecurityOptions") or ()),
        )

    def ping(self) -> None:
        """Return if the engine answers.

        Raises:
            EngineUnavailable: it does not.
        """
        with translated("a ping"):
            self._client().ping()

    def containers(self, labels: Mapping[str, str] | None = None) -> tuple[Container, ...]:
        """List the containers of ours in every state, in one call however many there are.

        Args:
            labels: further labels that must match.
        """
        wanted = [UUID_LABEL, *(f"{key}={value}" for key, value in (labels or {}).items())]
        with translated("listing containers"):
            entries = self._client().containers(all=True, filters={"label": wanted})
        return tuple(found for found in map(Container.of_listing, entries) if found.ours)

    def container(self, name: str) -> Container:
        """Describe one container, by name or id.

        Raises:
            NotFound: there is none.
        """
        with translated(f"looking at container {name}"):
            return Container.of_inspection(self._client().inspect_container(name))

    def create(self, name: str, spec: ContainerSpec) -> str:
        """Create a container and return its id; it does not run yet.

        Raises:
            Conflict: the name is taken.
            ImageUnusable: the engine cannot make a container from this image.
            NotFound: the image is not in the engine.
        """
        with translated(f"creating container {name}"):
            try:
                return str(self._client().create_container_from_config(spec.body(), name)["Id"])
            except docker.errors.APIError as error:
                raise _blame_image(f"creating container {name}", error) from error

    def start(self, name: str, timeout: int | None = None) -> None:
        """Start a container; one that runs already is fine.

        Args:
            name: the container.
            timeout: seconds until we give up; the engine's timeout if None.

        Raises:
            ImageUnusable: the image's command does not exist or cannot be executed.
        """
        with translated(f"starting container {name}"):
            try:
                if timeout is None:
                    self._client().start(name)
                    return
                with contextlib.closing(self._connect(timeout)) as client:
                    client.start(name)
            except docker.errors.APIError as error:
                raise _blame_image(f"starting container {name}", error) from error

    def stop(self, name: str, timeout: int) -> None:
        """Send the stop signal, wait ``timeout`` seconds, kill; one that is stopped is fine."""
        with translated(f"stopping container {name}"):
            self._client().stop(name, timeout=timeout)

    def kill(self, name: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the first process.

        Raises:
            Conflict: the container does not run.
        """
        with translated(f"sending {signal} to container {name}"):
            self._client().kill(name, signal)

    def pause(self, name: str) -> None:
        """Freeze every process.

        Raises:
            Conflict: it does not run, or is paused already.
        """
        with translated(f"pausing container {name}"):
            self._client().pause(name)

    def unpause(self, name: str) -> None:
        """Thaw every process.

        Raises:
            EngineError: it is not paused; for this the engine has no status of its own.
        """
        with translated(f"unpausing container {name}"):
            self._client().unpause(name)

    def remove(self, name: str) -> None:
        """Kill and remove a container with its anonymous volumes; return when it is gone, absent is success."""
        try:
            with translated(f"removing container {name}"):
                self._client().remove_container(name, v=True, force=True)
        except NotFound:
            return
        except Conflict:  # somebody else's removal is under way
            self._wait_removed(name)

    def rename(self, name: str, new_name: str) -> None:
        """Give a container another name.

        Raises:
            Conflict: the new name is taken.
        """
        with translated(f"renaming container {name} to {new_name}"):
            self._client().rename(name, new_name)

    def update(self, name: str, limits: Mapping[str, Any]) -> None:
        """Change limits of a container, running or not (see containers/limits.py).

        Raises:
            EngineError: refused, for example memory below what is in use.
        """
        with translated(f"changing the limits of container {name}"):
            client = self._client()
            url = f"{client.base_url}/v{client.api_version}/containers/{name}/update"
            answer = client.post(url, json=dict(limits), timeout=self.timeout)
        if not answer.ok:
            raise faults.of_status(
                f"changing the limits of container {name}", answer.status_code, message_of(answer.content)
            )

    def logs(self, name: str, tail_bytes: int) -> bytes:
        """Return the last bytes that the container's processes wrote, at most ``tail_bytes``."""
        kept = b""
        with translated(f"reading the log of container {name}"):
            for lines in _LOG_LINES:
                stream = self._client().logs(name, stream=True, follow=False, tail=lines)
                kept, complete = tail(stream, tail_bytes, lines)
                if complete:
                    break
        return kept

    def execute(
        self,
        name: str,
        command: Iterable[str],
        *,
        user: str = "",
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout: int | None = None,
        output_bytes: int = 1 << 20,
    ) -> Execution:
        """Run a command inside a running container and wait for it.

        Args:
            name: the container.
            command: the argument vector; no shell is involved.
            user: who runs it; empty for the image's user.
            stdin: what it reads.
            environment: further variables.
            timeout: seconds until we give up; the engine's timeout if None.
            output_bytes: how much of the output to keep; the end wins.

        Raises:
            Conflict: the container does not run, or is paused.
            EngineUnavailable: the command did not finish in time.
        """
        with translated(f"running a command in container {name}"):
            client = self._client()
            made = client.exec_create(
                name,
                list(command),
                stdin=bool(stdin),
                user=user,
                environment=dict(environment or {}) or None,
            )
            deadline = time.monotonic() + (timeout or self.timeout)
            output = converse(client, made["Id"], stdin, timeout or self.timeout, output_bytes)
            return Execution(_await_exit(client, made["Id"], deadline), output)

    def events(self, since_ns: int | None = None) -> EventStream:
        """Follow the events of containers of ours.

        Args:
            since_ns: begin with the events of that time (inclusive; the engine remembers 256); None: now.

        The stream itself has no timeout, since silence is its usual state: close it to end it.
        """
        filters = {"type": ["container"], "event": sorted(EVENT_KINDS), "label": [UUID_LABEL]}
        since = None if since_ns is None else f"{since_ns // 10**9}.{since_ns % 10**9:09d}"
        client = self._connect(self.timeout)
        with translated("following events"):
            client.ping()  # a hung engine shows here, where there is a timeout
            return EventStream(client.events(since=since, filters=filters, decode=True))

    def terminals(self) -> Terminals:
        """Return the calls for consoles, for one thread."""
        return Terminals(self.base_url, self.timeout)

    def _wait_removed(self, name: str) -> None:
        try:
            with translated(f"waiting for the removal of container {name}"):
                self._client().wait(name, timeout=self.timeout, condition="removed")
        except NotFound:
            return


def _await_exit(client: Any, execution: str, deadline: float) -> int:
    """Wait for a command's exit code.

    The end of its output is not its end: it may close both streams and run on, and the engine learns of the exit by
    another way than of the output, in no order.

    Raises:
        TimeoutError: it did not end in time.
    """
    while (code := client.exec_inspect(execution)["ExitCode"]) is None:
        if time.monotonic() >= deadline:
            raise TimeoutError("the command closed its output but did not end")
        time.sleep(_EXIT_ROUND)
    return int(code)


def _blame_image(action: str, error: docker.errors.APIError) -> Exception:
    """Status 400 to a create or start that we built means: what the image brought cannot run."""
    if error.status_code != HTTPStatus.BAD_REQUEST:
        return error
    message = error.explanation or str(error)
    return ImageUnusable(
        f"The container engine cannot run this image, at {action}: {message.strip()}",
        "Check the image's command, entry point, user and working directory, and the properties that override them.",
        message,
    )
