# SPDX-License-Identifier: Apache-2.0
"""``dockstack node drain | undrain``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.node_hosts import Hosts, administrator_option, host_options, required_cloud
from dockstack.cli.node_report import error_plain
from dockstack.cli.node_run import failed, run
from dockstack.deploy.join.journal import Journal, Step
from dockstack.deploy.run.events import Event, Kind
from dockstack.display import printable
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.cli.node_run import Parts
    from dockstack.deploy.administration.draining import Drained
    from dockstack.deploy.wanted.inventory import Node

AT_ONCE = 2
INTERRUPTED = (
    "Hosts that were begun with stay disabled; servers on their way go on, and wait where they arrive until "
    "`dockstack node drain` runs again. `dockstack node undrain` lets servers come to the hosts again."
)


@click.command(short_help="Empty nodes: their servers move elsewhere.")
@host_options
@administrator_option
@click.option("--reason", default="", help="Why, for whoever looks at the compute service.")
@click.option(
    "--moves", type=click.IntRange(1), default=AT_ONCE, show_default=True, help="How many servers of a host at a time."
)
@click.option(
    "--resizes",
    type=click.Choice(["confirm", "revert", "leave"]),
    default="confirm",
    show_default=True,
    help="What becomes of resizes that wait for their users' word; those that are left keep their room here.",
)
@click.option(
    "--patience", type=click.IntRange(1), default=3600, show_default=True, help="Seconds for one server to move."
)
def drain(*, hosts: Hosts, os_cloud: str | None, reason: str, moves: int, resizes: str, patience: int) -> None:
    """Empty hosts: disable them, settle resizes, move their servers elsewhere by cold migration; safe to run again.

    A server that moves is stopped for that time, and runs again where the scheduler has sent it. Who cannot move is
    named, with the reason and what to do; all others move. The hosts stay disabled until `undrain`.

    Kill this at any moment and run it again: what is under way goes on, and what waits for a word gets it then. Exit
    status 0: all are empty; 1: somebody is still there.
    """
    from dockstack.deploy.administration.draining import Draining, Resizes  # noqa: PLC0415 - loads the SDK

    hosts.require_named("drain")
    draining = Draining(required_cloud(hosts, os_cloud), moves, Resizes(resizes), float(patience))
    journal = Journal()

    def close(node: Node, tell: Callable[[Event], None]) -> str:
        tell(Event(Kind.SAY, text="Disabling it"))
        hostname = hosts.hostname(node, journal)
        journal.now(node.name, Step.DRAINING)
        draining.close(hostname, reason)
        return hostname

    closed = run(hosts, hosts.nodes, close, closed_line, INTERRUPTED)

    def work(node: Node, tell: Callable[[Event], None]) -> Drained:
        done = draining.drain(str(closed[node.name]), lambda text: tell(Event(Kind.SAY, text=text)))
        if done.unmoved:
            cure = "`dockstack node drain` again tells each, and why."
            journal.now(node.name, Step.FAILED, f"{len(done.unmoved)} servers could not move.", cure)
        else:
            journal.now(node.name, Step.DRAINED)
        return done

    reached = [node for node in hosts.nodes if not isinstance(closed[node.name], DockstackError)]
    found = run(hosts, reached, work, drained_line, INTERRUPTED)
    refused = {name: one for name, one in closed.items() if isinstance(one, DockstackError)}
    hosts.end(found | refused, drained_plain)
    sys.exit(0 if not refused and all(is_empty(outcome) for outcome in found.values()) else 1)


def closed_line(outcome: str | DockstackError) -> Parts:
    """Return what is said of a host on which nothing more is placed."""
    return failed(outcome) if isinstance(outcome, DockstackError) else ("disabled",)


def is_empty(outcome: Drained | DockstackError) -> bool:
    """Tell whether nobody is on a host any more."""
    return not isinstance(outcome, DockstackError) and not outcome.unmoved


def drained_line(outcome: Drained | DockstackError) -> Parts:
    """Return what is said of a host that is through."""
    if isinstance(outcome, DockstackError):
        return failed(outcome)
    moved = f"{len(outcome.moved)} servers have moved"
    if not outcome.unmoved:
        return ("empty", "green"), f": {moved}; disabled until `dockstack node undrain`"
    stay = "".join(f"\n  {printable(each.server)}: {printable(each.why)}\n    {each.cure}" for each in outcome.unmoved)
    return ("not empty", "red"), f": {moved}, {len(outcome.unmoved)} cannot{stay}"


def drained_plain(outcome: Drained | DockstackError) -> dict[str, Any]:
    """Return what came of a host as plain data."""
    if isinstance(outcome, DockstackError):
        return {"empty": False, **error_plain(outcome)}
    return {"empty": is_empty(outcome), **asdict(outcome)}


@click.command(short_help="Let servers come to nodes again.")
@host_options
@administrator_option
def undrain(*, hosts: Hosts, os_cloud: str | None) -> None:
    """Let servers come to hosts again that were drained, or disabled for another reason.

    A host whose nova-compute does not report is refused. Exit status 0: all are enabled; 1: one is not.
    """
    from dockstack.deploy.administration.draining import undrain as enable  # noqa: PLC0415 - loads the SDK

    hosts.require_named("undrain")
    cloud, journal = required_cloud(hosts, os_cloud), Journal()

    def work(node: Node, tell: Callable[[Event], None]) -> bool:
        del tell
        changed = enable(cloud, hosts.hostname(node, journal))
        journal.now(node.name, Step.ENABLED)
        return changed

    found = run(hosts, hosts.nodes, work, undrained_line, "Run `dockstack node undrain` again.")
    hosts.end(found, undrained_plain)
    sys.exit(0 if not any(isinstance(outcome, DockstackError) for outcome in found.values()) else 1)


def undrained_line(outcome: bool | DockstackError) -> Parts:
    """Return what is said of a host that is through."""
    if isinstance(outcome, DockstackError):
        return failed(outcome)
    return ("enabled", "green"), "" if outcome else ", as it was"


def undrained_plain(outcome: bool | DockstackError) -> dict[str, Any]:
    """Return what came of a host as plain data."""
    if isinstance(outcome, DockstackError):
        return {"enabled": False, **error_plain(outcome)}
    return {"enabled": True, "changed": outcome}
