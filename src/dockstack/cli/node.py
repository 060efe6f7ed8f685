# SPDX-License-Identifier: Apache-2.0
"""``dockstack node plan | add | list | show``, and what the other verbs are."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

import click

from dockstack.cli.node_check import check
from dockstack.cli.node_drain import drain, undrain
from dockstack.cli.node_hosts import (
    Hosts,
    administrated,
    administrator_option,
    host_options,
    look_at,
    plans,
    probes_option,
)
from dockstack.cli.node_joining import all_joined, enrolment, join, joined
from dockstack.cli.node_remove import remove
from dockstack.cli.node_report import fits, plain, show_plan
from dockstack.cli.node_table import table
from dockstack.cli.node_upgrade import upgrade
from dockstack.deploy.join import journal
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say

MAPPING = (
    "No administrator's credentials were given (--os-cloud). Nova places servers on them once a controller has mapped "
    "them: nova-manage cell_v2 discover_hosts (one that `dockstack up` made does so by itself)"
)


class InOrder(click.Group):
    """A group whose commands are listed in the order of a node's life."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List commands as they were added."""
        del ctx
        return list(self.commands)


@click.group(cls=InOrder)
def node() -> None:
    """Have compute nodes for a cloud that exists, from their first day to their last.

    HOSTS are [USER@]HOST[:PORT], nodes of the environment file or hosts of an Ansible inventory. Without any, `plan`,
    `add` and `check` mean all of these that are compute nodes and reached over SSH; the others want them named. What
    nodes must know of the cloud stands in the cloud document (`dockstack cloud import`).

    Kill any of them at any moment and run it again: it goes on. A second run changes nothing.
    """


@node.command(short_help="Show what would change on machines; nothing is changed.")
@host_options
@probes_option
@click.option("--diff", is_flag=True, help="Show what would stand in new files, too.")
def plan(*, hosts: Hosts, skip_probes: bool, diff: bool) -> None:
    """Show what would change on each host: packages, files, services; nothing is changed.

    The cloud is asked first whether it would take nodes with this document. What keeps a host from becoming a node is
    said by name. A host that cannot be reached stops only itself. Exit status 0: all would do; 1: one would not.
    """
    from dockstack.deploy.join.plan import together  # noqa: PLC0415 - loads the recipes' engine

    hosts.require_accepted(skip=skip_probes)
    found = together(plans(look_at(hosts)))
    if hosts.as_json:
        click.echo(json.dumps({name: plain(outcome) for name, outcome in found.items()}, indent=1))
    else:
        for name, outcome in found.items():
            show_plan(name, outcome, whole=diff)
    sys.exit(0 if all(fits(outcome) for outcome in found.values()) else 1)


@node.command(short_help="Make machines compute nodes, prove and enable them.")
@host_options
@administrator_option
@probes_option
@click.option("--no-proof", is_flag=True, help="Enable hosts without a test server.")
@click.option("--image", default="", help="The test server's image.  [default: the first container image]")
@click.option("--flavor", default="", help="The test server's flavor.  [default: the smallest]")
def add(*, hosts: Hosts, os_cloud: str | None, skip_probes: bool, no_proof: bool, image: str, flavor: str) -> None:
    """Make machines compute nodes of the cloud: install, configure, start, prove, enable; safe to run again.

    Each host is looked at first, as by `plan`; one that does not fit, or breaks, stops only itself. It registers
    disabled, is mapped to its cell, boots a test server for an administrator, and is enabled then. Without an
    administrator's credentials, it joins as the cloud has it, and what is left to do is said.

    Kill this at any moment and run it again: it goes on. A second run changes nothing. Exit status 0: all are in; 1:
    one is not.
    """
    hosts.require_accepted(skip=skip_probes)
    cloud = administrated(hosts, os_cloud)
    let_in = enrolment(hosts, cloud, proof=not no_proof, image=image, flavor=flavor)
    added = join(hosts, look_at(hosts), let_in, "dockstack node add")
    if cloud is None and not hosts.as_json and any(joined(outcome) for outcome in added.values()):
        say(MAPPING)
    sys.exit(0 if all_joined(hosts, added) else 1)


@node.command(name="list", short_help="List the nodes added from here, and how far each came.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def list_nodes(*, as_json: bool) -> None:
    """List the nodes that were added from this machine, and how far each came; none of them is asked."""
    entries = journal.Journal().entries()
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    Screen().print(table(entries))


@node.command(short_help="Show what went wrong on one, and what to do.")
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


for verb in (check, drain, undrain, upgrade, remove):
    node.add_command(verb)
