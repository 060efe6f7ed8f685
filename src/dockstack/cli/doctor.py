# SPDX-License-Identifier: Apache-2.0
"""``dockstack doctor``: what is wrong with machines and their cloud, what it means, what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockstack.cli.cloud import environment_options, require_root
from dockstack.cli.cloud_document import cloud_option, login_options
from dockstack.deploy import paths
from dockstack.deploy.join import commission, targets
from dockstack.deploy.wanted import cloud_document, inventory
from dockstack.doctor import report, visit
from dockstack.doctor.checks import CLOUD, MACHINE, NAMES
from dockstack.doctor.cloud import Cloud
from dockstack.doctor.visit import Visit
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say, styled
from dockstack.verify.cloud import DEFAULT_CLOUD

if TYPE_CHECKING:
    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.deploy.wanted.inventory import Node
    from dockstack.doctor.model import Examination, Result

    Outcome = Examination | DockstackError

MARKS = {"good": ("ok", "green"), "found": ("found", "bold red"), "not looked at": ("-", "dim")}


@click.command()
@click.option("--host", "hosts", multiple=True, metavar="[USER@]HOST[:PORT]", help="Look at this machine, over SSH.")
@click.option("--mend", is_flag=True, help="Mend what may be mended; each is named before it is done.")
@click.option("--report", "report_path", type=click.Path(dir_okay=False), help="Write a file for a bug report.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), metavar="CHECK", help="Make only this check.")
@click.option("--all", "whole", is_flag=True, help="Show also what is good, and what was not looked at.")
@click.option("--list", "list_only", is_flag=True, help="List the checks; look at nothing.")
@click.option("--forks", type=click.IntRange(1), default=10, show_default=True, help="How many hosts at a time.")
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
    cloud, silence = _cloud(os_cloud)
    planned = Visit(nodes, document, cloud, forks, frozenset(only))
    machines, of_cloud = _look(planned)
    if mend and visit.mend(_everything(machines, of_cloud), lambda text: say(f"mending {text}", error=True)):
        planned = Visit(nodes, document, cloud and Cloud(os_cloud), forks, frozenset(only))
        machines, of_cloud = _look(planned)
    everything = _everything(machines, of_cloud)
    good = all(not isinstance(one, DockstackError) and one.good for one in everything.values())
    told = {
        "good": good,
        "machines": {name: _plain(one) for name, one in machines.items()},
        "cloud": _plain(of_cloud) if of_cloud else {"good": True, "why": silence, "checks": []},
    }
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        for name, one in everything.items():
            _show(name, one, whole=whole)
        if silence:
            say(f"The cloud was not asked: {silence}")
    if report_path:
        facts = {name: one.facts for name, one in everything.items() if not isinstance(one, DockstackError)}
        report.write(report_path, told, facts, document)
        say(
            f"Wrote {report_path}; read it before you send it. No password is in it; names and addresses are.",
            error=True,
        )
    sys.exit(0 if good else 1)


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


def _cloud(name: str) -> tuple[Cloud | None, str]:
    """Return the cloud, or why it is not asked."""
    try:
        return Cloud(name), ""
    except DockstackError as error:
        return None, str(error)


def _look(planned: Visit) -> tuple[dict[str, Outcome], Examination | None]:
    names = " ".join(node.name for node in planned.nodes[:8])
    with Screen(stderr=True).status(f"Looking at {names} ..."):
        return planned.machines(), planned.of_cloud()


def _everything(machines: dict[str, Outcome], of_cloud: Examination | None) -> dict[str, Outcome]:
    return machines | ({f"cloud {of_cloud.name}": of_cloud} if of_cloud else {})


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
    good, found, skipped = outcome.count()
    more = f", {skipped} not looked at" if skipped else ""
    verdict = (f"{found} found", "bold red") if found else ("nothing is wrong", "green")
    screen.print(styled((name, "bold"), ": ", verdict, f"; {good} checks are good{more}"), soft_wrap=True)
    for result in outcome.results:
        if whole or result.findings:
            _show_result(screen, result)


def _show_result(screen: Screen, result: Result) -> None:
    state = "not looked at" if result.skipped else "good" if result.good else "found"
    mark = ("note", "yellow") if result.good and result.findings else MARKS[state]
    screen.print(styled("  ", mark, f" {result.check}: {result.skipped or result.title}"), soft_wrap=True)
    for finding in result.findings:
        say(f"    {finding.brief}")
        say(f"      what to do: {finding.cure}")
        if finding.mend:
            say(f"      --mend would: {finding.mend.what}")
    if not result.good:
        say(f"      what it means: {result.means}")
