# SPDX-License-Identifier: Apache-2.0
"""A config drive, and a new password for the administrator."""

from __future__ import annotations

import json
import secrets

from openstack import exceptions as sdk_errors

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.resources import make_guest, open_shell, wait_for_status

DRIVE = "/config-drive"


def read_config_drive(ctx: Context) -> None:
    """The drive holds the server's metadata and user data, readable by root only, read-only, also after a reboot."""
    token = secrets.token_hex(8)
    guest = make_guest(ctx, user_data=f"#!/bin/sh\n# {token}\n", config_drive=True)
    shell = guest.shell
    for moment in ("at first", "after a reboot"):
        ctx.say(f"reading the config drive {moment}")
        document = json.loads(shell.run(f"sudo cat {DRIVE}/openstack/latest/meta_data.json"))
        expect(document["uuid"], guest.server.id, "the server's id on its config drive")
        expect(document["hostname"].partition(".")[0], guest.server.hostname, "the host name on the config drive")
        if token not in shell.run(f"sudo cat {DRIVE}/openstack/latest/user_data"):
            raise CheckFailed("The config drive does not hold the server's user data.")
        if shell.attempt(f"sudo touch {DRIVE}/openstack/x").status == 0:
            raise CheckFailed("The server can write on its config drive.")
        if moment == "at first":
            ctx.connection.compute.reboot_server(guest.server.id, "HARD")
            wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)
            shell = open_shell(ctx, guest.address, guest.key)


def change_password(ctx: Context) -> None:
    """The API sets the password of the image's administrator: afterwards su accepts it and no other."""
    guest = make_guest(ctx)
    password = secrets.token_urlsafe(12)
    try:
        ctx.connection.compute.change_server_password(guest.server.id, password)
    except sdk_errors.ConflictException as error:
        raise CheckFailed("Nova cannot set a password in this server.", details=str(error)) from error
    for attempt, let_in in ((password, True), (password + "x", False)):
        answer = guest.shell.attempt(f"echo '{attempt}' | su {ctx.facts.login_user} -c true")
        if (answer.status == 0) != let_in:
            raise CheckFailed(
                f"su {'refused the new password' if let_in else 'took a wrong password'}.", details=answer.output
            )
    wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)


CONFIG_DRIVE = Exercise(
    "config-drive", "A server reads its config drive", read_config_drive, LOGIN_NEEDS | {Capability.DOCKER}
)
PASSWORD = Exercise("password", "A password set through the API lets its owner in", change_password, LOGIN_NEEDS)
