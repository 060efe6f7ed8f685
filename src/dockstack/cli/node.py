# SPDX-License-Identifier: Apache-2.0
"""``dockstack node plan | add | list | show``."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from dockstack.cli import node_progress
from dockstack.cli.cloud import INTERRUPTED, environment_options
from dockstack.cli.cloud_document import cloud_option, login_options
from dockstack.cli.node_report import added_plain, ended, fits, plain, show_plan
from dockstack.deploy import paths
from dockstack.deploy.join import journal
from dockstack.deploy.supervision.status import age
from dockstack.deploy.wanted import cloud_document, inventory
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say, styled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dockstack.deploy.join.adding import Added, Adding
    from dockstack.deploy.join.plan import NodePlan
    from dockstack.deploy.join.survey import Survey
    from dockstack.deploy.wanted.inventory import Node

    Outcome = NodePlan | DockstackError

FORKS = 10
GROUP = "docker_compute"
LOGIN = {"user", "key", "jump", "known_hosts"}
HOST_OPTIONS = {"hosts", "environment", "assignments", "limits", "ansible_inventory", "group"} | LOGIN
COLOURS = {journal.Step.JOINED: "green", journal.Step.FAILED: "red"}
MAPPING = (
    "Nova places servers on them once a controller has mapped them: nova-manage cell_v2 discover_hosts "
    "(one that `dockstack up` made does so by itself)"
)
CURE = "Import the cloud anew (`dockstack cloud import`), or correct the document."


@dataclass(frozen=True)
class Hosts:
    """The hosts that a command is about, and what they must know of the cloud."""

    nodes: tuple[Node, ...]
    document: cloud_document.CloudDocument
    forks: int
    as_json: bool


def host_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what every command takes that works on hosts, and give it them as ``hosts``."""

    @wraps(function)
    def resolved(*, forks: int, as_json: bool, path: str, **options: Any) -> None:
        document = usable(path)
        own = {name: options.pop(name) for name in set(options) - HOST_OPTIONS}
        function(hosts=Hosts(meant(**options), document, forks, as_json), **own)

    command: Callable[..., None] = resolved
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
        command = option(command)
    return command


def usable(path: str) -> cloud_document.CloudDocument:
    """Return the cloud document.

    Raises:
        DockstackError: nodes could not join with it.
    """
    from dockstack.deploy.join import obstacles  # noqa: PLC0415 - loads the recipes' engine

    document = cloud_document.load(path)
    document.require_usable(CURE)
    obstacles.require_kind(document)
    return document


def meant(
    *,
    hosts: tuple[str, ...],
    environment: str | None,
    assignments: tuple[str, ...],
    limits: tuple[str, ...],
    ansible_inventory: str | None,
    group: str,
    **login: str | None,
) -> tuple[Node, ...]:
    """Return the nodes that a command is about."""
    from dockstack.deploy.join import ansible, targets  # noqa: PLC0415 - loads the recipes' engine

    named = targets.described(hosts, login)
    listed = ansible.read(ansible_inventory, group) if ansible_inventory else {}
    known = inventory.load(
        environment or paths.ENVIRONMENT_FILE, assignments, required=environment is not None, further=named | listed
    )
    return targets.chosen(known, named, limits)


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
def plan(*, hosts: Hosts, diff: bool) -> None:
    """Show what would change on each host: packages, files, services; nothing is changed.

    What keeps a host from becoming a node is said by name. A host that cannot be reached stops only itself. Exit status
    0: all would do; 1: one would not.
    """
    from dockstack.deploy.join.plan import together  # noqa: PLC0415 - loads the recipes' engine

    found = together(plans(look_at(hosts)))
    if hosts.as_json:
        click.echo(json.dumps({name: plain(outcome) for name, outcome in found.items()}, indent=1))
    else:
        for name, outcome in found.items():
            show_plan(name, outcome, whole=diff)
    sys.exit(0 if all(fits(outcome) for outcome in found.values()) else 1)


