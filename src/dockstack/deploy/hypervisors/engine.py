# SPDX-License-Identifier: Apache-2.0
"""Where the engine of a node is: the machine's, which others may use too, or one of our own beside it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths

if TYPE_CHECKING:
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.attributes import Attributes

SERVICE = "docker"
MACHINES_SOCKET, MACHINES_DATA_ROOT = "/run/docker.sock", "/var/lib/docker"  # as in the catalogue
DAEMON_JSON, PIDFILE = "/etc/docker/daemon.json", "/run/docker.pid"
OWN_DAEMON_JSON = f"{paths.ETC}/docker.json"
SYSTEM_CONTAINERD = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Engine:
    """An engine's places.

    Attributes:
        own: it is ours alone.
        socket: where it answers.
        data_root: where it keeps what it has.
        default_root: nobody has asked for that place, so the machine's own engine is not told of it.
        daemon_json: its configuration.
        pidfile: of its process.
        unit: the systemd unit that runs it.
        options: of its command, besides socket and pid file.
    """

    own: bool
    socket: str
    data_root: str
    default_root: bool
    daemon_json: str
    pidfile: str
    unit: str
    options: tuple[str, ...] = ()


def engine_of(attributes: Attributes) -> Engine:
    """Return the engine that the attributes ask for."""
    socket, root = attributes.text("docker.socket"), attributes.text("docker.data_root")
    default_root = root == MACHINES_DATA_ROOT
    if not attributes.flag("docker.own"):
        return Engine(
            own=False,
            socket=socket,
            data_root=root,
            default_root=default_root,
            daemon_json=DAEMON_JSON,
            pidfile=PIDFILE,
            unit="docker.service",
        )
    return Engine(
        own=True,
        socket=f"{paths.RUN}/docker.sock" if socket == MACHINES_SOCKET else socket,
        data_root=f"{paths.VAR}/docker" if default_root else root,
        default_root=False,
        daemon_json=OWN_DAEMON_JSON,
        pidfile=f"{paths.RUN}/docker.pid",
        unit=f"dockstack-{SERVICE}.service",
        options=(
            f"--config-file={OWN_DAEMON_JSON}",
            f"--exec-root={paths.RUN}/docker",
            # Servers have networks of their own; rules and bridges of two engines would be in each other's way.
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            # A containerd that both use keeps their containers apart by these.
            *("--containerd-namespace=dockstack", "--containerd-plugins-namespace=dockstack-plugins"),
        ),
    )


def is_own(service: Service) -> bool:
    """Tell whether an engine's recorded service is one beside the machine's."""
    return f"--config-file={OWN_DAEMON_JSON}" in service.command


def to_remember(attributes: Attributes) -> dict[str, Any]:
    """Return the options that a later ``up`` needs even if its command line does not repeat them."""
    return {"docker.own": True} if attributes.flag("docker.own") else {}
