# SPDX-License-Identifier: Apache-2.0
"""``dockstack image``: build the base image, import archives, list what servers can boot from, push and pull."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import openstack
from keystoneauth1 import exceptions as keystone_errors
from openstack import exceptions as sdk_errors
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dockstack.cli import image_registry
from dockstack.compute.engine import Engine
from dockstack.compute.images.fetch import list_cached
from dockstack.compute.model import ARCHIVE_FORMAT, REFERENCE_FORMAT
from dockstack.deploy.base_image import base, glance
from dockstack.deploy.base_image.packages import architecture
from dockstack.deploy.system_image import recipe
from dockstack.deploy.system_image.builder import build as build_system
from dockstack.deploy.system_image.packages import default_mirrors
from dockstack.deploy.system_image.upload import describe
from dockstack.display import printable
from dockstack.errors import DockstackError
from dockstack.oci.documents import Reference
from dockstack.oci.sandbox import normalise
from dockstack.oci.streams import ImageLimits
from dockstack.terminal import Screen, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.deploy.base_image.built import BuiltImage
    from dockstack.deploy.system_image.packages import Progress as Steps

_CHUNK = 1 << 20
_ENGINE_SECONDS = 10
_CHECK_SECONDS = 1800  # what a host gives an image by default
_FORMATS = (ARCHIVE_FORMAT, REFERENCE_FORMAT)
_cloud = click.option(
    "--os-cloud",
    envvar="OS_CLOUD",
    default="dockstack",
    show_default=True,
    help="The cloud's name in clouds.yaml; change it to work with another cloud, or as another user.",
)


@click.group()
def image() -> None:
    """Build, import and list images; push them to the cloud's registry, and pull from it."""


@image.command()
@click.argument("what", type=click.Choice(["base", "debian"]), default="base")
@click.option("--suite", type=click.Choice(recipe.SUITES), default="bookworm", show_default=True, help="Debian's.")
@click.option("--packages", multiple=True, metavar="NAME[,NAME...]", help="Install these, too; may be given again.")
@click.option("--mirror", metavar="URL", help="Debian's archive, if not the one that this machine's apt uses.")
@click.option(
    "-o",
    "--output",
    default=None,
    help="Where the archive goes, by default a file of the image's name, or none with --import; - writes it to "
    "standard output, to pipe it on.",
)
@click.option("--import", "into_cloud", is_flag=True, help="Put it into the cloud, unless it has the same content.")
@click.option("--name", default=None, help="The image's name in Glance; default: debian-SUITE.")
@click.option("--public", is_flag=True, help="Offer it to every project; needs an administrator.")
@_cloud
def build(what: str, output: str | None, **options: Any) -> None:
    """Build an image from the distribution's packages: no registry is needed.

    \b
    base    dockstack-base: busybox, a small ssh server, what tests call; a few seconds, no root
    debian  a system server: systemd, cloud-init, OpenSSH, sudo; a minute, needs root
    """  # noqa: D301 - click wants the character itself, in front of a paragraph that it leaves as it is
    if output == "-" and sys.stdout.isatty():
        raise DockstackError("A tar archive is nothing for a terminal.", "Pipe it on, or name a file with -o.")
    if what == "base":
        _refuse_for_base(options)
        built, output = base.build(), output or f"{base.NAME}.tar"
    else:
        built, output = _build_debian(output, **options)
    if output == "-":
        sys.stdout.buffer.writelines(built.archive())
    elif output:
        size = built.write(Path(output))
        click.echo(f"{output}: {size / 1e6:.1f} MB, engine id {built.configuration.digest}")


def _refuse_for_base(options: dict[str, Any]) -> None:
    if options["into_cloud"]:
        raise DockstackError("--import is for system images.", "`dockstack image base` builds and imports that one.")
    for name in ("packages", "mirror", "name", "public"):
        if options[name]:
            raise DockstackError(f"--{name} is for system images.", "Write `dockstack image build debian ...`.")


