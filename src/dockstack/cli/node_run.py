# SPDX-License-Identifier: Apache-2.0
"""Run the same verb on many hosts: what goes on is shown, and an interruption says what it leaves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import click

from dockstack.cli import node_progress
from dockstack.cli.watching import INTERRUPTED
from dockstack.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockstack.cli.node_hosts import Hosts
    from dockstack.deploy.run.events import Event
    from dockstack.deploy.wanted.inventory import Node
    from dockstack.errors import DockstackError

    Parts = tuple[str | tuple[str, str], ...]

Result = TypeVar("Result")


def run(
    hosts: Hosts,
    nodes: Sequence[Node],
    work: Callable[[Node, Callable[[Event], None]], Result],
    line: Callable[[Result | DockstackError], Parts],
    interrupted: str,
) -> dict[str, Result | DockstackError]:
    """Do some work on each host, some at a time; return what came of it by their names.

    Args:
        hosts: how many at a time, and how it is shown.
        nodes: those that it is done on.
        work: the work on one; it tells what goes on there.
        line: says what came of one.
        interrupted: what an interruption leaves, and what to do about it.
    """
    from dockstack.deploy.join import fleet  # noqa: PLC0415 - loads the recipes' engine

    now: dict[str, str] = {}
    try:
        with node_progress.choose([node.name for node in nodes], as_json=hosts.as_json) as shown:

            def tell(node: Node, event: Event) -> None:
                now[node.name] = event.text or event.title or now.get(node.name, "")
                shown.tell(node.name, event)

            def told(node: Node, outcome: Result | DockstackError) -> None:
                now.pop(node.name, None)
                shown.line(node.name, *line(outcome))

            return fleet.each(nodes, hosts.forks, lambda node: work(node, lambda event: tell(node, event)), told)
    except KeyboardInterrupt:
        for name, doing in now.items():
            say(f"{name}: {doing}", error=True)
        click.echo(f"Interrupted. {interrupted}", err=True)
        os._exit(INTERRUPTED)  # its threads go on with their hosts otherwise


def failed(error: DockstackError) -> Parts:
    """Return what is said of a host that a verb failed on."""
    details = "".join(f"\n  | {line}" for line in error.details.splitlines())
    return ("failed", "red"), f"\n  {error.brief}{details}\n  what to do: {error.resolution}"
