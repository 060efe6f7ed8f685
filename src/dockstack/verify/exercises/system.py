# SPDX-License-Identifier: Apache-2.0
"""A system server: Debian with systemd and cloud-init, as `dockstack image build debian` makes its image."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.exercises.power import START_OF_INIT, Interface
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import make_guest, open_shell, wait_for_status

if TYPE_CHECKING:
    from dockstack.verify.resources import Guest
    from dockstack.verify.shell import Shell

USER = "debian"
_PATIENCE = 3  # how many times longer than the base image such a server may take: its image is fifteen times as large


def system_server(ctx: Context) -> None:
    """A Debian system comes up whole, does what its user data says, and comes back from a reboot of its own."""
    facts, timeouts = ctx.facts, ctx.timeouts
    if facts.system is None:
        raise CheckFailed("The cloud has no image of a system.")  # the runner skips this exercise then
    ctx.facts = replace(facts, image_id=facts.system.image_id, flavor_id=facts.system.flavor_id, login_user=USER)
    ctx.timeouts = replace(
        timeouts,
        active=_PATIENCE * timeouts.active,
        answer=_PATIENCE * timeouts.answer,
        command=_PATIENCE * timeouts.command,
    )
    token = secrets.token_hex(8)
    guest = make_guest(
        ctx,
        user_data=f"#cloud-config\nwrite_files: [{{path: /etc/verify, content: {token}}}]\n"
        "runcmd: [[sh, -c, 'id -un >/etc/verify-ran']]\n",
    )
    require_whole(ctx, guest.shell)
    expect(guest.shell.run("cat /etc/verify"), token, "the file that the user data wrote")
    expect(guest.shell.run("cat /etc/verify-ran"), "root", "who ran the user data's command")
    expect(guest.shell.run("hostname -s"), guest.server.hostname, "the host name")
    interface, started = Interface.read(guest.shell), guest.shell.run(START_OF_INIT)
    ctx.say("rebooting it from inside")
    guest.shell.run("sudo systemd-run --quiet --on-active=1 systemctl reboot")
    shell = wait_until(
        lambda: log_in_anew(ctx, guest, started),
        ctx.timeouts.answer,
        "a login after the server has rebooted itself",
        "Is it SHUTOFF (`openstack server show`)? The console log says how far it came.",
    )
    wait_for_status(ctx.connection, guest.server.id, "ACTIVE", ctx.timeouts.active)
    require_whole(ctx, shell)
    expect(Interface.read(shell), interface, "the network interface")


def require_whole(ctx: Context, shell: Shell) -> None:
    """See that cloud-init is done and that systemd has started all that it should."""
    ctx.say("waiting for cloud-init and systemd")
    done = shell.attempt("cloud-init status --wait --long")
    if done.status or "status: done" not in done.output:
        raise CheckFailed(
            "cloud-init is not done.", "Its log is /var/log/cloud-init.log in the server.", done.output[-1000:]
        )
    state = shell.attempt("systemctl is-system-running --wait").output.strip()
    if state != "running":
        failed = shell.attempt("systemctl --failed --no-legend --plain").output
        raise CheckFailed(f"The server's systemd says {state!r}, not 'running'.", "See these units.", failed[-1000:])


def log_in_anew(ctx: Context, guest: Guest, started: str) -> Shell | None:
    """Log in; None as long as the first process is still the old one, or nobody answers."""
    try:
        shell = open_shell(ctx, guest.address, guest.key)
        return shell if shell.run(START_OF_INIT) != started else None
    except CheckFailed:
        return None


SYSTEM = Exercise(
    "system",
    "A Debian system with systemd and cloud-init comes up whole and reboots itself",
    system_server,
    LOGIN_NEEDS | {Capability.DOCKER, Capability.SYSTEM},
)
