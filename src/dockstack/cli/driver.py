# SPDX-License-Identifier: Apache-2.0
"""``dockstack driver install | remove | check``."""

from __future__ import annotations

import sys

import click

from dockstack.deploy import door
from dockstack.errors import DockstackError

_python = click.option(
    "--python",
    default=sys.executable,
    show_default="the Python that runs dockstack",
    metavar="PYTHON",
    help="The Python that runs nova-compute, a path or a name on PATH; change it unless dockstack runs in Nova's own"
    " environment.",
)


@click.group()
def driver() -> None:
    """Let a Nova that you have find the driver.

    Nova loads drivers from its own package only: `compute_driver = docker.DockerDriver` means nova/virt/docker.py.
    These commands put that file, the driver's door, into Nova's package directory, wherever that is: site-packages, a
    distribution's package or a checkout. The door only imports the driver from the package dockstack, which is
    installed into the same environment first:

    \b
      P=/path/to/nova/environment/bin/python
      $P -m pip install '/path/to/dockstack[compute]'
      dockstack driver install --python $P
      dockstack driver check --python $P

    Then set compute_driver in nova.conf and restart nova-compute. Install the door again after Nova or dockstack was
    installed anew. `dockstack up` does all of this by itself for the cloud that it makes.
    """  # noqa: D301 - click wants the character itself, in front of a paragraph that it leaves as it is


@driver.command()
@_python
def install(python: str) -> None:
    """Put the door into Nova's package directory.

    A door of ours is renewed; somebody else's file of that name is never overwritten. Safe to run again.
    """
    found, changed = door.install(python)
    click.echo(f"Installed {found.path}" if changed else f"Nothing to do: {found.path} is there and current.")
    if found.package:
        click.echo(
            f"But the package {found.package} counts that file as its own, and takes it along when it is upgraded or"
            " removed: run this again afterwards."
        )


@driver.command()
@_python
def remove(python: str) -> None:
    """Take the door out of Nova's package directory.

    Do so before Nova is uninstalled: a door that stays behind hides a Nova that is installed as a checkout. If it has,
    this removes the directories that are left, too. Somebody else's file stays.
    """
    gone = door.remove(python)
    for path in gone:
        click.echo(f"Removed {path}")
    if not gone:
        click.echo("Nothing to do: there is no door of ours.")


@driver.command()
@_python
@click.option("--no-load", is_flag=True, help="Only look at the file: importing the driver takes seconds.")
def check(python: str, *, no_load: bool) -> None:
    """Say whether the door is there, ours and current, and whether Nova can load the driver.

    Exit status 0 means that all of it is so.
    """
    found = door.look(python)
    click.echo(f"{found.path}: {found.state.value}")
    if found.state is not door.State.CURRENT:
        raise DockstackError(
            "The door is not as this dockstack would have it.", f"dockstack driver install --python {python}"
        )
    if no_load:
        return
    failure = door.load(python)
    if failure:
        raise DockstackError(
            "Nova finds the driver, but cannot load it.",
            f"Is dockstack there, and what it needs? {python} -m pip install '/path/to/dockstack[compute]'",
            failure,
        )
    click.echo("docker.DockerDriver: Nova can load it")