@node.command()
@host_options
def add(*, hosts: Hosts) -> None:
    """Make machines compute nodes of the cloud: install, configure, start; safe to run again.

    Each host is looked at first, as by `plan`; one that does not fit, or breaks, stops only itself. Kill this at any
    moment and run it again: it goes on. A second run changes nothing. Exit status 0: all have joined; 1: one has not.
    """
    from dockstack.deploy.join import fleet  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.join.adding import Adding  # noqa: PLC0415
    from dockstack.deploy.join.plan import together  # noqa: PLC0415

    looked = look_at(hosts)
    found = together(plans(looked))
    surveys = {name: one for name, one in looked.items() if not isinstance(one, DockstackError) and fits(found[name])}
    if not hosts.as_json:
        for name, outcome in found.items():
            if name not in surveys:
                show_plan(name, outcome, whole=False)
    adding = Adding()
    try:
        with node_progress.choose(surveys, as_json=hosts.as_json) as shown:
            added = fleet.each(
                [one for one in hosts.nodes if one.name in surveys],
                hosts.forks,
                lambda one: adding.add(one, surveys[one.name], lambda event: shown.tell(one.name, event)),
                lambda one, outcome: shown.line(one.name, *ended(outcome)),
            )
            unmet = unacquainted(adding, [one for one in hosts.nodes if joined(added.get(one.name))], hosts.forks)
    except KeyboardInterrupt:
        click.echo("Interrupted. Nodes at work go on; run `dockstack node add` again: it goes on from here.", err=True)
        os._exit(INTERRUPTED)  # its threads read on from nodes otherwise
    added |= unmet
    if hosts.as_json:
        told = {name: added_plain(added[name]) if name in added else plain(found[name]) for name in found}
        click.echo(json.dumps({"event": "hosts", "hosts": told}))
    else:
        for name, problem in unmet.items():
            Screen().print(styled(name, ": ", *ended(problem)), soft_wrap=True)
        if any(joined(outcome) for outcome in added.values()):
            say(MAPPING)
    sys.exit(0 if all(joined(added.get(one.name)) for one in hosts.nodes) else 1)


def joined(outcome: Added | DockstackError | None) -> bool:
    """Tell whether a host has become a node."""
    return outcome is not None and not isinstance(outcome, DockstackError)


def unacquainted(adding: Adding, nodes: list[Node], forks: int) -> dict[str, DockstackError]:
    """Have nodes know each other, and return which could not be told."""
    from dockstack.deploy.join import fleet  # noqa: PLC0415 - loads the recipes' engine

    met = fleet.each(nodes, forks, adding.introduce, lambda *_: None)
    return {name: outcome for name, outcome in met.items() if isinstance(outcome, DockstackError)}


@node.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def list_nodes(*, as_json: bool) -> None:
    """List the nodes that were added from this machine, and how far each came; none of them is asked."""
    entries = journal.Journal().entries()
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("NODE", "HOSTNAME", "LOGIN", "RELEASE", "STATE", "SINCE"):
        table.add_column(title, no_wrap=True)
    for entry in entries:
        state = styled((entry.step.value, COLOURS.get(entry.step, "yellow")))
        table.add_row(entry.node, entry.hostname, entry.login, entry.release, state, age(entry.at))
    Screen().print(table)


@node.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def show(name: str, *, as_json: bool) -> None:
    """Show what is known here of one node: how far it came, and what went wrong."""
    entries = {entry.node: entry for entry in journal.Journal().entries()}
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise DockstackError(f"No node {name!r} was added from here.", f"There are: {known}.")
    told = asdict(entries[name])
    if as_json:
        click.echo(json.dumps(told, indent=1))
        return
    for key, value in told.items():
        if value != "":
            say(f"{key}: {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(value)) if key == 'at' else value}")


def look_at(hosts: Hosts) -> dict[str, Survey | DockstackError]:
    """Look at hosts, some at a time, and say on whom it waits."""
    from dockstack.deploy.join import fleet  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.join.survey import survey  # noqa: PLC0415

    nodes = hosts.nodes
    with Screen(stderr=True).status(f"Looking at {len(nodes)} hosts ...") as status:
        left = [node.name for node in nodes]

        def told(node: Node, _: Survey | DockstackError) -> None:
            left.remove(node.name)
            status.update(f"Looking at {len(left)} of {len(nodes)} hosts: {' '.join(left[:8])} ...")

        return fleet.each(nodes, hosts.forks, lambda node: survey(node, hosts.document), told)


def plans(looked: Mapping[str, Survey | DockstackError]) -> dict[str, Outcome]:
    """Return what would change on each host."""
    return {name: one if isinstance(one, DockstackError) else one.plan for name, one in looked.items()}
