# SPDX-License-Identifier: Apache-2.0
"""``dockstack node plan``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.cloud import environment_options
from dockstack.cli.cloud_document import cloud_option, login_options
from dockstack.deploy import paths
from dockstack.deploy.wanted import cloud_document, inventory
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say, say_lines, styled

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.deploy.join.plan import NodePlan
    from dockstack.deploy.wanted.inventory import Node

    Outcome = NodePlan | DockstackError

FORKS = 10
GROUP = "docker_compute"
CURE = "Import the cloud anew (`dockstack cloud import`), or correct the document."


def host_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what every command takes that works on hosts."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines."),
        click.option(
            "--forks", type=click.IntRange(1), default=FORKS, show_default=True, help="How many hosts at a time."
        ),
        click.option(
            "--limit", "limits", multiple=True, metavar="PATTERN", help="Only hosts like this, as in rack1-*."
        ),
        login_options,
        click.option("--group", default=GROUP, show_default=True, help="Whose hosts of the Ansible inventory."),
        click.option("--inventory", "ansible_inventory", help="An Ansible inventory, or its listing as JSON."),
        cloud_option,
        environment_options,
        click.argument("hosts", nargs=-1),
    ):
        function = option(function)
    return function


@click.group()
def node() -> None:
    """Have compute nodes for a cloud that exists.

    HOSTS are [USER@]HOST[:PORT], nodes of the environment file or hosts of an Ansible inventory; without any, all of
    these that are compute nodes and reached over SSH. What they must know of the cloud stands in the cloud document
    (`dockstack cloud import`).
    """


@node.command()
@host_options
@click.option("--diff", is_flag=True, help="Show what would stand in new files, too.")
def plan(
    *,
    hosts: tuple[str, ...],
    environment: str | None,
    assignments: tuple[str, ...],
    path: str,
    limits: tuple[str, ...],
    forks: int,
    ansible_inventory: str | None,
    group: str,
    as_json: bool,
    diff: bool,
    **login: str | None,
) -> None:
    """Show what would change on each host: packages, files, services; nothing is changed.

    What keeps a host from becoming a node is said by name. A host that cannot be reached stops only itself. Exit status
    0: all would do; 1: one would not.
    """
    from dockstack.deploy.join import ansible, fleet, obstacles, targets  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.join.plan import together  # noqa: PLC0415

    document = cloud_document.load(path)
    document.require_usable(CURE)
    obstacles.require_kind(document)
    named = targets.described(hosts, login)
    listed = ansible.read(ansible_inventory, group) if ansible_inventory else {}
    known = inventory.load(
        environment or paths.ENVIRONMENT_FILE, assignments, required=environment is not None, further=named | listed
    )
    nodes = targets.chosen(known, named, limits)
    with Screen(stderr=True).status(f"Looking at {len(nodes)} hosts ...") as status:
        left = [node.name for node in nodes]

        def told(node: Node, _: Outcome) -> None:
            left.remove(node.name)
            status.update(f"Looking at {len(left)} of {len(nodes)} hosts: {' '.join(left[:8])} ...")

        found = together(fleet.each(nodes, forks, lambda node: look(node, document), told))
    if as_json:
        click.echo(json.dumps({name: plain(outcome) for name, outcome in found.items()}, indent=1))
    else:
        for name, outcome in found.items():
            show(name, outcome, whole=diff)
    sys.exit(0 if all(fits(outcome) for outcome in found.values()) else 1)


def look(node: Node, document: cloud_document.CloudDocument) -> NodePlan:
    """Look at a host and say what would change on it."""
    from dockstack.deploy.join import look as looking  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.join.plan import Joining  # noqa: PLC0415
    from dockstack.deploy.node.connection import connect  # noqa: PLC0415

    joining = Joining(node, document)
    connection = connect(node)
    facts = looking.gather(connection, joining.questions(looking.os_release(connection)))
    return joining.plan(facts, looking.read(connection, joining.paths(facts)))


def fits(outcome: Outcome) -> bool:
    """Tell whether a host would do."""
    return not isinstance(outcome, DockstackError) and outcome.fits


def plain(outcome: Outcome) -> dict[str, Any]:
    """Return what came of a host as plain data."""
    if isinstance(outcome, DockstackError):
        return {"fits": False, "error": outcome.brief, "cure": outcome.resolution, "details": outcome.details}
    return {"fits": outcome.fits, "changes": outcome.changes, **asdict(outcome)}


def show(name: str, outcome: Outcome, *, whole: bool) -> None:
    """Print what came of a host; of one that does not fit, only why."""
    screen = Screen()
    if isinstance(outcome, DockstackError):
        screen.print(styled(name, ": ", ("cannot be looked at", "red")))
        say_lines(f"  {outcome.brief}\n  {outcome.details}".rstrip())
        say(f"  what to do: {outcome.resolution}")
        return
    said = f"{outcome.changes} changes" if outcome.fits else "does not fit"
    screen.print(styled(name, f" ({outcome.hostname}): ", (said, "green" if outcome.fits else "red")))
    for problem in outcome.problems:
        say(f"  {'warning: ' if problem.warning else '- '}{problem.brief}")
        say(f"    {problem.cure}")
    if outcome.fits:
        _show_changes(outcome, whole=whole)


def _show_changes(outcome: NodePlan, *, whole: bool) -> None:
    if outcome.packages:
        say(f"  packages: {' '.join(outcome.packages)}")
    for text in outcome.environments:
        say(f"  environment {text}")
    for change in outcome.files:
        say(f"  file {change.path}: {change.what}")
        if change.diff and (whole or not change.new):
            say_lines("\n".join(f"    {line}" for line in change.diff.splitlines()))
    for service in outcome.services:
        say(f"  service {service.name}: {service.what}")
