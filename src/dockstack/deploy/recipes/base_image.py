# SPDX-License-Identifier: Apache-2.0
"""The base image in a new cloud's Glance, and images of whole systems where they are wanted."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration.compatibility import DEVSTACK, IMAGE
from dockstack.deploy.node import baked
from dockstack.deploy.recipes.controller import once_in_database
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from dockstack.deploy.node.baked import Archive
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

BASE_IMAGE, SYSTEM_IMAGE = "dockstack.deploy.base_image", "dockstack.deploy.system_image"
"""Packages that are programs, and what they build is theirs."""


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages that fill the empty Glance; system images come last, as a first server needs none."""
    if not node.has(Role.CONTROLLER):
        return ()
    after = ("glance", "image-limits", "command-line", "client-files", "packages")
    base = Stage("base-image", "Making the base image", base_image, after, phase="cloud")
    if not node.attributes.items("image.system"):
        return (base,)
    return base, Stage("system-images", "Making system images", system_images, ("base-image",), phase="cloud")


def base_image(machine: Machine) -> None:
    """Build the image and import it into Glance, once for each version of its sources and each new Glance.

    Where suites for a DevStack shall run, it is there once more, in the place of the image that they boot.
    """
    further = (IMAGE,) if machine.attributes.text("compatibility") == DEVSTACK else ()

    def make() -> None:
        built = ["--archive", str(_unpacked(machine.baked))] if machine.baked else []
        machine.command(
            [f"{paths.CLI_VENV}/bin/python", "-m", BASE_IMAGE, *built, *further],
            title="" if built else "Building dockstack-base from the distribution's packages",
            environment={"OS_CLOUD": "dockstack", "LC_ALL": "C.UTF-8"},
        )

    created = machine.manifest.done("database-created") or ""
    machine.once(
        "base-image", hashlib.sha256(f"{created}{sources(BASE_IMAGE)}{''.join(further)}".encode()).hexdigest(), make
    )


def system_images(machine: Machine) -> None:
    """Build each system image and import it, once for each version of its sources and each new Glance.

    Newer packages of Debian's alone are no reason: `dockstack image build debian --import --public` renews an image.
    """
    for suite in machine.attributes.items("image.system"):
        make = functools.partial(_make_system, machine, suite)
        once_in_database(machine, f"system-image-{suite}", sources(SYSTEM_IMAGE), make)


def _make_system(machine: Machine, suite: str) -> None:
    machine.command(
        [f"{paths.CLI_VENV}/bin/python", "-m", SYSTEM_IMAGE, suite],
        title=f"Building debian-{suite} from Debian's packages",
        environment={"OS_CLOUD": "dockstack", "LC_ALL": "C.UTF-8"},
    )


def _unpacked(archive: Archive) -> Path:
    """Return the image that was built when the archive was baked."""
    place = Path(paths.BAKED) / baked.BASE_IMAGE
    archive.unpack(baked.BASE_IMAGE, place)
    return place


def sources(package: str) -> str:
    """Return a hash of the code that builds an image and of the files that it puts in."""
    total = hashlib.sha256()
    for name, content in sorted(_files(resources.files(package), "")):
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
