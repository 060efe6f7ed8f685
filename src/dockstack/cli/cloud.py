# SPDX-License-Identifier: Apache-2.0
"""``dockstack up | status | logs | down | clean``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from dockstack.cli import root_disks
from dockstack.deploy import paths
from dockstack.deploy.hypervisors import engine, storage
from dockstack.deploy.node import baked, processes
from dockstack.deploy.node.environments import source_hash
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.secrets import Secrets
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.recipes import barbican, cinder
from dockstack.deploy.run import preflight
from dockstack.deploy.run.events import Kind, parse
from dockstack.deploy.run.lock import exclusive
from dockstack.deploy.run.progress import choose_display
from dockstack.deploy.supervision.backends import choose
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.supervision.status import age, conditions
from dockstack.deploy.wanted import inventory
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, say_lines, styled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service

UP_LOG = f"{paths.LOG}/up.log"
INTERRUPTED = 130
MIB = 1024 * 1024
TAIL_OF_ALL = 5

USE = f"""\
Your cloud is up. Use it:
  source {paths.OPENRC}          # as the administrator
  openstack server list
  openstack --os-cloud dockstack-demo server list
  dockstack status                         # every service, its memory, is it healthy
  dockstack verify                         # prove it: boot, log in, networks, isolation"""


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
@click.option("--json", "json_lines", is_flag=True, help="Print events as JSON lines, for machines.")
@click.option("--skip-verify", is_flag=True, help="Do not boot a first server at the end.")
@click.option(
    "--from",
    "archive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take packages, programs and migrated databases from an archive of `dockstack bake`, instead of the network.",
)
@click.option(
    "--hosts", type=int, metavar="N", help="Have N compute hosts on this machine; remembered until another N is given."
)
def up(
    environment: str | None,
    assignments: tuple[str, ...],
    *,
    json_lines: bool,
    skip_verify: bool,
    archive: Path | None,
    hosts: int | None,
) -> None:
    """Bring the cloud up: install, configure, start; safe to run again.

    Kill it at any moment and run it again: it goes on. A second run changes nothing and takes seconds.

    With --from, what `dockstack bake` has prepared is unpacked instead of being fetched and made. The cloud is as new
    as any other: its passwords, keys and ids are its own. What the archive lacks comes from the network as ever.
    """
    if hosts is not None:
        assignments = (*assignments, f"hosts={hosts}")
    settings = load(environment, assignments)
    inventory.require_one(settings)
    require_root("up")
    with exclusive("up"):
        preflight.check(settings.local)
        chosen = settings.local.attributes
        if archive is not None:
            wanted = (source_hash(), chosen.text("release"), chosen.text("distribution"))
            baked.accept(baked.Archive.read(archive), baked.origin_here(*wanted))
        inventory.remember(
            paths.SAVED_OPTIONS,
            {
                name: value
                for each in (storage, engine, cinder, barbican)
                for name, value in each.to_remember(chosen).items()
            },
        )
        if hosts is not None:
            # More are remembered at once, so that a killed run goes on; fewer when they are gone: it may be refused.
            inventory.remember(
                paths.SAVED_OPTIONS, {"hosts": max(hosts, load(None, ()).local.attributes.number("hosts"))}
            )
        status_code = apply(environment, assignments, json_lines=json_lines)
        if hosts is not None and not status_code:
            inventory.remember(paths.SAVED_OPTIONS, {"hosts": hosts})
        if not status_code:
            baked.forget()
    if status_code == INTERRUPTED:
        click.echo("Interrupted. Run `dockstack up` again: it goes on from here.", err=True)
    if status_code:
        sys.exit(status_code)
    if not skip_verify and settings.local.attributes.flag("deploy.verify"):
        first_server_once(json_lines=json_lines)
    if not json_lines:
        click.echo(USE)


