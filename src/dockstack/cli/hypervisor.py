# SPDX-License-Identifier: Apache-2.0
"""``dockstack hypervisor install | configure | start | stop | cleanup | settings``."""

from __future__ import annotations

import pwd
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dockstack.cli.cloud import environment_options, load, machine_here, require_root
from dockstack.compute import support
from dockstack.deploy import paths
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.hypervisors import engine, nova_compute, storage
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.run import preflight
from dockstack.deploy.run.lock import exclusive
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.inventory import Inventory, Role
from dockstack.errors import DockstackError
from dockstack.verify.tempest import configuration as tempest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.run.hypervisor_alone import HypervisorAlone


@click.group()
def hypervisor() -> None:
    """Make this machine run servers for a Nova that you have, DevStack's or another.

    The verbs are those that DevStack, too, has for hypervisors, in the order in which they are used:

    \b
      P=/path/to/nova/environment/bin/python
      dockstack hypervisor install                        # before Nova is there, or after
      $P -m pip install '/path/to/dockstack[compute]'
      dockstack hypervisor configure --python $P --user nova
      dockstack driver install --python $P
      dockstack hypervisor settings nova.conf             # to be put into that file
      dockstack hypervisor start                          # then start nova-compute

    \b
      dockstack hypervisor cleanup                        # after nova-compute has stopped: the servers go
      dockstack hypervisor stop
      dockstack driver remove --python $P
      dockstack clean                                     # the rest

    Each may be run again, and killed at any moment. Attributes (`--set`) are the same for all; `docker.own` and
    `docker.storage` are remembered. `dockstack up` does all of this by itself for the cloud that it makes.
    """  # noqa: D301 - click wants the character itself, in front of a paragraph that it leaves as it is


@hypervisor.command()
@environment_options
def install(environment: str | None, assignments: tuple[str, ...]) -> None:
    """Install the engine, unless there is one, and LXCFS.

    An engine that is there is used as it is. What prevents servers, as a setting of it, is said before anything is
    changed.
    """
    with _alone("install", environment, assignments, look=True) as alone:
        alone.install()


@hypervisor.command()
@environment_options
@click.option("--python", required=True, metavar="PYTHON", help="The Python that runs nova-compute, with the driver.")
@click.option("--user", required=True, metavar="USER", help="The user that nova-compute runs as.")
def configure(environment: str | None, assignments: tuple[str, ...], python: str, user: str) -> None:
    """Install the runtime wrapper, name it in daemon.json, and make the driver's directories.

    The package dockstack must be in that Python's environment.
    """
    if not Path(python).is_absolute():
        raise DockstackError(
            f"--python {python} is no absolute path.", "Write it as it stands in the first line of nova-compute."
        )
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise DockstackError(f"There is no user {user}.", "Name with --user whom nova-compute runs as.") from None
    with _alone("configure", environment, assignments) as alone:
        alone.configure(nova_compute.of_another(user, python))


@hypervisor.command()
@environment_options
def start(environment: str | None, assignments: tuple[str, ...]) -> None:
    """Start the engine, with the runtime wrapper, and LXCFS.

    An engine that runs is reloaded, not restarted: containers of others go on.
    """
    with _alone("start", environment, assignments) as alone:
        alone.start()


@hypervisor.command()
@environment_options
def stop(environment: str | None, assignments: tuple[str, ...]) -> None:
    """Stop LXCFS, and the engine if it was not running before; servers go on.

    Stop nova-compute first.
    """
    with _alone("stop", environment, assignments) as alone:
        alone.stop()


@hypervisor.command()
@environment_options
def cleanup(environment: str | None, assignments: tuple[str, ...]) -> None:
    """Remove all servers of this machine, the images kept for them and our keys of daemon.json.

    Containers, images and settings of others stay. Stop nova-compute first.
    """
    with _alone("cleanup", environment, assignments) as alone:
        alone.cleanup()


@hypervisor.command()
@environment_options
@click.argument("file", type=click.Choice(["nova.conf", "glance-api.conf", "tempest.conf"]))
def settings(environment: str | None, assignments: tuple[str, ...], file: str) -> None:
    """Print what has to stand in a FILE of OpenStack's, for this hypervisor's sake.

    \b
    nova.conf        on the compute node: the driver and its options
    glance-api.conf  where Glance is: the container formats to add to those that it has
    tempest.conf     what tests may expect, from the driver's support matrix
    """  # noqa: D301 - as above
    node = load(environment, assignments).local
    added = Docker(node.attributes, nova_compute.UNKNOWN).contribution()
    texts: dict[str, Callable[[], Ini]] = {
        "nova.conf": lambda: (
            {"DEFAULT": {"compute_driver": added.compute_driver}}
            | {section: dict(options) for section, options in added.nova}
        ),
        "glance-api.conf": lambda: {"image_format": {"container_formats": ",".join(added.container_formats)}},
        "tempest.conf": lambda: tempest.of_docker(support.tempest_flags(support.load())),
    }
    click.echo(render_ini(texts[file]()), nl=False)


@contextmanager
def _alone(
    verb: str, environment: str | None, assignments: tuple[str, ...], *, look: bool = False
) -> Iterator[HypervisorAlone]:
    """Give this machine to one verb at a time; ``look``: refuse first what would stop it half-way."""
    from dockstack.deploy.run.hypervisor_alone import (  # noqa: PLC0415 - loads the recipes' engine
        HypervisorAlone,
        require_no_cloud,
    )

    node = replace(load(environment, assignments).local, roles=frozenset({Role.COMPUTE}))
    require_root(f"hypervisor {verb}")
    with exclusive(f"hypervisor {verb}"):
        require_no_cloud(Records.here())
        if look:
            preflight.check_hypervisor(node)
            chosen = node.attributes
            inventory.remember(paths.SAVED_OPTIONS, {**storage.to_remember(chosen), **engine.to_remember(chosen)})
        with machine_here(Inventory((node,))) as machine:
            yield HypervisorAlone(machine)