def _build_debian(output: str | None, **options: Any) -> tuple[BuiltImage, str]:
    """Build a system image and import it if that is wanted; return it, and the file that it shall go to."""
    more = tuple(name for group in options["packages"] for name in group.replace(",", " ").split())
    wanted = recipe.Recipe(options["suite"], architecture(), more)
    into_cloud: bool = options["into_cloud"]
    connection = _connect(options["os_cloud"]) if into_cloud else None  # before minutes of work, not after them
    mirrors = default_mirrors(options["mirror"])
    with _steps() as progress:
        built = build_system(wanted, mirrors, progress)
    name = options["name"] or wanted.name
    if connection is not None:
        upload = describe(wanted, built, name, public=options["public"])
        with _progress(name) as sent:
            _tell(glance.import_image(connection, upload, sent))
    return built, output or ("" if into_cloud else f"{wanted.name}.tar")


@image.command("base")
@_cloud
def base_(os_cloud: str) -> None:
    """Build the base image and offer it to every project of a cloud; needs an administrator.

    Nothing is sent if it is there already. `dockstack up` does this by itself for the cloud that it makes.
    """
    with _progress(base.NAME) as progress:
        done = glance.import_base(_connect(os_cloud), progress)
    _tell(done)


@image.command("import")
@click.argument("file")
@click.option("--name", required=True, help="The image's name in Glance.")
@click.option("--public", is_flag=True, help="Offer it to every project; needs an administrator.")
@click.option(
    "--architecture",
    "machine",
    default=None,
    help="The architecture that the servers' hosts have, if it is not this machine's (amd64, arm64).",
)
@_cloud
def import_(file: str, name: str, public: bool, machine: str | None, os_cloud: str) -> None:
    """Check the image archive FILE (- for standard input) and put it into Glance.

    FILE is what `docker save` or `skopeo copy ... oci-archive:` writes, or a tar of a root file system; gzip, bzip2, xz
    and zstd are understood. A broken or hostile archive is refused here, before a byte of it is sent.
    """
    with _as_file(file) as path:
        machine = machine or architecture()
        min_disk = _check(path, machine)
        upload = glance.of_file(path, name=name, architecture=machine, public=public, min_disk=min_disk)
        with _progress(name) as progress:
            done = glance.import_image(_connect(os_cloud), upload, progress)
    _tell(done)


@image.command("create-ref")
@click.argument("name")
@click.argument("reference")
@click.option("--public", is_flag=True, help="Offer it to every project; needs an administrator.")
@click.option("--platform", default="", help="Which platform of the image, if not the servers' hosts' (linux/arm64).")
@click.option(
    "--pull",
    type=click.Choice(["always", "missing"]),
    default="always",
    show_default=True,
    help="Whether a new server asks the registry what a tag means, or takes what its host has already.",
)
@_cloud
def create_ref(name: str, reference: str, *, public: bool, platform: str, pull: str, os_cloud: str) -> None:
    """Make an image NAME that points to a registry: REFERENCE is REGISTRY/REPOSITORY[:TAG][@DIGEST].

    Nothing is fetched now: the host of each new server does that, if its operator allows the registry. Only what has a
    digest is the same for every server; a tag is looked up once a server.
    """
    line = f"{Reference.parse(reference)}\n".encode()
    properties = {
        **({"docker_platform": platform} if platform else {}),
        **({"docker_pull_policy": pull} if pull != "always" else {}),
    }
    upload = glance.Upload(
        name, len(line), lambda: [line], public=public, container_format=REFERENCE_FORMAT, properties=properties
    )
    with _progress(name) as progress:
        done = glance.import_image(_connect(os_cloud), upload, progress)
    _tell(done)


@image.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
@_cloud
def list_(as_json: bool, os_cloud: str) -> None:
    """List the images that Docker servers can boot from."""
    connection = _connect(os_cloud)
    try:
        images = [_row(found) for found in connection.image.images() if found.container_format in _FORMATS]
    except (sdk_errors.SDKException, keystone_errors.ClientException) as error:
        raise DockstackError("The image service does not answer.", "Look at `dockstack status`.", str(error)) from error
    if as_json:
        click.echo(json.dumps(images, indent=2))
        return
    table = Table("ID", "Name", "Status", "Visibility", "MB", "Architecture", box=None)
    table.columns[0].no_wrap = True
    table.columns[0].min_width = 36  # an id that is cut is of no use
    for row in images:
        megabytes = f"{(row['size'] or 0) / 1e6:.1f}"
        cells = (row["id"], row["name"], row["status"], row["visibility"], megabytes, row["architecture"] or "any")
        table.add_row(*map(printable, cells))
    Screen().print(table)


