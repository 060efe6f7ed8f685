# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by server; they outlive the containers, so that NICs survive a reboot."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.compute.privileged import network as privileged
from dockstack.errors import DockstackError
from dockstack.names import NAME_PREFIX, namespace_name

if TYPE_CHECKING:
    from collections.abc import Iterator


class NamespaceError(DockstackError):
    """The kernel refused to make, enter or remove a network namespace."""


@dataclass(frozen=True)
class Interface:
    """A server's NIC as the kernel sees it."""

    name: str
    mac: str
    mtu: int
    up: bool
    addresses: tuple[str, ...]  # with prefix length, link-local ones included


def path(server_uuid: str) -> str:
    """Return the namespace's path, for the runtime's patch."""
    return str(privileged.NAMESPACES / namespace_name(server_uuid))


def prepare(server_uuid: str) -> str:
    """Make the server's namespace if it is missing, loopback up, and return its path."""
    with _explained(f"preparing the network namespace of server {server_uuid}"):
        privileged.create_namespace(namespace_name(server_uuid))
    return path(server_uuid)


def remove(server_uuid: str) -> None:
    """Remove the server's namespace; absent is success."""
    with _explained(f"removing the network namespace of server {server_uuid}"):
        privileged.delete_namespace(namespace_name(server_uuid))


def present() -> tuple[str, ...]:
    """Return the servers that have a namespace on this host, for the sweep of strays; needs no root."""
    try:
        found = [entry.name for entry in privileged.NAMESPACES.iterdir()]
    except FileNotFoundError:  # none was ever made since the machine started
        return ()
    return tuple(sorted(name.removeprefix(NAME_PREFIX) for name in found if name.startswith(NAME_PREFIX)))


def interfaces(server_uuid: str) -> tuple[Interface, ...]:
    """Describe the server's NICs; none if there is no namespace."""
    with _explained(f"looking at the NICs of server {server_uuid}"):
        found = privileged.interfaces(namespace_name(server_uuid))
    return tuple(
        Interface(entry["name"], entry["mac"], entry["mtu"], entry["up"], tuple(entry["addresses"])) for entry in found
    )


@contextmanager
def _explained(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NamespaceError(
            f"The kernel refused {action}: {error.strerror or error}.",
            "Check that nova-compute's privsep helper runs as root and that /run/netns is no leftover of another kind.",
        ) from error
