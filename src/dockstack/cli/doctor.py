# SPDX-License-Identifier: Apache-2.0
"""``dockstack doctor``: what is wrong with machines and their cloud, what it means, what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.cloud import environment_options, require_root
from dockstack.cli.cloud_document import cloud_option, login_options
from dockstack.cli.node_hosts import FORKS
from dockstack.deploy import paths
from dockstack.deploy.join import commission, targets
from dockstack.deploy.wanted import cloud_document, inventory
from dockstack.doctor import report, visit
from dockstack.doctor.checks import CLOUD, MACHINE, NAMES
from dockstack.doctor.cloud import Cloud
from dockstack.doctor.visit import Visit
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say, styled
from dockstack.verify.cloud import DEFAULT_CLOUD, NoCloudError

if TYPE_CHECKING:
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node
    from dockstack.doctor.model import Result
    from dockstack.doctor.visit import Outcome


@click.command()
@click.option("--host", "hosts", multiple=True, metavar="[USER@]HOST[:PORT]", help="Look at this machine, over SSH.")
@click.option("--mend", is_flag=True, help="Mend what may be mended; each is named before it is done.")
@click.option("--report", "report_path", type=click.Path(dir_okay=False), help="Write a file for a bug report.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), metavar="CHECK", help="Make only this check.")
@click.option("--all", "whole", is_flag=True, help="Show also what is good, and what was not looked at.")
@click.option("--list", "list_only", is_flag=True, help="List the checks; look at nothing.")
@click.option("--forks", type=click.IntRange(1), default=FORKS, show_default=True, help="How many hosts at a time.")
@click.option(
    "--os-cloud", envvar="OS_CLOUD", default=DEFAULT_CLOUD, show_default=True, help="An administrator's of clouds.yaml."
)
@login_options
@cloud_option
@environment_options
def doctor(
    *,
    hosts: tuple[str, ...],
    mend: bool,
    report_path: str | None,
    as_json: bool,
    only: tuple[str, ...],
    whole: bool,
    list_only: bool,
    forks: int,
    os_cloud: str,
    path: str,
    environment: str | None,
    assignments: tuple[str, ...],
    **login: str | None,
) -> None:
    """Find out what is wrong with a machine and its cloud: what was found, what it means, what to do.

    Without --host, this machine; with it, others, as `dockstack node` reaches them. Nothing is changed but by --mend.
    Exit status 0: nothing is wrong; 1: something is.
    """
    if list_only:
        titles = [*((check.name, check.title) for check in MACHINE), *((check.name, check.title) for check in CLOUD)]
        click.echo("\n".join(f"{name:{max(map(len, NAMES))}}  {title}" for name, title in titles))
        return
    if not hosts:
        require_root("doctor")
    nodes = _nodes(hosts, environment, assignments, login)
    document = _document(path, required=path != paths.CLOUD_DOCUMENT, here=not hosts)

    def look() -> Found:
        names = " ".join(node.name for node in nodes[:8])
        with Screen(stderr=True).status(f"Looking at {names} ..."):
            made = Visit(nodes, document, _cloud(os_cloud), forks, frozenset(only))
            return Found(made.machines(), made.of_cloud(), os_cloud)

    found = look()
    if mend and visit.mend(found.outcomes, lambda text: say(f"mending {text}", error=True)):
        found = look()
    if as_json:
        click.echo(json.dumps(found.plain(), indent=1))
    else:
        for name, outcome in found.outcomes.items():
            _show(name, outcome, whole=whole)
        if found.silence:
            say(f"No cloud was asked: {found.silence}")
    if report_path:
        report.write(report_path, found.plain(), found.facts(), document)
        warning = "read it before you send it: no password is in it; names and addresses are."
        say(f"Wrote {report_path}; {warning}", error=True)
    sys.exit(0 if found.good else 1)


@dataclass(frozen=True)
class Found:
    """What came of one look at everything.

    Attributes:
        machines: by their names.
        of_cloud: what came of the cloud; a NoCloudError where there is none to be asked.
        cloud: its name in clouds.yaml.
    """

    machines: dict[str, Outcome]
    of_cloud: Outcome
    cloud: str

    @property
    def silence(self) -> str:
        """Why no cloud was asked; "" if one was."""
        return self.of_cloud.brief if isinstance(self.of_cloud, NoCloudError) else ""

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """All of it, by name."""
        return self.machines if self.silence else {**self.machines, f"cloud {self.cloud}": self.of_cloud}

    @property
    def good(self) -> bool:
        """Nothing is wrong."""
        return all(not isinstance(one, DockstackError) and one.good for one in self.outcomes.values())

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        machines = {name: _plain(one) for name, one in self.machines.items()}
        cloud = {"good": True, "why": self.silence, "checks": []} if self.silence else _plain(self.of_cloud)
        return {"good": self.good, "machines": machines, "cloud": cloud}

    def facts(self) -> dict[str, Any]:
        """Return what all are like, for a report."""
        return {name: one.facts for name, one in self.outcomes.items() if not isinstance(one, DockstackError)}


def _nodes(
    hosts: tuple[str, ...], environment: str | None, assignments: tuple[str, ...], login: dict[str, str | None]
) -> tuple[Node, ...]:
    """Return the machines that are meant; a compute node of another cloud is what its commission says."""
    if not hosts and Path(commission.PATH).exists():
        return (commission.read().node(),)
    named = targets.described(hosts, login)
    known = inventory.load(
        environment or paths.ENVIRONMENT_FILE,
        assignments,
        required=environment is not None,
        saved_options=paths.SAVED_OPTIONS,
        further=named,
    )
    return targets.chosen(known, named, ()) if hosts else (known.local,)


def _document(path: str, *, required: bool, here: bool) -> CloudDocument | None:
    """Return what nodes know of their cloud, where that is known and whole."""
    if here and Path(commission.PATH).exists():
        return commission.read().document()
    if not required and not Path(path).exists():
        return None
    found = cloud_document.load(path)
    return None if found.problems() else found


def _cloud(name: str) -> Cloud | DockstackError:
    """Return the cloud, or why it is not asked."""
    try:
        return Cloud(name)
    except DockstackError as error:
        return error


def _plain(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, DockstackError):
        return {"good": False, "error": outcome.brief, "cure": outcome.resolution, "checks": []}
    return {"good": outcome.good, "checks": [result.plain() for result in outcome.results]}


def _show(name: str, outcome: Outcome, *, whole: bool) -> None:
    """Print what came of a machine, or of the cloud."""
    screen = Screen()
    if isinstance(outcome, DockstackError):
        screen.print(styled((name, "bold"), ": ", ("cannot be looked at", "bold red")), soft_wrap=True)
        say(f"  {outcome.brief}")
        say(f"  what to do: {outcome.resolution}")
        return
    if not outcome.results:  # none of --only is about it
        return
    good, found, skipped = outcome.count()
    more = f", {skipped} not looked at" if skipped else ""
    called = outcome.facts.get("hostname", name)
    name += f" ({called})" if called != name else ""
    verdict = (f"{found} found", "bold red") if found else ("nothing is wrong", "green")
    screen.print(styled((name, "bold"), ": ", verdict, f"; {good} checks are good{more}"), soft_wrap=True)
    for result in outcome.results:
        if whole or result.findings:
            _show_result(screen, result)


def _show_result(screen: Screen, result: Result) -> None:
    """Print what a check found; of one that found nothing, what is so."""
    if not result.findings:
        mark = ("-", "dim") if result.skipped else ("ok", "green")
        screen.print(styled("  ", mark, f" {result.check}: {result.skipped or result.title}"), soft_wrap=True)
    for finding in result.findings:
        mark = ("note", "yellow") if finding.note else ("found", "bold red")
        screen.print(styled("  ", mark, f" {result.check}: {finding.brief}"), soft_wrap=True)
        if not finding.note:
            say(f"    what it means: {result.means}")
        say(f"    what to do: {finding.cure}")
        if finding.mend:
            say(f"    --mend would: {finding.mend.what}")
