# SPDX-License-Identifier: Apache-2.0
"""``dockstack node remove``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.node_hosts import Hosts, administrator_option, host_options, required_cloud
from dockstack.cli.node_peers import acquaint, show_unmet, unmet_plain
from dockstack.cli.node_report import error_plain
from dockstack.cli.node_run import failed, run
from dockstack.deploy.run.events import Event, Kind
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.cli.node_run import Parts
    from dockstack.deploy.join.leaving import Leaving, Left
    from dockstack.deploy.wanted.inventory import Node


@click.command(short_help="Take nodes out of the cloud and off their machines.")
@host_options
@administrator_option
@click.option("--lost", is_flag=True, help="The machine is dead: have the cloud alone forget it.")
@click.option("--packages", is_flag=True, help="Also purge the distribution's packages that were installed for it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(*, hosts: Hosts, os_cloud: str | None, lost: bool, packages: bool, yes: bool) -> None:
    """Take compute nodes out of the cloud, and all that dockstack has made off their machines; safe to run again.

    A node with servers or moves is refused: `drain` it first. Afterwards the cloud has no service, provider, mapping,
    agent, chassis or place in an aggregate of it, and the machine nothing of ours; containers, images and packages of
    others stay. Nodes that were added from here, and stay, let it in no more.

    With --lost, for a machine that is dead, only the cloud's half is done: the host is forced down, its servers have to
    be evacuated, and then it is forgotten. A host that still reports is refused. Should the machine ever come back, run
    `dockstack clean` there before it reaches the cloud.

    Kill this at any moment and run it again: it goes on. Exit status 0: all are gone; 1: one is not, or one that stays
    was not told.
    """
    from dockstack.deploy.join.leaving import Leaving  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.node.connection import UnreachableError  # noqa: PLC0415

    hosts.require_named("remove")
    leaving = Leaving(required_cloud(hosts, os_cloud))
    names = ", ".join(node.name for node in hosts.nodes)
    if not yes and not click.confirm(f"Remove {names} from the cloud?", default=False, err=True):
        raise DockstackError("Nothing was removed.", "Answer yes, or give --yes.")

    def work(node: Node, tell: Callable[[Event], None]) -> Left:
        def told(text: str) -> None:
            tell(Event(Kind.SAY, text=text))

        if lost:
            return leaving.give_up(node, told)
        try:
            return leaving.leave(node, told, packages=packages)
        except UnreachableError as error:
            raise DockstackError(error.brief, f"{error.resolution} If the machine is dead, give --lost.") from error

    found = run(
        hosts,
        hosts.nodes,
        work,
        removed_line,
        "What a node was told, it does to its end; run `dockstack node remove` again: it goes on from here.",
    )
    unmet = unmet_by(hosts, leaving, found)
    hosts.end(found, removed_plain, unmet=unmet_plain(unmet))
    if not hosts.as_json:
        show_unmet(unmet)
    sys.exit(1 if unmet or any(isinstance(outcome, DockstackError) for outcome in found.values()) else 0)


def unmet_by(hosts: Hosts, leaving: Leaving, found: dict[str, Left | DockstackError]) -> dict[str, DockstackError]:
    """Have the nodes that stay let nobody in who is gone; return where that failed."""
    if all(isinstance(outcome, DockstackError) for outcome in found.values()):
        return {}
    staying = [node for node in hosts.nodes if leaving.peers.knows(node.name)]
    return {
        name: DockstackError(f"It may let in a node that is gone: {error.brief}", error.resolution, error.details)
        for name, error in acquaint(hosts, leaving.peers, leaving.journal, staying).items()
    }


def removed_line(outcome: Left | DockstackError) -> Parts:
    """Return what is said of a host that is through."""
    if isinstance(outcome, DockstackError):
        return failed(outcome)
    return ("removed", "green"), "" if outcome.changed else ": nothing of it was there"


def removed_plain(outcome: Left | DockstackError) -> dict[str, Any]:
    """Return what came of a host as plain data."""
    if isinstance(outcome, DockstackError):
        return {"removed": False, **error_plain(outcome)}
    return {"removed": True, **asdict(outcome)}
