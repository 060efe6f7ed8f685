# SPDX-License-Identifier: Apache-2.0
"""``dockstack status | logs | down | clean``, and what commands on this machine's cloud share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from dockstack.cli import node_table, root_disks
from dockstack.deploy import paths
from dockstack.deploy.hypervisors import engine
from dockstack.deploy.join.journal import Journal
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.secrets import Secrets
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.run.lock import exclusive
from dockstack.deploy.supervision.backends import choose
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.supervision.status import age, conditions
from dockstack.deploy.wanted import inventory, layout
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say, say_lines, styled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.deploy.join.journal import Entry
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service

MIB = 1024 * 1024
TAIL_OF_ALL = 5
ORPHANS = (
    "Without this cloud they are of no use, and their servers out of reach: remove them first (`dockstack node "
    "remove`), or run `dockstack clean` on each, too."
)


def environment_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --environment and --set, which every command that looks at attributes takes."""
    function = click.option(
        "--environment",
        type=click.Path(dir_okay=False),
        help=f"File with nodes, roles and attributes.  [default: {paths.ENVIRONMENT_FILE}]",
    )(function)
    return click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Set one attribute.")(
        function
    )


def load(environment: str | None, assignments: tuple[str, ...]) -> inventory.Inventory:
    """Resolve the inventory; a file that a person named must be there."""
    return inventory.load(
        environment or paths.ENVIRONMENT_FILE,
        assignments,
        required=environment is not None,
        saved_options=paths.SAVED_OPTIONS,
    )


@click.command()
@environment_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def status(environment: str | None, assignments: tuple[str, ...], *, as_json: bool) -> None:
    """Show every service: is it healthy and why not, since when, its memory; and whether root disks are limited.

    Exit status 0: all are healthy; 1: one is not, or there is no cloud.
    """
    settings = load(environment, assignments)
    require_root("status")
    services = known_services()
    backend = choose(LocalShell(), settings.local.attributes.text("services.backend"))
    found = conditions(services, backend)
    healthy = all(condition.healthy for condition in found)
    disks = root_disks.look(services, engine.engine_of(settings.local.attributes).socket, LocalShell())
    nodes, missing = nodes_of(settings)
    if as_json:
        services_json = [{**asdict(condition), "healthy": condition.healthy} for condition in found]
        disks_json = [asdict(told) for told in disks]
        told_json = {"healthy": healthy, "services": services_json, "root_disks": disks_json}
        told_json |= {"nodes": [asdict(entry) for entry in nodes], "nodes_missing": missing}
        click.echo(json.dumps(told_json, indent=1))
    else:
        table = Table(box=None, pad_edge=False)
        for title, justify in (("SERVICE", "left"), ("STATE", "left"), ("PID", "right"), ("SINCE", "right")):
            table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=True)
        table.add_column("MEMORY", justify="right", no_wrap=True)
        table.add_column("")
        for one in found:
            colour = "green" if one.healthy else "red"
            state = styled(("healthy" if one.healthy else one.state, colour))
            memory = f"{one.memory / MIB:.0f} MiB" if one.memory else "-"
            table.add_row(one.name, state, str(one.pid or "-"), age(one.since), memory, one.problem or one.note)
        console = Screen()
        console.print(table)
        total = sum(one.memory for one in found) / MIB
        console.print(f"{sum(one.healthy for one in found)} of {len(found)} healthy, {total:.0f} MiB in all")
        for told in disks:
            console.print(f"Root disks{f' on {told.host}' if told.host else ''}: {told.text}", soft_wrap=True)
        if nodes:
            console.print("\nCompute nodes, as the last command left them (`dockstack node check` asks them):")
            console.print(node_table.table(nodes))
        if missing:
            console.print(f"Not added yet: {', '.join(missing)}. `dockstack up` adds them.", soft_wrap=True)
    sys.exit(0 if healthy else 1)


