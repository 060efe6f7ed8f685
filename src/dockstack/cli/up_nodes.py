# SPDX-License-Identifier: Apache-2.0
"""The part of ``dockstack up`` on other machines: the compute nodes of the environment file join this one's cloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.cli.cloud_document import of_this_machine, written
from dockstack.cli.node_hosts import GROUP, LOGIN, Hosts, look_at, others, plans, required_cloud
from dockstack.cli.node_joining import all_joined, enrolment, join
from dockstack.cli.node_report import fitting
from dockstack.cli.node_upgrade import AT_A_TIME, FAILURES, upgrade_each
from dockstack.deploy import paths
from dockstack.deploy.join.journal import Journal
from dockstack.deploy.wanted import cloud_document
from dockstack.errors import DockstackError
from dockstack.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.join.journal import Entry
    from dockstack.deploy.join.survey import Survey
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Inventory, Node

COMMAND = "dockstack up"
REPORTING = 120.0  # seconds until a node reports to a cloud that has just been restarted


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

    Those that are in already come to this dockstack and release one after the other, and stay with theirs if they do
    not come up with it. What they must know of it is imported anew, so that they follow each change of the cloud.

    Raises:
        DockstackError: the cloud document is of another cloud, or cannot be used.
    """
    from dockstack.deploy.administration import api  # noqa: PLC0415 - loads the SDK

    document = _document(settings)

    def further(noted: Iterable[Entry]) -> tuple[Node, ...]:
        login = dict.fromkeys(LOGIN)
        known = {"environment": environment, "assignments": assignments, "ansible_inventory": None, "group": GROUP}
        return others(nodes, noted, **login, **known)

    hosts = Hosts(nodes, document, forks, as_json, named=True, others=further)
    cloud = required_cloud(hosts, api.OUR_CLOUD)
    looked = look_at(hosts)
    former = _stay_behind(hosts, looked, cloud)
    return all_joined(hosts, join(hosts, looked, enrolment(hosts, cloud, proof=proof), COMMAND, former))


def _document(settings: Inventory) -> CloudDocument:
    """Write down what nodes must know of this machine's cloud, and keep what a person has said besides."""
    path = paths.CLOUD_DOCUMENT
    found = of_this_machine(settings.local.attributes)
    if not Path(path).exists():
        return written(found, (), path)
    before = cloud_document.load(path)
    if before.is_of_another_cloud(cloud_document.CloudDocument(found.sources)):
        raise DockstackError(
            f"The cloud is up on this machine; but {path} is of another cloud, whose Keystone is at "
            f"{before.text('identity.auth_url')}, and would be lost with its secrets.",
            f"Move it and {cloud_document.secrets_path(path)} elsewhere, and name it there with --cloud; then run "
            f"`{COMMAND}` again, which has the nodes join.",
        )
    return written(found, before.said(path), path)


def _stay_behind(hosts: Hosts, looked: dict[str, Survey | DockstackError], cloud: Cloud) -> dict[str, DockstackError]:
    """Upgrade the nodes that are in with another version, one by one; return those that keep theirs, and why.

    One that does not tell its version counts as one that could not be looked at.
    """
    from dockstack.deploy.join import fleet  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.join.adding import Adding  # noqa: PLC0415
    from dockstack.deploy.join.plan import together  # noqa: PLC0415
    from dockstack.deploy.join.upgrading import Upgrading  # noqa: PLC0415

    upgrading = Upgrading(cloud, hosts.document, Adding(command=COMMAND), patience=REPORTING)
    surveys = fitting(looked, together(plans(looked)))
    asked = [node for node in hosts.nodes if node.name in surveys]
    due = fleet.each(asked, hosts.forks, lambda node: upgrading.is_due(node, surveys[node.name]), lambda *_: None)
    looked |= {name: answer for name, answer in due.items() if isinstance(answer, DockstackError)}
    older = {name: surveys[name] for name, answer in due.items() if answer is True}
    upgraded = upgrade_each(replace(hosts, forks=AT_A_TIME), older, upgrading, FAILURES, COMMAND) if older else {}
    return {name: outcome for name, outcome in upgraded.items() if isinstance(outcome, DockstackError)}


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
