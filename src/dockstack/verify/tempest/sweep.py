# SPDX-License-Identifier: Apache-2.0
"""Remove what an interrupted run, or a failed test, left behind.

All of it has our prefix, or belongs to projects that Tempest made. Tempest names its projects, users and domains
"tempest-...". Another Tempest run against this cloud does so too, therefore those that exist before a run are noted and
left alone.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.verify.model import CheckFailed
from dockstack.verify.resources import delete_server
from dockstack.verify.sweep import delete_router
from dockstack.verify.tempest.model import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

SERVER_SECONDS = 60.0
ACCOUNT_PREFIX = "tempest-"


@contextmanager
def swept(connection: Any, record: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Remove what an earlier run left, let the body run, and remove what that left, however it ends.

    Args:
        connection: an administrator's.
        record: remembers the accounts of others over a run that is killed.
        say: is told of each thing that is removed.
    """
    if record.exists():
        sweep(connection, frozenset(json.loads(record.read_text())), say)
    foreign = sorted(each.id for kind in _accounts(connection.identity).values() for each in kind)
    record.write_text(json.dumps(foreign))
    try:
        yield
    finally:
        sweep(connection, frozenset(foreign), say)
        record.unlink(missing_ok=True)


def sweep(connection: Any, foreign: Collection[str], say: Callable[[str], None]) -> int:
    """Remove leftovers, servers first because they hold everything else; return how many things there were.

    Args:
        connection: an administrator's.
        foreign: ids of projects, users and domains that are not ours.
        say: called for each thing.
    """
    compute, network, identity = connection.compute, connection.network, connection.identity
    count = 0

    def remove(kind: str, found: Iterable[Any], delete: Callable[[Any], object]) -> None:
        nonlocal count
        for each in list(found):
            count += 1
            say(f"removing {kind} {each.name or each.id}")
            try:
                delete(each)
            except sdk_errors.NotFoundException:
                continue
            except (sdk_errors.SDKException, CheckFailed) as error:
                say(f"could not remove {kind} {each.name or each.id}: {error}")

    accounts = {kind: [each for each in found if each.id not in foreign] for kind, found in _accounts(identity).items()}
    owners = {project.id for project in accounts["project"]}

    def owned(found: Iterable[Any]) -> Iterator[Any]:
        return (each for each in found if _owner(each) in owners or _is_ours(each))

    remove("server", owned(compute.servers(all_projects=True)), lambda each: _delete_server(connection, each))
    remove("server group", owned(compute.server_groups(all_projects=True)), compute.delete_server_group)
    remove("floating IP", owned(network.ips()), network.delete_ip)
    remove("router", owned(network.routers()), lambda each: delete_router(connection, each))
    remove("port", _free(owned(network.ports())), network.delete_port)
    remove("network", owned(network.networks()), network.delete_network)
    remove("subnet pool", owned(network.subnet_pools()), network.delete_subnet_pool)
    remove("security group", owned(network.security_groups()), network.delete_security_group)
    remove("image", owned(connection.image.images()), connection.image.delete_image)
    remove("aggregate", _ours(compute.aggregates()), lambda each: _delete_aggregate(compute, each))
    remove("flavor", _ours(compute.flavors(is_public=None)), compute.delete_flavor)
    remove("key pair", _ours(compute.keypairs()), compute.delete_keypair)
    remove("user", accounts["user"], identity.delete_user)
    remove("project", accounts["project"], identity.delete_project)
    remove("domain", accounts["domain"], lambda each: _delete_domain(identity, each))
    return count


def _owner(each: Any) -> str | None:
    """Return the project that a thing belongs to; the SDK calls an image's its owner."""
    return getattr(each, "owner", None) or getattr(each, "project_id", None)


def _is_ours(each: Any) -> bool:
    return (each.name or "").startswith(PREFIX)


def _ours(found: Iterable[Any]) -> Iterator[Any]:
    return (each for each in found if _is_ours(each))


def _accounts(identity: Any) -> dict[str, list[Any]]:
    """List what Tempest, ours or another one, made in Keystone, by kind."""
    listed = {"user": identity.users(), "project": identity.projects(), "domain": identity.domains()}
    return {kind: [each for each in found if each.name.startswith(ACCOUNT_PREFIX)] for kind, found in listed.items()}


def _delete_domain(identity: Any, domain: Any) -> None:
    identity.update_domain(domain, is_enabled=False)
    identity.delete_domain(domain)


def _free(ports: Iterable[Any]) -> Iterator[Any]:
    """Leave out the ports that go with their network or router."""
    return (port for port in ports if not (port.device_owner or "").startswith("network:"))


def _delete_server(connection: Any, server: Any) -> None:
    if server.is_locked:
        connection.compute.unlock_server(server)
    delete_server(connection, server.id, SERVER_SECONDS)


def _delete_aggregate(compute: Any, aggregate: Any) -> None:
    for host in aggregate.hosts or ():
        compute.remove_host_from_aggregate(aggregate, host)
    compute.delete_aggregate(aggregate)
