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
SCRIPTS = (scripts.python_script(SERVER), scripts.python_script(SHIM))

COMMON, NOVA, NEUTRON = FAMILIES = "common", "nova", "neutron"
"""The families: each has a process whose memory its services share."""


def service(settings: Settings, environment: dict[str, str]) -> Service:
    """Return the fork server; root alone may have it fork."""
    script = scripts.python_script(SERVER)
    return Service(
        name=NAME,
        title="What Python services are forked from",
        command=(f"{settings.virtualenv}/bin/python", script, DIRECTORY),
        environment={**environment, "HOME": DIRECTORY},  # modules make caches there while they are imported
        prepare=(
            ("install", "-d", "-o", "root", "-g", "root", "-m", "700", DIRECTORY),
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
        shim=(f"{settings.virtualenv}/bin/python", "-I", "-S", scripts.python_script(SHIM), _socket(family)),
        requires=(*service.requires, NAME),
        # What the server watches, too: it starts anew, and the services after it.
        watch=tuple(dict.fromkeys((*service.watch, *SCRIPTS, *settings.agent_watch))),
    )


def _socket(family: str) -> str:
    return f"{DIRECTORY}/{family}.sock"
