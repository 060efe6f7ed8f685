# SPDX-License-Identifier: Apache-2.0
"""The part of ``dockstack up`` on other machines: the compute nodes of the environment file join this one's cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.cli.cloud_document import of_this_machine, written
from dockstack.cli.node_hosts import GROUP, LOGIN, Hosts, administrated, others
from dockstack.cli.node_joining import all_joined, enrolment, join
from dockstack.deploy import paths
from dockstack.deploy.join.journal import Journal
from dockstack.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.join.journal import Entry
    from dockstack.deploy.wanted.inventory import Inventory, Node


def bring_in(
    settings: Inventory,
    nodes: tuple[Node, ...],
    *,
    environment: str | None,
    assignments: tuple[str, ...],
    forks: int,
    as_json: bool,
    proof: bool,
) -> bool:
    """Have these nodes join the cloud that is up on this machine; return whether all are in.

    What they must know of it is imported anew, so that they follow each change of the cloud.
    """
    from dockstack.deploy.administration import api  # noqa: PLC0415 - loads the SDK

    document = written(of_this_machine(settings.local.attributes), (), paths.CLOUD_DOCUMENT)

    def further(noted: Iterable[Entry]) -> tuple[Node, ...]:
        login = dict.fromkeys(LOGIN)
        known = {"environment": environment, "assignments": assignments, "ansible_inventory": None, "group": GROUP}
        return others(nodes, noted, **login, **known)

    hosts = Hosts(nodes, document, forks, as_json, named=True, others=further)
    cloud = administrated(hosts, api.OUR_CLOUD)
    return all_joined(hosts, join(hosts, enrolment(hosts, cloud, proof=proof), "dockstack up"))


def name_unlisted(settings: Inventory) -> None:
    """Say which nodes were added from here and are none of the environment file: they stay as they are."""
    listed = {node.name for node in settings.nodes}
    unlisted = [entry.node for entry in Journal().entries() if entry.node not in listed]
    if unlisted:
        say(
            f"note: {', '.join(unlisted)} stayed as before: added from here, but in no environment file of this run. "
            f"To take out one that shall go: dockstack node remove {unlisted[0]}",
            error=True,
        )
