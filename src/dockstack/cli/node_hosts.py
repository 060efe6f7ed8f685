# SPDX-License-Identifier: Apache-2.0
"""What every command of ``dockstack node`` takes: hosts, how they are reached, and whose cloud is administered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.cloud import environment_options
from dockstack.cli.cloud_document import cloud_option, login_options
from dockstack.deploy import paths
from dockstack.deploy.wanted import cloud_document, inventory
from dockstack.errors import DockstackError
from dockstack.terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dockstack.deploy.administration.api import Cloud
    from dockstack.deploy.join.journal import Entry, Journal
    from dockstack.deploy.join.plan import NodePlan
    from dockstack.deploy.join.survey import Survey
    from dockstack.deploy.wanted.inventory import Node

    Outcome = NodePlan | DockstackError

FORKS = 20
GROUP = "docker_compute"
LOGIN = {"user", "key", "jump", "known_hosts"}
HOST_OPTIONS = {"hosts", "environment", "assignments", "limits", "ansible_inventory", "group"} | LOGIN
CURE = "Import the cloud anew (`dockstack cloud import`), or correct the document."
CREDENTIALS = (
    "Name a cloud of clouds.yaml with --os-cloud or OS_CLOUD, or source an openrc. On the machine of `dockstack up`, "
    "its own cloud is taken by itself."
)


@dataclass(frozen=True)
class Hosts:
    """The hosts that a command is about, and what they must know of the cloud.

    Attributes:
        others: asks for the other nodes that were added from here, by what is noted of those.
    """

    nodes: tuple[Node, ...]
    document: cloud_document.CloudDocument
    forks: int
    as_json: bool
    named: bool
    others: Callable[[Iterable[Entry]], tuple[Node, ...]]

    def require_named(self, verb: str) -> None:
        """Refuse to take all hosts that are known for those that are meant.

        Raises:
            DockstackError: none was named.
        """
        if not self.named:
            names = ", ".join(node.name for node in self.nodes)
            raise DockstackError(f"Which hosts to {verb} was not said.", f"Name them, or give --limit: {names}.")

    def hostname(self, node: Node, journal: Journal) -> str:
        """Return what Nova calls a node: as was noted when it was added, or as the machine says."""
        from dockstack.deploy.join import look  # noqa: PLC0415 - loads the recipes' engine
        from dockstack.deploy.node.connection import connect  # noqa: PLC0415

        return journal.hostname(node.name) or look.hostname(connect(node))

    def require_accepted(self, *, skip: bool) -> None:
        """Refuse hosts that the cloud would refuse as nodes, before one is looked at.

        Args:
            skip: whether to ask nothing: a cloud may refuse this machine, and none of its nodes.

        Raises:
            DockstackError: it would; why, and what to do.
        """
        if skip:
            return
        from dockstack.deploy.join import probes  # noqa: PLC0415 - loads the recipes' engine

        with Screen(stderr=True).status("Asking the cloud ..."):
            probes.require_accepted(self.document)

    def end(self, found: Mapping[str, Any], plain: Callable[[Any], dict[str, Any]], **further: Any) -> None:
        """For machines, print what came of all hosts, and what else there is to say, as the last line."""
        if self.as_json:
            told = {name: plain(one) for name, one in found.items()}
            click.echo(json.dumps({"event": "hosts", "hosts": told, **further}))


def host_options(function: Callable[..., None], forks: int = FORKS) -> Callable[..., None]:
    """Add what every command takes that works on hosts, and give it them as ``hosts``.

    Args:
        function: the command.
        forks: on how many it works at a time, unless another number is given.
    """

    @wraps(function)
    def resolved(*, forks: int, as_json: bool, path: str, **options: Any) -> None:
        document = usable(path)
        own = {name: options.pop(name) for name in set(options) - HOST_OPTIONS}
        named = bool(options["hosts"] or options["limits"])
        nodes = meant(**options)
        hosts = Hosts(nodes, document, forks, as_json, named, lambda noted: others(nodes, noted, **options))
        function(hosts=hosts, **own)

    command: Callable[..., None] = resolved
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines."),
        click.option(
            "--forks", type=click.IntRange(1), default=forks, show_default=True, help="How many hosts at a time."
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


probes_option = click.option(
    "--skip-probes", is_flag=True, help="Do not ask the cloud from here first, as where it answers its nodes alone."
)


def usable(path: str) -> cloud_document.CloudDocument:
    """Return the cloud document.

    Raises:
        DockstackError: nodes could not join with it.
    """
    from dockstack.deploy.join import probes  # noqa: PLC0415 - loads the recipes' engine

    document = cloud_document.load(path)
    document.require_usable(CURE)
    probes.require_release(document)
    return document


def meant(*, hosts: tuple[str, ...], limits: tuple[str, ...], **options: Any) -> tuple[Node, ...]:
    """Return the nodes that a command is about; one that was added from here is reached as then, unless said else."""
    from dockstack.deploy.join import journal, targets  # noqa: PLC0415 - loads the recipes' engine

    login = {name: options[name] for name in LOGIN}
    named = targets.described(hosts, login)
    before = targets.noted((entry for entry in journal.Journal().entries() if entry.node in named), {})
    named = {name: {**before.get(name, {}), **told} for name, told in named.items()}
    return targets.chosen(_known(named, **options), named, limits)


def others(nodes: Iterable[Node], noted: Iterable[Entry], **options: Any) -> tuple[Node, ...]:
    """Return the nodes besides these that are noted: as the environment file has them, or as they were reached."""
    from dockstack.deploy.join import targets  # noqa: PLC0415 - loads the recipes' engine

    login = {name: options[name] for name in LOGIN - {"user"}}
    further = targets.noted(noted, login)
    own = {node.name for node in nodes}
    known = _known(further, **options).nodes
    return tuple(node for node in known if node.name in further and node.name not in own)


def _known(
    further: Mapping[str, Mapping[str, Any]],
    *,
    environment: str | None,
    assignments: tuple[str, ...],
    ansible_inventory: str | None,
    group: str,
    **_: Any,
) -> inventory.Inventory:
    """Return these nodes and those of the environment file and of an Ansible inventory, which win."""
    from dockstack.deploy.join import ansible  # noqa: PLC0415 - loads the recipes' engine

    listed = ansible.read(ansible_inventory, group) if ansible_inventory else {}
    return inventory.load(
        environment or paths.ENVIRONMENT_FILE,
        assignments,
        required=environment is not None,
        further={**further, **listed},
    )


administrator_option = click.option(
    "--os-cloud",
    envvar="OS_CLOUD",
    help="The cloud of clouds.yaml with an administrator's account.  [default: an openrc that was sourced, or the "
    "cloud that `dockstack up` made here]",
)


def administrated(hosts: Hosts, named: str | None) -> Cloud | None:
    """Return the nodes' cloud with an administrator's account, None if no credentials are given."""
    from dockstack.deploy.administration import api  # noqa: PLC0415 - loads the SDK

    chosen = api.choose(named, hosts.document.text("identity.auth_url"))
    return api.connect(chosen) if chosen else None


def required_cloud(hosts: Hosts, named: str | None) -> Cloud:
    """Return the nodes' cloud with an administrator's account.

    Raises:
        DockstackError: no credentials are given.
    """
    cloud = administrated(hosts, named)
    if cloud is None:
        raise DockstackError("This needs the credentials of the cloud's administrator.", CREDENTIALS)
    return cloud


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
