# SPDX-License-Identifier: Apache-2.0
"""When nodes have come or gone, those that stay let in exactly each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockstack.cli.node_report import error_plain
from dockstack.cli.node_run import failed
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.cli.node_hosts import Hosts
    from dockstack.deploy.join.journal import Journal
    from dockstack.deploy.join.peers import Peers
    from dockstack.deploy.wanted.inventory import Node


def acquaint(hosts: Hosts, peers: Peers, journal: Journal, nodes: Sequence[Node] = ()) -> dict[str, DockstackError]:
    """Have nodes know each other: these, all others that were added from here, and this machine's own compute host.

    Returns:
        Who could not be told.
    """
    from dockstack.deploy.join import fleet, own_host  # noqa: PLC0415 - loads the recipes' engine

    others = hosts.others(entry for entry in journal.entries() if peers.knows(entry.node))
    try:
        here, untold = own_host.noted(peers, hosts.document), {}
    except DockstackError as error:
        here, untold = (), {own_host.NAME: error}
    met = untold | fleet.each((*nodes, *others, *here), hosts.forks, peers.introduce_to, lambda *_: None)
    return {name: outcome for name, outcome in met.items() if isinstance(outcome, DockstackError)}


def show_unmet(unmet: dict[str, DockstackError]) -> None:
    """Say who could not be told."""
    for name, problem in unmet.items():
        Screen().print(styled(name, ": ", *failed(problem)), soft_wrap=True)


def unmet_plain(unmet: dict[str, DockstackError]) -> dict[str, Any]:
    """Return who could not be told as plain data."""
    return {name: error_plain(problem) for name, problem in unmet.items()}