@click.command()
@click.argument("service", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines.")
def logs(service: str | None, lines: int, *, follow: bool) -> None:
    """Show the log of a service, or the last lines of all."""
    require_root("logs")
    services = known_services()
    by_name = {one.name: one for one in services}
    if service is not None and service not in by_name:
        raise DockstackError(f"There is no service {service!r}.", f"There are {', '.join(sorted(by_name))}.")
    chosen = [by_name[service]] if service else list(services)
    files = [path for one in chosen for path in log_files(one)]
    if not files:
        raise DockstackError("Nothing was logged yet.", "Is it running? `dockstack status` tells.")
    count = lines if service else min(lines, TAIL_OF_ALL)
    sys.stdout.flush()
    secrets = Secrets(paths.SECRETS_FILE)
    line = ["tail", *(["-F"] if follow else []), "-n", str(count), "--", *files]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace") as tail:
        assert tail.stdout is not None  # noqa: S101 - it was asked for above
        try:
            for text in tail.stdout:
                say_lines(secrets.redact(text), newline=False)
        except KeyboardInterrupt:
            tail.terminate()


def log_files(service: Service) -> list[str]:
    """Return the files of a service that hold something."""
    paths_of = dict.fromkeys((*service.logs, service.log_path))
    return [path for path in paths_of if Path(path).is_file() and Path(path).stat().st_size]


@click.command()
@environment_options
def down(environment: str | None, assignments: tuple[str, ...]) -> None:
    """Stop the cloud; servers and data stay.

    Running servers go on (the engine's live-restore), without their networks until `dockstack up`.
    """
    settings = load(environment, assignments)
    require_root("down")
    with exclusive("down"), machine_here(settings) as machine:
        from dockstack.deploy.run import teardown  # noqa: PLC0415 - loads the recipes' engine

        if not machine.records.services():
            click.echo("Nothing is installed here.")
            return
        teardown.down(machine)
    click.echo("Stopped. Servers and data are kept; `dockstack up` brings all back.")
    name_nodes("Their servers go on; nothing can be changed about them until then.")


@click.command()
@environment_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--packages", is_flag=True, help="Also purge the distribution's packages that `up` installed.")
def clean(environment: str | None, assignments: tuple[str, ...], *, yes: bool, packages: bool) -> None:
    """Remove all that dockstack made from this machine: servers, databases, images, configuration.

    Containers, images and databases of others stay.
    """
    settings = load(environment, assignments)
    require_root("clean")
    name_nodes(ORPHANS)
    question = "Remove this cloud with all its servers, images and databases?"
    if not yes and not click.confirm(question, default=False):
        raise DockstackError("Nothing was removed.", "Answer yes, or give --yes.")
    with exclusive("clean"), machine_here(settings) as machine:
        from dockstack.deploy.run import teardown  # noqa: PLC0415 - loads the recipes' engine

        left = teardown.clean(machine, packages=packages)
    click.echo("Removed all that dockstack made.")
    if left:
        click.echo(f"Packages stay ({len(left)}; `--packages` purges them): {' '.join(left)}")


def nodes_of(settings: inventory.Inventory) -> tuple[tuple[Entry, ...], list[str]]:
    """Return what is noted of the nodes that were added from here, and which of the environment file were not."""
    entries = Journal().entries()
    known = {entry.node for entry in entries}
    return entries, [node.name for node in layout.other_machines(settings) if node.name not in known]


def name_nodes(what: str) -> None:
    """Say that the nodes that were added from here stay as they are, as commands of this machine's do not go there."""
    names = [entry.node for entry in Journal().entries()]
    if names:
        say(f"Compute nodes are left as they are: {', '.join(names)}. {what}")


@contextmanager
def machine_here(settings: inventory.Inventory) -> Iterator[Machine]:
    """Give the layer's view of this machine."""
    from dockstack.deploy.node.connection import connect  # noqa: PLC0415 - loads the recipes' engine
    from dockstack.deploy.supervision.machine import Machine  # noqa: PLC0415

    node = settings.local
    yield Machine(node, Secrets(paths.SECRETS_FILE), Manifest(paths.STATE_DIRECTORY), connect(node), say=click.echo)


def known_services() -> tuple[Service, ...]:
    """Return the services of this machine.

    Raises:
        DockstackError: there is no cloud here.
    """
    services = Records.here().services()
    if not services:
        raise DockstackError("There is no cloud on this machine.", "Run `dockstack up`.")
    return services


def require_root(command: str) -> None:
    """Refuse to go on as an ordinary user.

    Raises:
        DockstackError: we are not root.
    """
    if os.geteuid() != 0:
        raise DockstackError(f"`dockstack {command}` needs root.", f"Run it as root, as in: sudo dockstack {command}")
