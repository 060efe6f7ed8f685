# SPDX-License-Identifier: Apache-2.0
"""Collect evidence after a failure, before the clean-up: what the cloud knows about the servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors

if TYPE_CHECKING:
    from dockstack.verify.context import Context

CONSOLE_LINES = 15
WHERE_TO_LOOK = (
    "look at: `dockstack status`, `dockstack logs nova-compute`, /var/log/nova/nova-compute.log, "
    "/var/log/neutron/, `docker ps -a --filter label=org.openstack.nova.uuid`"
)


def diagnose(ctx: Context) -> tuple[str, ...]:
    """Collect each server's state, fault, failed actions and the end of its console log."""
    evidence: list[str] = []
    for connection, server_id in ctx.seen:
        try:
            evidence += about_server(connection, server_id)
        except (sdk_errors.SDKException, auth_errors.ClientException) as error:
            evidence.append(f"server {server_id}: the cloud did not say more ({error})")
    return (*evidence, WHERE_TO_LOOK)


def about_server(connection: Any, server_id: str) -> list[str]:
    """Describe one server; nothing if it is gone."""
    try:
        server = connection.compute.get_server(server_id)
    except sdk_errors.NotFoundException:
        return []
    lines = [
        f"server {server.name} ({server_id}): {server.status}, task {server.task_state}",
        f"power state {server.power_state}, host {server.compute_host}",
    ]
    if server.fault:
        lines.append(f"fault: {server.fault.get('message', '')}\n{server.fault.get('details', '')}".strip())
    lines += failed_actions(connection, server)
    lines.append(console_tail(connection, server))
    return lines


def failed_actions(connection: Any, server: Any) -> list[str]:
    """Name the actions that Nova recorded as failed."""
    return [
        f"action {action.action} at {action.start_time}: {action.message}"
        for action in connection.compute.server_actions(server)
        if action.message
    ]


def console_tail(connection: Any, server: Any) -> str:
    """Return the last lines of the console log, or why there are none."""
    try:
        output = connection.compute.get_server_console_output(server, length=CONSOLE_LINES)
    except (sdk_errors.ConflictException, sdk_errors.NotFoundException, sdk_errors.HttpException) as error:
        return f"console log: none ({error})"
    text = (output or {}).get("output", "").strip()
    return f"console log, the last {CONSOLE_LINES} lines:\n{text}" if text else "console log: empty"
