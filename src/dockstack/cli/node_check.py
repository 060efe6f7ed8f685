# SPDX-License-Identifier: Apache-2.0
"""``dockstack node check``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.node_hosts import Hosts, administrated, administrator_option, host_options
from dockstack.cli.node_report import error_plain
from dockstack.cli.node_run import failed, run
from dockstack.deploy.run.events import Event, Kind
from dockstack.display import printable
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.cli.node_run import Parts
    from dockstack.deploy.join.checking import Checked
    from dockstack.deploy.wanted.inventory import Node


@click.command(short_help="Tell whether nodes are as they should be.")
@host_options
@administrator_option
def check(*, hosts: Hosts, os_cloud: str | None) -> None:
    """Tell whether compute nodes are as they should be; nothing is changed.

    On each machine: services, clock, what it must reach, packages, files and versions against the plan. In the cloud,
    with an administrator's credentials: compute service, mapping, resource provider, network agents; and containers
    without servers, or servers without containers.

    Exit status 0: nothing is wrong, though there may be warnings; 1: something is, or a host cannot be reached.
    """
    from dockstack.deploy.join.checking import check as look  # noqa: PLC0415 - loads the recipes' engine

    cloud = administrated(hosts, os_cloud)

    def work(node: Node, tell: Callable[[Event], None]) -> Checked:
        tell(Event(Kind.SAY, text="Looking at it"))
        return look(node, hosts.document, cloud)

    found = run(hosts, hosts.nodes, work, checked_line, "Nothing was changed.")
    hosts.end(found, checked_plain)
    sys.exit(0 if all(not isinstance(one, DockstackError) and one.well for one in found.values()) else 1)


def checked_line(outcome: Checked | DockstackError) -> Parts:
    """Return what is said of a host that is through."""
    if isinstance(outcome, DockstackError):
        return failed(outcome)
    lines = "".join(
        f"\n  {each.level}: {each.subject}: {printable(each.text)}\n    {each.cure}" for each in outcome.findings
    )
    return ("well", "green") if outcome.well else ("not well", "red"), lines


def checked_plain(outcome: Checked | DockstackError) -> dict[str, Any]:
    """Return what came of a host as plain data."""
    if isinstance(outcome, DockstackError):
        return {"well": False, **error_plain(outcome)}
    return {"well": outcome.well, **asdict(outcome)}
