# SPDX-License-Identifier: Apache-2.0
"""``dockstack node upgrade``."""

from __future__ import annotations

import sys
import threading
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.node_hosts import (
    FORKS,
    Hosts,
    administrator_option,
    host_options,
    look_at,
    plans,
    probes_option,
    required_cloud,
)
from dockstack.cli.node_report import error_plain, fits, fitting, show_plan
from dockstack.cli.node_run import failed, run
from dockstack.display import printable
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dockstack.cli.node_run import Parts
    from dockstack.deploy.join.survey import Survey
    from dockstack.deploy.join.upgrading import Upgraded, Upgrading
    from dockstack.deploy.run.events import Event
    from dockstack.deploy.wanted.inventory import Node

FAILURES = 1
GO_ON = "See to those first; `dockstack node upgrade --stop-after N` goes on until N have failed."
AT_A_TIME = 1  # a version that fails has failed on all that were begun with it, before the first failure is seen


@click.command(short_help="A new version, while servers run; back if it fails.")
@partial(host_options, forks=AT_A_TIME)
@administrator_option
@probes_option
@click.option(
    "--stop-after",
    type=click.IntRange(1),
    default=FAILURES,
    show_default=True,
    help="Begin with no further host when the new version has failed on so many.",
)
def upgrade(*, hosts: Hosts, os_cloud: str | None, skip_probes: bool, stop_after: int) -> None:
    """Bring compute nodes to this dockstack and the cloud document's release, while their servers run.

    One after the other, unless --forks says more. What a node runs with is kept beside the new; it stays if the cloud
    does not hear from the new nova-compute, or anything else fails: then the node gets its former version back. Servers
    and their containers are not touched; those that were started anew meanwhile, as by their users, are named.

    Kill this at any moment and run it again: it goes on. A second run changes nothing. Exit status 0: all are as they
    should be; 1: one is not.
    """
    from dockstack.deploy.join.upgrading import Upgrading  # noqa: PLC0415 - loads the recipes' engine

    hosts.require_named("upgrade")
    hosts.require_accepted(skip=skip_probes)
    upgrading = Upgrading(required_cloud(hosts, os_cloud), hosts.document)
    looked = look_at(replace(hosts, forks=max(hosts.forks, FORKS)))  # to look harms none
    planned = plans(looked)
    surveys = fitting(looked, planned)
    unfit = {name: one for name, one in planned.items() if not fits(one)}
    if not hosts.as_json:
        for name, outcome in unfit.items():
            show_plan(name, outcome, whole=False)
    found = upgrade_each(hosts, surveys, upgrading, stop_after, "dockstack node upgrade")
    refused = {
        name: one if isinstance(one, DockstackError) else DockstackError(one.problems[0].brief, one.problems[0].cure)
        for name, one in unfit.items()
    }
    hosts.end(found | refused, upgraded_plain)
    sys.exit(1 if any(isinstance(outcome, DockstackError) for outcome in (found | refused).values()) else 0)


def upgrade_each(
    hosts: Hosts, surveys: Mapping[str, Survey], upgrading: Upgrading, stop_after: int, command: str
) -> dict[str, Upgraded | DockstackError]:
    """Upgrade hosts, some at a time, and begin with no further one when so many have failed.

    Args:
        hosts: how many at a time, and how it is shown.
        surveys: what came of looking at those that are to be upgraded, by their names.
        upgrading: upgrades one.
        stop_after: how many failures are borne.
        command: what to run again after an interruption.
    """
    from dockstack.deploy.node.connection import UnreachableError  # noqa: PLC0415 - loads the recipes' engine

    failures, counting = [0], threading.Lock()

    def work(node: Node, tell: Callable[[Event], None]) -> Upgraded:
        if failures[0] >= stop_after:
            raise DockstackError("Not begun: others have failed.", GO_ON)
        try:
            return upgrading.upgrade(node, surveys[node.name], tell)
        except UnreachableError:
            raise  # that says nothing of the new version
        except DockstackError:
            with counting:
                failures[0] += 1
            raise

    return run(
        hosts,
        [node for node in hosts.nodes if node.name in surveys],
        work,
        upgraded_line,
        f"Nodes at work go on to their end, and keep what they ran with until `{command}` runs again.",
    )


def upgraded_line(outcome: Upgraded | DockstackError) -> Parts:
    """Return what is said of a host that is through."""
    if isinstance(outcome, DockstackError):
        return failed(outcome)
    if not outcome.changes:
        return ("as it should be", "green"), ""
    names = "".join(f"\n  {printable(name)} was started anew, or ended, meanwhile" for name in outcome.disturbed)
    return ("upgraded", "green"), f": {outcome.changes} changes, in {outcome.seconds:.1f} s{names}"


def upgraded_plain(outcome: Upgraded | DockstackError) -> dict[str, Any]:
    """Return what came of a host as plain data."""
    if isinstance(outcome, DockstackError):
        return {"upgraded": False, **error_plain(outcome)}
    return {"upgraded": True, **asdict(outcome)}
