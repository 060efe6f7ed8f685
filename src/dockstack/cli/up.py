# SPDX-License-Identifier: Apache-2.0
"""``dockstack up``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from dockstack.cli import up_nodes
from dockstack.cli.cloud import environment_options, load, require_root
from dockstack.cli.node_hosts import FORKS
from dockstack.cli.watching import INTERRUPTED, stage_options, watch
from dockstack.deploy import paths
from dockstack.deploy.hypervisors import engine, storage
from dockstack.deploy.node import accepted
from dockstack.deploy.node.baked import Archive
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.recipes import barbican, cinder
from dockstack.deploy.run import preflight
from dockstack.deploy.run.lock import exclusive
from dockstack.deploy.run.timeline import writing
from dockstack.deploy.run.timeline.recording import Recording
from dockstack.deploy.wanted import inventory, layout
from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.wanted.attributes import Attributes

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
    "--from",
    "archive",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take packages, programs and migrated databases from an archive of `dockstack bake`, instead of the network.",
)
@click.option(
    "--hosts", type=int, metavar="N", help="Have N compute hosts on this machine; remembered until another N is given."
)
@click.option(
    "--forks", type=click.IntRange(1), default=FORKS, show_default=True, help="How many compute nodes at a time."
)
@click.option(
    "--timeline",
    metavar="FILE",
    help="Write what waited for what: a page (FILE.html), or a table (FILE.txt; - prints it).",
)
def up(
    environment: str | None,
    assignments: tuple[str, ...],
    *,
    json_lines: bool,
    skip_verify: bool,
    archive: Path | None,
    hosts: int | None,
    forks: int,
    timeline: str | None,
) -> None:
    """Bring the cloud up: install, configure, start; safe to run again.

    Nodes of the environment file that are reached over SSH become its compute nodes, once all is up here: as by
    `dockstack node add`, some at a time, and one that breaks stops only itself. A node that left the file is left as it
    is, and named.

    With --from, what `dockstack bake` has prepared is unpacked instead of being fetched and made. The cloud is as new
    as any other: its passwords, keys and ids are its own. What the archive lacks comes from the network as ever.

    Kill it at any moment and run it again: it goes on. A second run changes nothing and takes seconds. Exit status 0:
    all is up; 1: something is not.
    """
    if hosts is not None:
        assignments = (*assignments, f"hosts={hosts}")
    if timeline:
        writing.check_target(timeline, output_taken=json_lines)
    settings = load(environment, assignments)
    layout.require_possible(settings)
    require_root("up")
    chosen = settings.local.attributes
    with exclusive("up"):
        preflight.check(settings.local)
        if archive is not None:
            accepted.accept(Archive.read(archive), accepted.origin_here(chosen))
        remember(chosen, hosts)
        status_code = apply(environment, assignments, json_lines=json_lines, timeline=timeline)
        if not status_code:
            settled(hosts)
    if status_code == INTERRUPTED:
        click.echo("Interrupted. Run `dockstack up` again: it goes on from here.", err=True)
    if status_code:
        sys.exit(status_code)
    proof = not skip_verify and chosen.flag("deploy.verify")
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


def remember(chosen: Attributes, hosts: int | None) -> None:
    """Note what later commands on this machine need to know, before anything is changed.

    More hosts are noted at once, so that a killed run goes on; fewer when they are gone (settled): it may be refused.
    """
    parts = (storage, engine, cinder, barbican)
    noted = {name: value for each in parts for name, value in each.to_remember(chosen).items()}
    inventory.remember(paths.SAVED_OPTIONS, noted)
    if hosts is not None:
        before = load(None, ()).local.attributes.number("hosts")
        inventory.remember(paths.SAVED_OPTIONS, {"hosts": max(hosts, before)})


def settled(hosts: int | None) -> None:
    """Note what is true once all stages are done."""
    if hosts is not None:
        inventory.remember(paths.SAVED_OPTIONS, {"hosts": hosts})
    accepted.forget()


def apply(environment: str | None, assignments: tuple[str, ...], *, json_lines: bool, timeline: str | None) -> int:
    """Run all stages in their own process and show what they tell; return its exit status.

    The timeline is written whatever becomes of the run.
    """
    line = [sys.executable, "-m", "dockstack.deploy.run.apply", *stage_options(environment, assignments)]
    recording = Recording(called=psutil.Process().create_time())
    try:
        return watch(line, UP_LOG, "up", json_lines=json_lines, record=recording.tell)
    finally:
        if timeline:
            writing.write(recording, timeline)


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
