# SPDX-License-Identifier: Apache-2.0
"""Bake: from what ``up`` has installed on this machine to one archive, without touching the cloud that runs here."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import distributions, paths
from dockstack.deploy.baking.rehearsal import STATE
from dockstack.deploy.base_image import base
from dockstack.deploy.configuration import migration
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.node import baked, baked_packages
from dockstack.deploy.node.accepted import origin_here
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.node.own_package import lock_digest, source_hash
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
        DockstackError: ``up`` has not installed this version here, or packages cannot be had.
    """
    require_installed(node.attributes.text("release"))
    distribution = distributions.choose(node.attributes.text("distribution"), distributions.here())
    with _workplace(out) as work:
        rehearse(work)
        databases = _databases(work)
        say("Downloading the distribution's packages")
        baked_packages.collect(package_names(node, distribution), work / baked.PACKAGES)
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


def require_installed(release: str) -> None:
    """Refuse where the environments are not those that this version installs.

    Raises:
        DockstackError: naming the cure.
    """
    lock = lock_digest(f"{release}/openstack")
    wanted = {
        paths.LOCK_MARKER: lock,
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
    """Give a directory beside the archive; a killed run's goes first."""
    work = out.with_name(f".{out.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
