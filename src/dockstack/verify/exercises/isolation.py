# SPDX-License-Identifier: Apache-2.0
"""Tenants cannot see, control or reach each other's servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import answers_ping, wait_until
from dockstack.verify.resources import fixed_address, make_guest, pinging_shell
from dockstack.verify.tenants import make_tenant

if TYPE_CHECKING:
    from collections.abc import Callable


# Both lie in the range for documentation and tests of RFC 2544, which no one routes.
CIDR_A, CIDR_B = "198.18.1.0/24", "198.18.2.0/24"


def keep_apart(ctx: Context) -> None:
    """Two projects with open security groups reach each other neither through the API nor by packets."""
    ctx.say("making two projects with networks of their own")
    victim_tenant = make_tenant(ctx, "a", CIDR_A)
    stranger_tenant = make_tenant(ctx, "b", CIDR_B)
    victim = make_guest(ctx, what="victim", tenant=victim_tenant)
    stranger = make_guest(ctx, what="stranger", tenant=stranger_tenant)
    ctx.say("the stranger asks Nova about the other's server")
    compute = stranger_tenant.connection.compute
    for verb, call in forbidden_calls(compute, victim.server.id).items():
        expect_not_found(verb, call)
    if victim.server.id in {server.id for server in compute.servers()}:
        raise CheckFailed("The list of servers shows a server of another project.")
    address = fixed_address(victim_tenant.connection, victim.server.id)
    wait_until(lambda: answers_ping(victim.address), ctx.timeouts.answer, "the other project's server to be up")
    pinger = pinging_shell(ctx, stranger)
    ctx.say(f"the stranger's server sends packets to {address}")
    if pinger.attempt(f"ping -c 3 -W 1 {address}").status == 0:
        raise CheckFailed(f"A server of one project reaches {address} on another project's network.")
    if stranger.shell.attempt(f"echo | nc -w 3 {address} 22").output.startswith("SSH-"):
        raise CheckFailed(f"A server of one project reaches TCP port 22 of {address} on another project's network.")


def forbidden_calls(compute: Any, server_id: str) -> dict[str, Callable[[], object]]:
    """What a stranger may try."""
    return {
        "show": lambda: compute.get_server(server_id),
        "read the console log of": lambda: compute.get_server_console_output(server_id),
        "stop": lambda: compute.stop_server(server_id),
        "reboot": lambda: compute.reboot_server(server_id, "HARD"),
        "delete": lambda: compute.delete_server(server_id, ignore_missing=False),
    }


def expect_not_found(verb: str, call: Callable[[], object]) -> None:
    """The answer has to be 404, as if there were no such server."""
    try:
        call()
    except sdk_errors.NotFoundException:
        return
    except sdk_errors.HttpException as error:
        raise CheckFailed(
            f"Nova answered {error.status_code}, not 404, when a stranger wanted to {verb} a server.",
            "Any other answer tells strangers that the server exists.",
        ) from error
    raise CheckFailed(f"Nova let a stranger {verb} another project's server.")


ISOLATION = Exercise(
    "isolation",
    "A tenant neither sees nor reaches another's server",
    keep_apart,
    LOGIN_NEEDS | {Capability.ADMIN},
)
