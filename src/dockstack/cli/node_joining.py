# SPDX-License-Identifier: Apache-2.0
"""Make many machines compute nodes, and say what came of each: for ``dockstack node add`` and ``dockstack up``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from dockstack.cli.node_hosts import plans
from dockstack.cli.node_peers import acquaint, show_unmet, unmet_plain
from dockstack.cli.node_report import added_plain, ended, engine_of, fitting, plain, show_plan
from dockstack.cli.node_run import run
from dockstack.errors import DockstackError
from dockstack.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.cli.node_hosts import Hosts
    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.administration.enrolment import Enrolment
    from dockstack.deploy.join.adding import Added
    from dockstack.deploy.join.survey import Survey

    Outcomes = Mapping[str, Added | DockstackError]

NOBODY: Mapping[str, DockstackError] = {}


def join(
    hosts: Hosts,
    looked: Mapping[str, Survey | DockstackError],
    enrolment: Enrolment | None,
    command: str,
    stay: Mapping[str, DockstackError] = NOBODY,
) -> Outcomes:
    """Have all hosts join that fit, and have them know each other.

    Args:
        hosts: they, and what they must know of their cloud.
        looked: what came of looking at them.
        enrolment: lets them in; None without an administrator's account.
        command: what to run again after an interruption.
        stay: those that are left as they are, and why, which was said.

    Returns:
        What came of each that fits, by its name. One that does not is left alone; why was said.
    """
    from dockstack.deploy.join.adding import Adding  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.join.one_by_one import OneByOne  # noqa: PLC0415
    from dockstack.deploy.join.plan import together  # noqa: PLC0415

    found = together(plans(looked))
    surveys = {name: one for name, one in fitting(looked, found).items() if name not in stay}
    if not hosts.as_json:
        for name, outcome in found.items():
            if name in stay:
                continue
            if name not in surveys:
                show_plan(name, outcome, whole=False)
            elif engine := engine_of(outcome):
                say(f"{name}: engine {engine}")
    adding = Adding(enrolment=enrolment, command=command, one_by_one=OneByOne())
    # Those that may have to wait for their turn come last: whoever waits takes the place of one that need not.
    ordered = sorted(
        (one for one in hosts.nodes if one.name in surveys), key=lambda one: surveys[one.name].plan.servers
    )
    added = run(
        hosts,
        ordered,
        lambda one, tell: adding.add(one, surveys[one.name], tell),
        ended,
        f"Nodes at work go on; run `{command}` again: it goes on from here.",
    )
    met = [one for one in hosts.nodes if joined(added.get(one.name))]
    unmet = acquaint(hosts, adding.peers, adding.journal, met) if met else {}
    added |= {name: problem for name, problem in unmet.items() if name in added} | dict(stay)
    if hosts.as_json:
        told = {name: added_plain(added[name]) if name in added else plain(found[name]) for name in found}
        click.echo(json.dumps({"event": "hosts", "hosts": told, "unmet": unmet_plain(unmet)}))
    else:
        show_unmet(unmet)
    return added


def joined(outcome: Added | DockstackError | None) -> bool:
    """Tell whether a host has become a node."""
    return outcome is not None and not isinstance(outcome, DockstackError)


def all_joined(hosts: Hosts, added: Outcomes) -> bool:
    """Tell whether all hosts are nodes."""
    return all(joined(added.get(one.name)) for one in hosts.nodes)


def enrolment(hosts: Hosts, cloud: Cloud | None, *, proof: bool, image: str = "", flavor: str = "") -> Enrolment | None:
    """Return what lets nodes into a cloud, None without an administrator's account."""
    if cloud is None:
        return None
    from dockstack.deploy.administration.enrolment import Enrolment  # noqa: PLC0415 - loads the SDK
    from dockstack.deploy.administration.mapping import Mapping  # noqa: PLC0415
    from dockstack.deploy.administration.proof import Proof  # noqa: PLC0415

    command = hosts.nodes[0].attributes.text("deploy.map_command")
    return Enrolment(cloud, Mapping(cloud, command), Proof(cloud, image, flavor) if proof else None)
