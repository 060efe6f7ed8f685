# SPDX-License-Identifier: Apache-2.0
"""The base image, in a new cloud's Glance."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration.compatibility import DEVSTACK, IMAGE
from dockstack.deploy.node import baked
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from dockstack.deploy.node.baked import Archive
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that fills the empty Glance."""
    if not node.has(Role.CONTROLLER):
        return ()
    after = ("glance", "image-limits", "command-line", "client-files", "packages")
    return (Stage("base-image", "Making the base image", base_image, after, phase="cloud"),)


def base_image(machine: Machine) -> None:
    """Build the image and import it into Glance, once for each version of its sources and each new Glance.

    Where suites for a DevStack shall run, it is there once more, in the place of the image that they boot.
    """
    further = (IMAGE,) if machine.attributes.text("compatibility") == DEVSTACK else ()

    def make() -> None:
        built = ["--archive", str(_unpacked(machine.baked))] if machine.baked else []
        machine.command(
            [f"{paths.CLI_VENV}/bin/python", "-m", "dockstack.deploy.base_image", *built, *further],
            title="" if built else "Building dockstack-base from the distribution's packages",
            environment={"OS_CLOUD": "dockstack", "LC_ALL": "C.UTF-8"},
        )

    created = machine.manifest.done("database-created") or ""
    machine.once("base-image", hashlib.sha256(f"{created}{sources()}{''.join(further)}".encode()).hexdigest(), make)


def _unpacked(archive: Archive) -> Path:
    """Return the image that was built when the archive was baked."""
    place = Path(paths.BAKED) / baked.BASE_IMAGE
    archive.unpack(baked.BASE_IMAGE, place)
    return place


def sources() -> str:
    """Return a hash of the code that builds the image and of the files that it puts in."""
    total = hashlib.sha256()
    for name, content in sorted(_files(resources.files("dockstack.deploy.base_image"), "")):
        total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def _files(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += _files(entry, f"{prefix}{entry.name}/")
        elif entry.is_file():
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
