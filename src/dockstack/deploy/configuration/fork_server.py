# SPDX-License-Identifier: Apache-2.0
"""The fork server, and services that it forks; pure. What both do is told in payload/fork_server.py."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import scripts
from dockstack.deploy.paths import LOCK_MARKER, RUN
from dockstack.deploy.supervision.services import Check, CheckKind, Service

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings

NAME = "fork-server"
DIRECTORY = f"{RUN}/{NAME}"
SERVER, SHIM = "fork_server", "fork_shim"
"""The scripts; the recipe puts them where the scripts are."""

COMMON, NOVA, NEUTRON = FAMILIES = "common", "nova", "neutron"
"""The families: each has a process whose memory its services share."""


def service(settings: Settings, group: str, environment: dict[str, str]) -> Service:
    """Return the fork server; ``group``: whoever is in it may have a process forked, as oneself."""
    script = scripts.python_script(SERVER)
    return Service(
        name=NAME,
        title="What Python services are forked from",
        command=(f"{settings.virtualenv}/bin/python", script, DIRECTORY),
        environment=environment,
        prepare=(
            ("install", "-d", "-g", group, "-m", "750", DIRECTORY),
            ("rm", "-f", *(_socket(family) for family in FAMILIES)),  # systemd would take an old one for an answer
        ),
        check=Check(CheckKind.UNIX, _socket(COMMON)),
        watch=(script, LOCK_MARKER, *settings.agent_watch),
    )


def forked(settings: Settings, service: Service, family: str) -> Service:
    """Return a Python service as one that is forked, if the node has a fork server; by itself if that is down."""
    if not settings.fork_server:
        return service
    return replace(
        service,
        command=(*shim(settings, family), *service.command),
        requires=(*service.requires, NAME),
        watch=(*service.watch, *map(scripts.python_script, (SERVER, SHIM))),
    )


def shim(settings: Settings, family: str) -> tuple[str, ...]:
    """Return the words that have a Python command forked."""
    return (f"{settings.virtualenv}/bin/python", "-I", "-S", scripts.python_script(SHIM), _socket(family))


def _socket(family: str) -> str:
    return f"{DIRECTORY}/{family}.sock"
