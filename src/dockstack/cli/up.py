# SPDX-License-Identifier: Apache-2.0
"""``dockstack up``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from dockstack.cli import up_nodes
from dockstack.cli.cloud import INTERRUPTED, environment_options, load, require_root
from dockstack.cli.node_hosts import FORKS
from dockstack.deploy import paths
from dockstack.deploy.hypervisors import engine, storage
from dockstack.deploy.node import processes
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.recipes import barbican, cinder
from dockstack.deploy.run import preflight
from dockstack.deploy.run.events import Kind, parse
from dockstack.deploy.run.lock import exclusive
from dockstack.deploy.run.progress import choose_display
from dockstack.deploy.wanted import inventory, layout
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

UP_LOG = f"{paths.LOG}/up.log"

USE = f"""\
Your cloud is up. Use it:
  source {paths.OPENRC}          # as the administrator
  openstack server list
  openstack --os-cloud dockstack-demo server list
  dockstack status                         # every service, its memory, is it healthy
  dockstack verify                         # prove it: boot, log in, networks, isolation"""


@click.command()
@environment_options
@click.option("--json", "json_lines", is_flag=True, help="Print events as JSON lines, for machines.")
@click.option("--skip-verify", is_flag=True, help="Boot no first server at the end, and none to prove a new node.")
@click.option(
    "--hosts", type=int, metavar="N", help="Have N compute hosts on this machine; remembered until another N is given."
)
@click.option(
    "--forks", type=click.IntRange(1), default=FORKS, show_default=True, help="How many compute nodes at a time."
)
def up(
    environment: str | None,
    assignments: tuple[str, ...],
    *,
    json_lines: bool,
    skip_verify: bool,
    hosts: int | None,
    forks: int,
) -> None:
    """Bring the cloud up: install, configure, start; safe to run again.

    Nodes of the environment file that are reached over SSH become its compute nodes, once all is up here: as by
    `dockstack node add`, some at a time, and one that breaks stops only itself. A node that left the file is left as it
    is, and named.

    Kill it at any moment and run it again: it goes on. A second run changes nothing and takes seconds. Exit status 0:
    all is up; 1: something is not.
    """
    if hosts is not None:
        assignments = (*assignments, f"hosts={hosts}")
    settings = load(environment, assignments)
    layout.require_possible(settings)
    require_root("up")
    if status_code := bring_up_here(settings, environment, assignments, hosts=hosts, json_lines=json_lines):
        sys.exit(status_code)
    proof = not skip_verify and settings.local.attributes.flag("deploy.verify")
    if proof and settings.local.has(Role.COMPUTE):
        first_server_once(json_lines=json_lines)
    nodes = layout.other_machines(settings)
    all_in = not nodes or up_nodes.bring_in(
        settings,
        nodes,
        environment=environment,
        assignments=assignments,
        forks=forks,
        as_json=json_lines,
        proof=proof,
    )
    up_nodes.name_unlisted(settings)
    if not json_lines:
        click.echo(USE)
    if not all_in:
        raise DockstackError(
            "The cloud is up on this machine, and not all of its compute nodes are in.",
            "Cure what is said of each above, and run `dockstack up` again: it goes on from here.",
        )


def bring_up_here(
    settings: inventory.Inventory,
    environment: str | None,
    assignments: tuple[str, ...],
    *,
    hosts: int | None,
    json_lines: bool,
) -> int:
    """Have this machine as its node says, and remember what later runs need not be told; return the exit status.

    Raises:
        DockstackError: something stands in the way, and nothing was changed.
    """
    with exclusive("up"):
        preflight.check(settings.local)
        chosen = settings.local.attributes
        remembering = (each.to_remember(chosen) for each in (storage, engine, cinder, barbican))
        inventory.remember(paths.SAVED_OPTIONS, {name: value for each in remembering for name, value in each.items()})
        if hosts is not None:
            # More are remembered at once, so that a killed run goes on; fewer when they are gone: it may be refused.
            inventory.remember(
                paths.SAVED_OPTIONS, {"hosts": max(hosts, load(None, ()).local.attributes.number("hosts"))}
            )
        status_code = apply(environment, assignments, json_lines=json_lines)
        if hosts is not None and not status_code:
            inventory.remember(paths.SAVED_OPTIONS, {"hosts": hosts})
    if status_code == INTERRUPTED:
        click.echo("Interrupted. Run `dockstack up` again: it goes on from here.", err=True)
    return status_code


def apply(environment: str | None, assignments: tuple[str, ...], *, json_lines: bool) -> int:
    """Run all stages in their own process and show what they tell; return its exit status."""
    line = [sys.executable, "-m", "dockstack.deploy.run.apply"]
    line += ["--environment", environment or paths.ENVIRONMENT_FILE]
    line += [part for assignment in assignments for part in ("--set", assignment)]
    Path(UP_LOG).parent.mkdir(parents=True, exist_ok=True)
    marked = {**os.environ, processes.RUN_MARK: str(os.getpid())}
    with os.fdopen(os.open(UP_LOG, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as log:
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
                child.terminate()
    if interrupted:
        return INTERRUPTED
    if not ended:
        details = Path(UP_LOG).read_text()[-2000:]
        raise DockstackError(
            "The run ended before its end.", "Run `dockstack up` again: it goes on from here.", details
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
