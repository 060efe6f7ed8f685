# SPDX-License-Identifier: Apache-2.0
"""What other hosts have sent of servers, until this host has made containers of it.

A server's parts lie in files, and beside them the payload that says what they make. While a payload is there, the
server's newest files are in the parts, whatever container bears its name: so that container is not started, sent to
another host or made an image of.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.transfer import receiver
from dockstack.compute.transfer.payload import Payload
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.compute.host.host import Host


class Unfinished(DockstackError):  # noqa: N818 - said of the arrival
    """A server's newest files are not in its container yet."""


def find_directory(host: Host) -> Path:
    """Return where this host's receiver puts what it gets."""
    return Path(host.options.state_directory) / "migrations"


def list_servers(host: Host) -> Iterator[str]:
    """List the servers of which something has arrived."""
    return (parts.name for parts in find_directory(host).glob("*-*-*-*-*"))


def keep(host: Host, server_uuid: str, payload: Payload) -> None:
    """Remember, over a restart too, that a server is to be made of what has arrived."""
    receiver.keep_payload(find_directory(host), server_uuid, payload.encode())


def find(host: Host, server_uuid: str) -> Payload | None:
    """Return what a server is still to be made of; None if there is nothing, as for nearly all.

    Raises:
        DockstackError: another version of this driver sent it.
    """
    try:
        text = _payload_path(host, server_uuid).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Payload.decode(text)


def drop(host: Host, server_uuid: str) -> None:
    """Forget what has arrived of a server; nothing is fine."""
    receiver.drop(find_directory(host), server_uuid)


def refuse_unfinished(host: Host, server_uuid: str) -> None:
    """Refuse to work with a server's container while newer files of the server wait to be put into one.

    Raises:
        Unfinished: an arrival was broken off.
    """
    if _payload_path(host, server_uuid).exists():
        raise Unfinished(
            f"Server {server_uuid} has not arrived on this host as a whole: its migration was broken off.",
            f"Reboot it hard, which completes it: `openstack server reboot --hard {server_uuid}`.",
        )


def _payload_path(host: Host, server_uuid: str) -> Path:
    return find_directory(host) / server_uuid / receiver.PAYLOAD
