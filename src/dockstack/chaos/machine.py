# SPDX-License-Identifier: Apache-2.0
"""The hosts that are looked at: their names, their engines' containers, what a server has written."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from typing import Any

from dockstack.chaos import diary
from dockstack.errors import DockstackError
from dockstack.names import EXTRA_HOSTS, NAME_PREFIX, UUID_LABEL, enter_host
from dockstack.verify import host

COMMAND_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """A compute host, of this machine or of another.

    Attributes:
        key: a further host's; empty for the machine itself.
        name: Nova's.
        enter: the words that run a command there.
        apart: its processes have other numbers there than here.
    """

    key: str
    name: str
    enter: tuple[str, ...]
    apart: bool = False


def list_places() -> tuple[Place, ...]:
    """Return the machine's hosts, itself first.

    Raises:
        DockstackError: one does not say its name.
    """
    keys = ["", *sorted(pin.stem for pin in EXTRA_HOSTS.glob("*.mnt"))]
    entrances = [(key, enter_host(key) if key else ()) for key in keys]
    return tuple(
        Place(key, host.ask(*enter, "sed", "-n", host.NAME_LINE, host.NOVA_CONF), enter) for key, enter in entrances
    )


def inspect(place: Place, names: list[str]) -> list[dict[str, Any]]:
    """Return what a host's engine says of containers; those that go away meanwhile are left out.

    Raises:
        DockstackError: the engine does not answer.
    """
    if not names:
        return []
    done = subprocess.run(
        [*place.enter, "docker", "inspect", "--type", "container", *names],
        check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS,
    )  # fmt: skip
    if done.returncode and "No such container" not in done.stderr:
        raise DockstackError(f"The engine of {place.name} does not answer.", details=done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def list_containers(place: Place, server_id: str = "") -> list[dict[str, Any]]:
    """Return the containers of one server, or of all, as the engine shows them."""
    label = f"label={UUID_LABEL}={server_id}" if server_id else f"label={UUID_LABEL}"
    return inspect(place, host.ask(*place.enter, "docker", "ps", "-aq", "--no-trunc", "--filter", label).split())


def read_log(place: Place, server_id: str) -> str:
    """Return what a server has written to its log, whether it runs or not.

    Raises:
        DockstackError: it has no container or no log there, or the engine does not answer.
    """
    command = [*place.enter, "docker", "cp", f"{NAME_PREFIX}{server_id}:{diary.PATH}", "-"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_SECONDS)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            file = archive.extractfile(archive.getmembers()[0])
            return file.read().decode(errors="replace") if file else ""
    except subprocess.CalledProcessError as error:
        raise DockstackError(f"No log of server {server_id} on {place.name}.", details=str(error.stderr)) from error
    except (subprocess.TimeoutExpired, tarfile.TarError, IndexError, UnicodeError) as error:
        raise DockstackError(f"The log of server {server_id} on {place.name} cannot be read: {error}.") from error
