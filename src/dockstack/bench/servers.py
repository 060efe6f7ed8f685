# SPDX-License-Identifier: Apache-2.0
"""Time servers through the API, as a user's client would see them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.bench.model import PREFIX, Boot, Burst
from dockstack.errors import DockstackError
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_SECONDS = 0.1  # the resolution of what we measure; the same for every kind of server
BURST_POLL_SECONDS = 0.5  # one list call a round, whatever the number of servers
LIMIT_SECONDS = 120.0
BURST_LIMIT_SECONDS = 600.0
POSTING_THREADS = 8


@dataclass(frozen=True)
class ServerTemplate:
    """What to boot, and where: on which host of the zone, if that matters."""

    image_id: str
    flavor_id: str
    network_id: str
    zone: str
    host: str | None = None


def post(connection: Any, template: ServerTemplate, name: str) -> Any:
    """Ask for a server; filters have their say on a host that is named, too."""
    where = {"availability_zone": template.zone} | ({"host": template.host} if template.host else {})
    return connection.compute.create_server(
        name=PREFIX + name,
        image_id=template.image_id,
        flavor_id=template.flavor_id,
        networks=[{"uuid": template.network_id}],
        **where,
    )


def time_server(connection: Any, template: ServerTemplate, name: str) -> Boot:
    """Boot and delete one server.

    Raises:
        DockstackError: it did not become ACTIVE or did not go away; it is deleted all the same.
    """
    started = time.monotonic()
    server = post(connection, template, name)
    answered = time.monotonic() - started
    try:
        wait_active(connection, server.id)
        active = time.monotonic() - started
    except BaseException:
        connection.compute.delete_server(server.id, ignore_missing=True)
        raise
    return Boot(answered, active, delete(connection, server.id))


def wait_active(connection: Any, server_id: str) -> None:
    """Poll until a server is ACTIVE."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        server = connection.compute.get_server(server_id)
        if server.status == "ACTIVE":
            return
        if server.status == "ERROR":
            raise DockstackError(
                f"A server of the benchmark went to ERROR: {(server.fault or {}).get('message', 'no fault recorded')}",
                "Run `dockstack verify --only docker`: it tells more.",
            )
        if time.monotonic() > deadline:
            raise DockstackError(f"A server of the benchmark was not ACTIVE within {LIMIT_SECONDS:g} s.")
        time.sleep(POLL_SECONDS)


def delete(connection: Any, server_id: str) -> float:
    """Delete a server; return the seconds until the API answers 404."""
    started = time.monotonic()
    connection.compute.delete_server(server_id)
    while True:
        try:
            connection.compute.get_server(server_id)
        except sdk_errors.NotFoundException:
            return time.monotonic() - started
        if time.monotonic() - started > LIMIT_SECONDS:
            raise DockstackError(f"Server {server_id} was not gone within {LIMIT_SECONDS:g} s after its delete.")
        time.sleep(POLL_SECONDS)


def time_burst(connection: Any, template: ServerTemplate, name: str, count: int, say: Callable[[str], None]) -> Burst:
    """Ask for many servers at once, wait until each is ACTIVE or in ERROR, then delete them all at once."""
    started = time.monotonic()
    post_many(connection, template, name, count)
    settled = wait_settled(connection, name, count, say)
    seconds = time.monotonic() - started
    errors = tuple(fault_of(connection, server) for server in settled if server.status != "ACTIVE")
    deleted = time.monotonic()
    delete_all(connection, name)
    return Burst(count, count - len(errors), errors, seconds, time.monotonic() - deleted)


def post_many(connection: Any, template: ServerTemplate, name: str, count: int) -> None:
    """Ask for many servers from several threads."""
    with ThreadPoolExecutor(POSTING_THREADS) as pool:
        list(pool.map(lambda number: post(connection, template, f"{name}-{number}"), range(count)))


def wait_settled(connection: Any, name: str, count: int, say: Callable[[str], None]) -> list[Any]:
    """Poll the list until no server of a burst is being built; what is still being built then counts as an error."""
    deadline = time.monotonic() + BURST_LIMIT_SECONDS
    while True:
        servers = named(connection, name)
        settled = [server for server in servers if server.status in {"ACTIVE", "ERROR"}]
        say(f"{len(settled)} of {count}")
        if len(settled) >= count or time.monotonic() > deadline:
            return servers
        time.sleep(BURST_POLL_SECONDS)


def fault_of(connection: Any, server: Any) -> str:
    """Say why a server is not ACTIVE."""
    full = connection.compute.get_server(server.id)
    return f"{full.status}: {(full.fault or {}).get('message', 'no fault recorded')}"


@contextmanager
def snapshot(connection: Any, server_id: str, name: str) -> Iterator[Any]:
    """Make an image of a server and yield it when Glance has it all; it is deleted in the end."""
    image = connection.compute.create_server_image(server_id, f"{PREFIX}{name}")
    try:
        yield _wait_kept(connection, image.id)
    finally:
        connection.image.delete_image(image.id, ignore_missing=True)


def _wait_kept(connection: Any, image_id: str) -> Any:
    """Poll until Glance has all of an image, and return it; the client library's own wait looks every two seconds only.

    Raises:
        DockstackError: Nova gave it up, or it was not there within the limit.
    """

    def look() -> Any | None:
        image = connection.image.get_image(image_id)
        return image if image.status == "active" else None

    try:
        kept = wait_for(look, LIMIT_SECONDS, POLL_SECONDS)
    except sdk_errors.NotFoundException as error:  # what fails, Nova removes
        raise DockstackError("An image of the benchmark's server failed.", "Look at nova-compute's log.") from error
    if kept is None:
        raise DockstackError(f"An image of the benchmark's server was not in Glance within {LIMIT_SECONDS:g} s.")
    return kept


def named(connection: Any, name: str = "") -> list[Any]:
    """List the benchmark's servers in all projects."""
    return list(connection.compute.servers(name=f"^{PREFIX}{name}", all_projects=True))


def delete_all(connection: Any, name: str = "") -> None:
    """Delete the benchmark's servers and wait until all are gone.

    Raises:
        DockstackError: some are still there after the limit.
    """
    deadline = time.monotonic() + BURST_LIMIT_SECONDS
    asked: set[str] = set()
    while servers := named(connection, name):
        for server in servers:
            if server.id not in asked:
                connection.compute.delete_server(server.id, ignore_missing=True)
                asked.add(server.id)
        if time.monotonic() > deadline:
            raise DockstackError(
                f"{len(servers)} servers of the benchmark do not go away.", "Look at `dockstack logs nova-compute`."
            )
        time.sleep(BURST_POLL_SECONDS)