def apply(environment: str | None, assignments: tuple[str, ...], *, json_lines: bool) -> int:
    """Run all stages in their own process and show what they tell; return its exit status."""
    line = [sys.executable, "-m", "dockstack.deploy.run.apply", *stage_options(environment, assignments)]
    return watch(line, UP_LOG, "up", json_lines=json_lines)


def stage_options(environment: str | None, assignments: tuple[str, ...]) -> list[str]:
    """Return what a process that runs stages is told of the cloud."""
    chosen = [part for assignment in assignments for part in ("--set", assignment)]
    return ["--environment", environment or paths.ENVIRONMENT_FILE, *chosen]


def watch(
    line: list[str], log_path: str, command: str, *, json_lines: bool, ending: signal.Signals = signal.SIGTERM
) -> int:
    """Run a process that tells of its stages, and show that; return its exit status.

    Args:
        line: its command line.
        log_path: where its errors go.
        command: of ours, which a person runs again if the process dies.
        json_lines: whether the events are printed as they are.
        ending: what the process gets on Ctrl-C.
    """
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    marked = {**os.environ, processes.RUN_MARK: str(os.getpid())}
    with os.fdopen(os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as log:
        # A session of its own: Ctrl-C reaches only us, and we end the stages in good order.
        child = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=log, text=True, env=marked, start_new_session=True
        )
    assert child.stdout is not None  # noqa: S101 - it was asked for above
    with choose_display(json_lines=json_lines) as display:
        ended = interrupted = False
        while True:
            try:
                for text in child.stdout:
                    event = parse(text)
                    if event is not None:
                        ended = ended or event.kind is Kind.END
                        display.show(event)
                child.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
                child.send_signal(ending)
    if interrupted:
        return INTERRUPTED
    if not ended:
        details = Path(log_path).read_text()[-2000:]
        raise DockstackError(
            "The run ended before its end.", f"Run `dockstack {command}` again: it goes on from here.", details
        )
    return child.returncode


def first_server_once(*, json_lines: bool) -> None:
    """Prove a new cloud with its first server; a later run of `up` does not boot another."""
    manifest = Manifest(paths.STATE_DIRECTORY)
    cloud = manifest.done("database-created") or "unknown"
    if manifest.done("first-server") != cloud:
        first_server(json_lines=json_lines)
        manifest.set_done("first-server", cloud)


def first_server(*, json_lines: bool) -> None:
    """Prove the cloud with its first server."""
    line = [sys.executable, "-m", "dockstack.cli", "verify", "--only", "docker"]
    done = subprocess.run(line, stdout=sys.stderr if json_lines else None, check=False)
    if done.returncode != 0:
        raise DockstackError(
            "The cloud is up, but its first server did not work.",
            "See above; `dockstack logs nova-compute` may say more, and `dockstack verify` tries again.",
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
    if as_json:
        services_json = [{**asdict(condition), "healthy": condition.healthy} for condition in found]
        disks_json = [asdict(told) for told in disks]
        click.echo(json.dumps({"healthy": healthy, "services": services_json, "root_disks": disks_json}, indent=1))
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
            table.add_row(one.name, state, str(one.pid or "-"), age(one.since), memory, one.problem)
        console = Screen()
        console.print(table)
        total = sum(one.memory for one in found) / MIB
        console.print(f"{sum(one.healthy for one in found)} of {len(found)} healthy, {total:.0f} MiB in all")
        for told in disks:
            console.print(f"Root disks{f' on {told.host}' if told.host else ''}: {told.text}", soft_wrap=True)
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
    question = "Remove this cloud with all its servers, images and databases?"
    if not yes and not click.confirm(question, default=False):
        raise DockstackError("Nothing was removed.", "Answer yes, or give --yes.")
    with exclusive("clean"), machine_here(settings) as machine:
        from dockstack.deploy.run import teardown  # noqa: PLC0415 - loads the recipes' engine

        left = teardown.clean(machine, packages=packages)
    click.echo("Removed all that dockstack made.")
    if left:
        click.echo(f"Packages stay ({len(left)}; `--packages` purges them): {' '.join(left)}")


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