@image.command("cache")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
@click.option(
    "--engine",
    default="unix:///run/docker.sock",
    show_default=True,
    help="The engine to look at; [docker] host_url of the host that it serves.",
)
def cache(as_json: bool, engine: str) -> None:
    """List the images that this machine's engine holds for servers: what they are, who uses them, since when.

    Nova removes those that no server uses, when and as its options [image_cache] say; fetch one ahead with
    `openstack aggregate cache image`.
    """
    found = Engine(engine, _ENGINE_SECONDS)
    used = found.used_images()
    images = list_cached(found)
    if as_json:
        rows = [asdict(cached) | {"in_use": cached.engine_id in used} for cached in images]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("Glance image", "MB", "In use", "Last used", box=None)
    table.columns[0].min_width = 36  # an id that is cut is of no use
    for cached in images:
        in_use = "yes" if cached.engine_id in used else "no"
        moment = "not known" if cached.used_at is None else f"{datetime.fromtimestamp(cached.used_at, UTC):%F %T} UTC"
        table.add_row("\n".join(cached.glance_ids), f"{cached.size / 1e6:.1f}", in_use, moment)
    Screen().print(table)
    megabytes = sum(cached.size for cached in images) / 1e6
    count = sum(cached.engine_id in used for cached in images)
    click.echo(f"{len(images)} images with {megabytes:.1f} MB, {count} in use")


def _tell(done: glance.Imported) -> None:
    say(f"{done.id}  {done.name}  {'uploaded' if done.uploaded else 'was there already, with the same content'}")
    for former in done.replaced:
        click.echo(f"{former}  is hidden now; servers that were booted from it keep it")


def _row(found: Any) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.name,
        "status": found.status,
        "visibility": found.visibility,
        "size": found.size,
        "container_format": found.container_format,
        "architecture": found.architecture or found.properties.get("hw_architecture"),
        "checksum": found.hash_value,
    }


def _check(path: Path, machine: str) -> int:
    """Read the archive as a host will; return the GiB of disk that a flavor must have."""
    with path.open("rb") as file, tempfile.TemporaryDirectory(prefix="dockstack-import-") as workspace:
        chunks = iter(lambda: file.read(_CHUNK), b"")
        limits, place = ImageLimits(), Path(workspace)
        with normalise(chunks, architecture=machine, limits=limits, workspace=place, timeout=_CHECK_SECONDS) as checked:
            return checked.size >> 30


@contextmanager
def _as_file(name: str) -> Iterator[Path]:
    """Give a file for a name; standard input is kept in a temporary one, because it is read twice."""
    if name != "-":
        path = Path(name)
        if not path.is_file():
            raise DockstackError(f"There is no file {name}.", "Name an archive, or - for standard input.")
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="dockstack-import-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, _CHUNK)
        file.flush()
        yield Path(file.name)


@contextmanager
def _progress(name: str) -> Iterator[glance.Progress]:
    """Show how much was sent, where a person looks."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Screen(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(name))
        yield lambda sent, total: bar.update(task, completed=sent, total=total)


@contextmanager
def _steps() -> Iterator[Steps]:
    """Show what a build does now and how far it is, where a person looks."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Screen(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda title, done, total: bar.update(task, description=title, completed=done, total=total)


def _connect(os_cloud: str) -> Any:
    try:
        connection = openstack.connect(cloud=os_cloud, app_name="dockstack")
        connection.authorize()
    except sdk_errors.ConfigException as error:
        raise DockstackError(
            f"There is no cloud {os_cloud!r} in clouds.yaml.",
            "Bring one up with `dockstack up`, or name yours with --os-cloud.",
            str(error),
        ) from error
    except (sdk_errors.SDKException, keystone_errors.ClientException) as error:
        raise DockstackError(
            f"Cannot log in to cloud {os_cloud!r}.", "Look at `dockstack status` and at clouds.yaml.", str(error)
        ) from error
    return connection


image_registry.register(image, _cloud, _connect)
