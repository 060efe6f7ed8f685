# SPDX-License-Identifier: Apache-2.0
"""Bake: from what ``up`` has installed on this machine to one archive, without touching the cloud that runs here."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.baking.rehearsal import COVERED, READ_ONLY, STATE
from dockstack.deploy.base_image import base
from dockstack.deploy.configuration import migration
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.node import baked, baked_packages
from dockstack.deploy.node.accepted import origin_here
from dockstack.deploy.node.connected_node import ConnectedNode
from dockstack.deploy.node.connection import connect
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.own_package import lock_digest, release_of, source_hash
from dockstack.deploy.node.secrets import Secrets
from dockstack.deploy.recipes import packages
from dockstack.deploy.recipes.controller import MIGRATION
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.node.baked import Archive
    from dockstack.deploy.wanted.inventory import Node

BESIDES = ("venv", "ethtool")  # what some recipes install later, as the need arises


def bake(out: Path, node: Node, rehearse: Callable[[Path], None], say: Callable[[str], None]) -> Archive:
    """Write the archive.

    Args:
        out: where; replaced when the new one is whole.
        node: this machine, as its cloud wants it.
        rehearse: leaves migrated databases in a directory (rehearsal.py).
        say: told what goes on.

    Raises:
        DockstackError: there is no such place, ``up`` has not installed this version here, or packages cannot be had.
    """
    require_place(out)
    require_installed(node.attributes.text("release"))
    machine = ConnectedNode(node, Secrets(paths.SECRETS_FILE), Manifest(paths.STATE_DIRECTORY), connect(node))
    require_packages(machine)
    with _workplace(out) as work:
        rehearse(work)
        databases = _databases(work)
        say("Downloading the distribution's packages")
        baked_packages.collect(package_names(node, machine.distribution), work / baked.PACKAGES)
        say("Building the base image")
        image = work / baked.BASE_IMAGE
        base.build().write(image)
        trees = {
            baked.PACKAGES: work / baked.PACKAGES,
            baked.DATABASES: databases,
            baked.BASE_IMAGE: image,
            baked.OPENSTACK: Path(paths.OPENSTACK_VENV),
            baked.COMMAND_LINE: Path(paths.CLI_VENV),
        }
        return baked.write(out, origin_here(node.attributes), trees, say, work=work)


def require_place(out: Path) -> None:
    """Refuse a place that is not there, or that the rehearsal does not see.

    Raises:
        DockstackError: naming the cure.
    """
    directory = out.parent.resolve()
    if not directory.is_dir():
        raise DockstackError(f"There is no directory {directory}.", "Make it, or name another place.")
    for covered in (*COVERED, *READ_ONLY):
        if directory.is_relative_to(covered):
            cure = "Name a place elsewhere, as in /root/cloud.tar.zst, and move it afterwards."
            raise DockstackError(f"{covered} is not to be written to while databases are made.", cure)


def require_packages(machine: ConnectedNode) -> None:
    """Refuse where packages are missing, for the rehearsal installs none.

    Raises:
        DockstackError: naming them.
    """
    wanted = machine.distribution.packages_of(*packages.wanted(machine.node))
    missing = [name for name, version in machine.versions(wanted).items() if not version]
    if missing:
        brief = f"Packages of the cloud are not installed on this machine any more: {', '.join(missing)}."
        raise DockstackError(brief, "Run `dockstack up`, which installs them, then bake again.")


def require_installed(release: str) -> None:
    """Refuse where the environments are not those that this version installs.

    Raises:
        DockstackError: naming the cure.
    """
    installed = release_of(_content(paths.LOCK_MARKER))
    if installed not in ("", release):
        raise DockstackError(
            f"OpenStack {installed} is installed here, and {release} was to be baked.",
            f"Give `dockstack bake` what `dockstack up` was given: --set release={installed}",
        )
    wanted = {
        paths.LOCK_MARKER: lock_digest(f"{release}/openstack"),
        paths.DRIVER_MARKER: source_hash(),
        f"{paths.CLI_VENV}/.dockstack-wheel": source_hash(),
    }
    if any(_content(path) != content for path, content in wanted.items()):
        raise DockstackError(
            "What is baked is what `dockstack up` has installed, and that is not this version of it.",
            "Run `dockstack up` on this machine, then bake again.",
        )


def package_names(node: Node, distribution: Distribution) -> list[str]:
    """Return the packages of a whole cloud as this machine's attributes want it, an engine among them."""
    needed = {*distribution.packages_of(*packages.wanted(node), *BESIDES), *migration.packages(distribution)}
    plugin = chosen(node)
    if isinstance(plugin, Docker):
        needed |= set(plugin.packages(distribution, engine=False, client=False))
    ours = {entry.name for entry in Manifest(paths.STATE_DIRECTORY).entries() if entry.kind == "package"}
    return sorted(needed | ours)


def _databases(work: Path) -> Path:
    """Return the directory with the databases, and with what the manifest says of their migrations."""
    state, tree = work / STATE, work / baked.DATABASES
    (tree / "done").mkdir(parents=True)
    (state / "mariadb").rename(tree / "mariadb")
    for record in (state / "deploy" / "done").glob(f"{MIGRATION}*"):
        record.rename(tree / "done" / record.name)
    return tree


def _content(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except FileNotFoundError:
        return ""


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Give a directory beside the archive; those of killed runs go, whose orphans must not find this one."""
    prefix = f".{out.name}.work-"
    for left in out.parent.iterdir():
        if left.name.startswith(prefix):
            shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
