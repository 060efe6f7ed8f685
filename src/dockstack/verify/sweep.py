# SPDX-License-Identifier: Apache-2.0
"""Find and remove what a killed earlier run left behind: all of it carries our prefix."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.errors import DockstackError
from dockstack.verify.cloud import has_volumes
from dockstack.verify.model import PREFIX
from dockstack.verify.resources import delete_group, delete_server, delete_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@contextmanager
def only_run(cloud: str) -> Iterator[None]:
    """Allow one run at a time on a cloud, because a second one would sweep the first one's resources.

    Raises:
        DockstackError: another run holds the lock; the kernel frees it when that run dies.
    """
    safe = "".join(letter if letter.isalnum() else "-" for letter in cloud)
    with (_own_directory() / f"verify-{safe}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DockstackError(
                f"Another run of the exercises is at work on the cloud {cloud!r}.", "Wait until it has ended."
            ) from error
        yield


def _own_directory() -> Path:
    """Return a directory in which no other user can create a file or a link."""
    directory = Path(os.environ.get("XDG_RUNTIME_DIR") or Path.home() / ".cache") / "dockstack"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def sweep(connection: Any, seconds: float, say: Callable[[str], None], *, admin: bool) -> list[str]:
    """Remove leftovers, servers first because they hold everything else; return what was removed."""
    removed: list[str] = []

    def remove(kind: str, found: Iterable[Any], delete: Callable[[Any], object]) -> None:
        for each in found:
            label = f"{kind} {getattr(each, 'name', None) or each.id}"
            say(f"removing {label}, left over from an earlier run")
            try:
                delete(each)
            except sdk_errors.NotFoundException:
                continue
            removed.append(label)

    everywhere = {"all_projects": True} if admin else {}
    compute, network = connection.compute, connection.network
    remove(
        "server",
        ours(compute.servers(name=f"^{PREFIX}", **everywhere)),
        lambda each: delete_server(connection, each.id, seconds),
    )
    if has_volumes(connection.session):
        remove(
            "volume",
            ours(connection.block_storage.volumes(**everywhere)),
            lambda each: delete_volume(connection, each.id, seconds),
        )
    remove("floating IP", described(network.ips()), lambda each: network.delete_ip(each.id))
    remove("router", ours(network.routers()), lambda each: delete_router(connection, each))
    remove("network", ours(network.networks()), lambda each: network.delete_network(each.id))
    remove("security group", ours(network.security_groups()), lambda each: delete_group(network, each.id, seconds))
    remove("key pair", ours(compute.keypairs()), compute.delete_keypair)
    remove("image", ours(connection.image.images()), lambda each: connection.image.delete_image(each.id))
    if admin:
        sweep_projects(connection, remove)
    return removed


def sweep_projects(connection: Any, remove: Callable[[str, Iterable[Any], Callable[[Any], object]], None]) -> None:
    """Remove our projects with their default security groups, then their users."""
    identity, network = connection.identity, connection.network

    def delete_project(project: Any) -> None:
        for group in network.security_groups(project_id=project.id):
            network.delete_security_group(group.id)
        identity.delete_project(project.id)

    remove("project", ours(identity.projects()), delete_project)
    remove("user", ours(identity.users()), lambda each: identity.delete_user(each.id))


def ours(found: Iterable[Any]) -> list[Any]:
    """Return those with our prefix, as a list: a deletion would shift the pages of a running listing."""
    return [each for each in found if (each.name or "").startswith(PREFIX)]


def described(found: Iterable[Any]) -> list[Any]:
    """Return floating IPs with our prefix in the description, as they have no name."""
    return [each for each in found if (each.description or "").startswith(PREFIX)]


def delete_router(connection: Any, router: Any) -> None:
    """Delete a router's interfaces, then the router."""
    for port in connection.network.ports(device_id=router.id):
        if port.device_owner.startswith("network:router_interface"):
            connection.network.remove_interface_from_router(router.id, port_id=port.id)
    connection.network.delete_router(router.id)
