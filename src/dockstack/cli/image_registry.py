# SPDX-License-Identifier: Apache-2.0
"""``dockstack image push | pull``: the cloud's registry, for people who have no Docker."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from keystoneauth1 import exceptions as keystone_errors

from dockstack.deploy.base_image.packages import architecture
from dockstack.errors import DockstackError
from dockstack.oci.distribution.client import Account, Client
from dockstack.oci.documents import Reference
from dockstack.oci.sandbox import normalise
from dockstack.oci.streams import ImageLimits
from dockstack.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK = 1 << 20
_CHECK_SECONDS = 1800
_HERE = "registry.invalid"


def push(connection: Any, source: Path, name: str, machine: str | None) -> None:
    """Check an archive and push what it holds.

    Args:
        connection: to the cloud.
        source: the archive.
        name: NAME[:TAG] in the user's own project.
        machine: whose image of several to take; None: this machine's.
    """
    repository, tag = _parts(name)
    client = _client(connection, repository)
    with source.open("rb") as file, tempfile.TemporaryDirectory(prefix="dockstack-push-") as workspace:
        chunks: Iterator[bytes] = iter(lambda: file.read(_CHUNK), b"")
        place, limits = Path(workspace), ImageLimits()
        wanted = machine or architecture()
        with normalise(chunks, architecture=wanted, limits=limits, workspace=place, timeout=_CHECK_SECONDS) as checked:
            digest = client.push(checked.stream(), tag)
    say(f"{repository}:{tag}  {digest}")


def pull(connection: Any, name: str, output: str, machine: str | None) -> None:
    """Write an image as an archive.

    Args:
        connection: to the cloud.
        name: NAME[:TAG] in the user's own project, or PROJECT/NAME[:TAG].
        output: the archive's file; - for standard output.
        machine: whose image of several to take; None: this machine's.
    """
    repository, tag = _parts(name)
    client = _client(connection, repository)
    wanted = machine or architecture()
    if output == "-":
        if sys.stdout.isatty():
            raise DockstackError("A tar archive is nothing for a terminal.", "Pipe it on, or name a file with -o.")
        client.pull(tag, wanted, sys.stdout.buffer)
        return
    partial = Path(f"{output}.partial")
    try:
        with partial.open("wb") as file:
            digest = client.pull(tag, wanted, file)
        partial.rename(output)
    finally:
        partial.unlink(missing_ok=True)
    say(f"{output}: {repository}:{tag}  {digest}")


def _parts(name: str) -> tuple[str, str]:
    """Return the repository and the tag, or the digest, of a name."""
    reference = Reference.parse(f"{_HERE}/{name}")
    return reference.repository, str(reference.digest or reference.tag)


def _client(connection: Any, repository: str) -> Client:
    try:
        account = Account.of(connection.session)
        project = connection.current_project.name.lower()
    except keystone_errors.ClientException as error:
        raise DockstackError("Keystone does not answer.", "Look at `dockstack status`.", str(error)) from error
    if account is None:
        raise DockstackError(
            "The cloud has no registry.",
            "Its operator can make one, unless it is of release 2026.1: `dockstack up --set registry.enable=true`."
            " Without one, `dockstack image import` and `openstack image save` do.",
        )
    name = repository if "/" in repository else f"{project}/{repository}"
    return Client(account, name)


def register(group: click.Group, cloud: Callable[[Any], Any], connect: Callable[[str], Any]) -> None:
    """Add the commands to ``dockstack image``."""
    machine = click.option(
        "--architecture",
        "machine",
        default=None,
        help="Whose image of several to take, if it is not this machine's (amd64, arm64).",
    )

    @group.command("push")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.argument("name")
    @machine
    @cloud
    def push_(file: Path, name: str, machine: str | None, os_cloud: str) -> None:
        """Push the image archive FILE to the cloud's registry as NAME[:TAG] of your project.

        It is an image in Glance then, called NAME for the tag "latest", or NAME-TAG. FILE is what `docker save` or
        `skopeo copy ... oci-archive:` writes, or a tar of a root file system.
        """
        push(connect(os_cloud), file, name, machine)

    @group.command("pull")
    @click.argument("name")
    @click.option("-o", "--output", required=True, help="Where the archive goes; - writes it to standard output.")
    @machine
    @cloud
    def pull_(name: str, output: str, machine: str | None, os_cloud: str) -> None:
        """Write the image NAME[:TAG] of your project, or PROJECT/NAME[:TAG], as an archive for `docker load`.

        Images that were never pushed can be pulled, too: a server's snapshot by its name or id.
        """
        pull(connect(os_cloud), name, output, machine)
