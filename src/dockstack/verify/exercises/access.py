# SPDX-License-Identifier: Apache-2.0
"""Access to a server: SSH, the metadata service, user data, the console log."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from dockstack.verify.context import Context, Exercise
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import boot, make_guest

if TYPE_CHECKING:
    from dockstack.verify.shell import Shell

LOGIN_NEEDS = frozenset({Capability.GUEST, Capability.LOGIN, Capability.FLOATING_IP})
METADATA_URL = "http://169.254.169.254/2009-04-04/meta-data"
CONSOLE_LINES = 10  # what Tempest's console test expects at least (tempest/api/compute/servers/test_server_actions.py)


def log_in_with_key(ctx: Context) -> None:
    """The image's user logs in with the key pair, and the host name is the server's."""
    guest = make_guest(ctx)
    user = guest.shell.run("id -un")
    if user != ctx.facts.login_user:
        raise CheckFailed(f"SSH let us in as {user!r}, not as {ctx.facts.login_user!r}.")
    expect(guest.shell.run("hostname"), guest.server.hostname or guest.server.name, "the host name inside")


def read_metadata(ctx: Context) -> None:
    """The metadata service tells the server its own instance id, host name and key."""
    guest = make_guest(ctx)
    ec2_id = fetch(guest.shell, f"{METADATA_URL}/instance-id")
    if not ec2_id.startswith("i-"):
        raise CheckFailed(f"The metadata service gave the instance id {ec2_id!r}, not one like i-00000001.")
    hostname = fetch(guest.shell, f"{METADATA_URL}/hostname").partition(".")[0]
    expect(hostname, guest.server.hostname or guest.server.name, "the metadata service's host name")
    public = fetch(guest.shell, f"{METADATA_URL}/public-keys/0/openssh-key")
    expect(public.split()[:2], guest.key.public.split()[:2], "the metadata service's public key")
    document = fetch(guest.shell, "http://169.254.169.254/openstack/latest/meta_data.json")
    if guest.server.id not in document:
        raise CheckFailed(f"meta_data.json does not name the server's id {guest.server.id}.", details=document)


def fetch(shell: Shell, url: str) -> str:
    """Fetch a URL inside the server. timeout(1) bounds wget, because its -T crashes in some versions of busybox."""
    return shell.run(
        f"if command -v curl >/dev/null; then curl -fsS -m 10 {url}; else timeout 10 wget -q -O - {url}; fi"
    )


def run_user_data(ctx: Context) -> None:
    """A script that came as user data has run, once."""
    token = secrets.token_hex(8)
    script = f"#!/bin/sh\necho {token} >> /tmp/dockstack-user-data\nchmod 644 /tmp/dockstack-user-data\n"
    guest = make_guest(ctx, user_data=script)

    def written() -> list[str]:
        return guest.shell.attempt("cat /tmp/dockstack-user-data 2>/dev/null").output.split()

    found = wait_until(
        written,
        ctx.timeouts.command,
        "the user data's script to have run",
        "Does the image fetch user data? Its console log says what it did at boot.",
    )
    expect(found, [token], "what the user data's script wrote")


def read_console_log(ctx: Context) -> None:
    """The console log holds what the server wrote while it booted, and a limit on lines is kept."""
    server = boot(ctx)

    def lines(length: int | None = None) -> list[str]:
        answer = ctx.connection.compute.get_server_console_output(server.id, length=length)
        return str((answer or {}).get("output", "")).splitlines()

    wait_until(
        lambda: len(lines()) >= CONSOLE_LINES,
        ctx.timeouts.answer,
        f"{CONSOLE_LINES} lines in the console log",
        "The image's first process has to log to its standard output.",
    )
    few = lines(3)
    if len(few) > 3:  # noqa: PLR2004 - what we asked for
        raise CheckFailed(f"Asked for 3 lines of the console log, Nova gave {len(few)}.", details="\n".join(few))


def expect(found: object, wanted: object, what: str) -> None:
    """Compare, and say both."""
    if found != wanted:
        raise CheckFailed(f"{what[0].upper()}{what[1:]} is {found!r}, not {wanted!r}.")


LOGIN = Exercise("login", "The key pair lets its owner in by SSH", log_in_with_key, LOGIN_NEEDS)
METADATA = Exercise("metadata", "The metadata service answers inside the server", read_metadata, LOGIN_NEEDS)
USER_DATA = Exercise("user-data", "The user data's script runs at boot", run_user_data, LOGIN_NEEDS)
CONSOLE_LOG = Exercise("console-log", "The console log shows the boot", read_console_log, frozenset({Capability.GUEST}))
