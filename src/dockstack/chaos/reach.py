# SPDX-License-Identifier: Apache-2.0
"""Whether servers answer from outside: a floating IP for each, for as long as it takes to ping it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.chaos.cloud import ask
from dockstack.chaos.model import Category, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

EVERY = 0.5


def find_silent(
    connection: Any,
    external_network: str | None,
    label: str,
    servers: Iterable[str],
    *,
    seconds: float,
    answers: Callable[[str], bool],
) -> list[Finding]:
    """Ping servers; return those that do not answer.

    Args:
        connection: to the cloud.
        external_network: where floating IPs come from; without one nobody can be asked.
        label: by which a later run finds a floating IP that this one leaves when it is killed.
        servers: their ids.
        seconds: that each gets to answer.
        answers: pings an address once, from where floating IPs lead to.

    Raises:
        Unanswered: the cloud does not answer.
    """
    if external_network is None:
        return []
    request = {"floating_network_id": external_network, "description": label}
    found = (_ping(connection, request, server, seconds, answers) for server in servers)
    return [finding for finding in found if finding is not None]


def _ping(
    connection: Any, request: dict[str, str], server: str, seconds: float, answers: Callable[[str], bool]
) -> Finding | None:
    ports = ask(lambda: sorted(connection.network.ports(device_id=server), key=lambda port: str(port.created_at)))
    if not ports:
        return Finding(Category.WRONG, "answers ping", server, "it has no port")
    try:
        floating = connection.network.create_ip(port_id=ports[0].id, **request)
    except sdk_errors.SDKException as error:
        return Finding(Category.WRONG, "answers ping", server, f"it gets no floating IP: {error}")
    address, deadline = str(floating.floating_ip_address), time.monotonic() + seconds
    try:
        while not answers(address):
            if time.monotonic() > deadline:
                return Finding(Category.WRONG, "answers ping", server, f"{address} is silent for {seconds:.0f} s")
            time.sleep(EVERY)
    finally:
        ask(lambda: connection.network.delete_ip(floating.id, ignore_missing=True))
    return None
