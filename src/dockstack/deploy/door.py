# SPDX-License-Identifier: Apache-2.0
"""The door through which Nova finds the driver: a file of ours in the package directory of somebody's Nova.

Nova loads drivers from its own package only: ``docker.DockerDriver`` is looked for in ``nova/virt/docker.py``. No wheel
may bring that file. Where Nova is installed as a checkout, a directory ``nova/`` in site-packages comes before it on
Python's path and hides it, from every service of that environment. So the door is put where the Python that runs
nova-compute says its Nova is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path

from dockstack.deploy import paths
from dockstack.deploy.atomic_write import write_atomically
from dockstack.errors import DockstackError

NAME = "virt/docker.py"
MARK = b"\n# dockstack's door into Nova:"
FORMER = {"102bfdd65c4e701ae975a1c09dff428cdf846acd0a70284f2b4025c83a7ebe08"}  # without the mark, from our wheels
PATIENCE = 120  # seconds; Nova's imports take a few, on a loaded machine many
WHICH = "Name the Python that runs nova-compute with --python: it stands in the first line of the program nova-compute."

# The current directory, which -c puts on the path, is not on nova-compute's, nor is PYTHONPATH of this shell (-E).
# To be found, Nova is not imported.
LOCATE = """
import importlib.util, json, sys
sys.path[:] = [entry for entry in sys.path if entry]
spec = importlib.util.find_spec("nova")
places = list(spec.submodule_search_locations or []) if spec else []
print(json.dumps({"places": places, "whole": bool(spec and spec.origin)}))
"""
LOAD = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
from nova.virt import docker, driver
if not issubclass(docker.DockerDriver, driver.ComputeDriver):
    raise TypeError("nova.virt.docker.DockerDriver is no compute driver")
"""


class State(Enum):
    """What stands in the door's place; the value is how it is said."""

    CURRENT = "there, ours, current"
    OUTDATED = "there, ours, but of another version of dockstack"
    FOREIGN = "there, but not ours"
    ABSENT = "not there"

    @property
    def ours(self) -> bool:
        """Whether we may overwrite or remove it."""
        return self in (State.CURRENT, State.OUTDATED)


@dataclass(frozen=True)
class Nova:
    """What an interpreter finds under the name nova.

    Attributes:
        python: the interpreter.
        places: the package's directories, the first one first.
        whole: it is a package with an ``__init__``, not bare directories of that name.
    """

    python: str
    places: tuple[Path, ...]
    whole: bool


@dataclass(frozen=True)
class Door:
    """The door's place in a Nova, and what is there."""

    path: Path
    state: State

    @property
    def package(self) -> str:
        """The installed package that names this file as its own; "" if none does."""
        package = self.path.parents[1]
        for record in package.parent.glob("*.dist-info/RECORD"):
            if any(line.startswith(f"{package.name}/{NAME},") for line in record.read_text().splitlines()):
                return record.parent.name.removesuffix(".dist-info").replace("-", " ")
        return ""


def content() -> bytes:
    """Return the door as this dockstack writes it."""
    return (resources.files("dockstack.compute") / "door.py").read_bytes()


def look(python: str) -> Door:
    """Return the door of the Nova that a Python imports.

    Raises:
        DockstackError: that is no Python, or it has no whole Nova.
    """
    nova = _locate(python)
    if not nova.whole:
        raise DockstackError(
            f"What {nova.python} imports as nova is no package, but the bare directory {nova.places[0]}, which hides a"
            " Nova that is installed as a checkout.",
            f"`dockstack driver remove --python {nova.python}` takes it away if nothing but an old door is in it;"
            " otherwise see what is, and remove it.",
        )
    virt = nova.places[0] / "virt"
    if not virt.is_dir():
        raise DockstackError(f"The package {nova.places[0]} is not OpenStack's Nova: it has no directory virt.", WHICH)
    return _door(nova.places[0])


def install(python: str) -> tuple[Door, bool]:
    """Have the door in the Nova that a Python imports; return it and whether anything was written.

    Raises:
        DockstackError: there is no Nova, somebody else's file is there, or the directory takes no file.
    """
    door = look(python)
    if door.state is State.CURRENT:
        return door, False
    if door.state is State.FOREIGN:
        raise DockstackError(
            f"{door.path} is not ours, so it is not overwritten: {_whose(door)}.",
            "If that driver is not used any more, uninstall its package or remove the file; then run this again.",
        )
    directory = door.path.parent.stat()
    try:
        write_atomically(door.path, content(), owner=(directory.st_uid, directory.st_gid))
    except OSError as error:
        raise _unwritable(door.path.parent, error) from error
    return Door(door.path, State.CURRENT), True


def remove(python: str) -> tuple[Path, ...]:
    """Have no door of ours in the Nova that a Python imports; return what was removed, files and empty directories.

    A door may have outlived its Nova; then the bare directories that it stands in go with it, and what they hid is
    looked at, too. A file of somebody else stays.

    Raises:
        DockstackError: there is no Nova, or the directory cannot be written.
    """
    gone: list[Path] = []
    nova = _locate(python)
    while True:
        removed = [path for place in nova.places for path in _remove_from(place, bare=not nova.whole)]
        gone += removed
        if not removed or nova.whole:
            return tuple(gone)
        try:
            nova = _locate(python)
        except NoNovaError:  # there was nothing but the door
            return tuple(gone)


def load(python: str) -> str:
    """Import the driver as nova-compute does; return "", or what Python says against it."""
    return _ask(python, LOAD).failure


class NoNovaError(DockstackError):
    """An interpreter that finds nothing under the name nova."""


def _locate(python: str) -> Nova:
    program = _program(python)
    answer = _ask(program, LOCATE)
    try:
        found = json.loads(answer.output.strip().rpartition("\n")[2])
        places, whole = tuple(map(Path, found["places"])), bool(found["whole"])
    except (ValueError, TypeError, KeyError) as error:
        raise DockstackError(f"{program} does not answer as a Python does.", WHICH, answer.failure) from error
    if not places:
        here = f"{paths.OPENSTACK_VENV}/bin/python"
        more = f" `dockstack up` keeps its own at {here}." if program != here and Path(here).exists() else ""
        raise NoNovaError(f"The Python {program} has no Nova.", WHICH + more)
    return Nova(program, places, whole)


@dataclass(frozen=True)
class _Answer:
    output: str
    failure: str


def _ask(program: str, question: str) -> _Answer:
    """Run a few lines in an interpreter; its failure is the last that it said, or "" after success."""
    try:
        done = subprocess.run(
            [program, "-E", "-c", question],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False,
        )  # fmt: skip
    except OSError as error:
        return _Answer("", error.strerror or str(error))
    except subprocess.TimeoutExpired:
        return _Answer("", f"It did not answer within {PATIENCE} seconds.")
    if done.returncode == 0:
        return _Answer(done.stdout, "")
    return _Answer(done.stdout, (done.stderr.strip() or f"It ended with status {done.returncode}.")[-2000:])


def _program(python: str) -> str:
    """Return the path of an interpreter that was named by its path, or by its name on PATH."""
    found = shutil.which(python)
    if found is not None:
        return str(Path(found).absolute())
    inside = Path(python) / "bin/python"
    if inside.exists():
        raise DockstackError(f"{python} is a directory, not a Python.", f"Its Python is --python {inside}")
    what = "is not a program that you may run" if Path(python).exists() else "is not there"
    raise DockstackError(f"The Python {python} {what}.", WHICH)


def _door(place: Path) -> Door:
    """Look at what stands in the door's place; a link that leads nowhere is what is left of a checkout of ours."""
    path = place / NAME
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return Door(path, State.OUTDATED if path.is_symlink() else State.ABSENT)
    except OSError as error:
        raise DockstackError(
            f"{path} cannot be read: {error.strerror}.", "See what it is; if nobody needs it, remove it."
        ) from error
    if found == content():
        return Door(path, State.CURRENT)
    ours = MARK in found or hashlib.sha256(found).hexdigest() in FORMER
    return Door(path, State.OUTDATED if ours else State.FOREIGN)


def _whose(door: Door) -> str:
    """Say whose a foreign file looks like: the package that lists it, or else its first words."""
    if door.package:
        return f"it belongs to the installed package {door.package}"
    lines = (line.strip(" \t#\"'") for line in door.path.read_text(errors="replace").splitlines())
    words = next((line for line in lines if line and "SPDX" not in line), "")
    return f"no installed package names it, and it begins with {words[:100]!r}" if words else "it is empty"


def _remove_from(place: Path, *, bare: bool) -> list[Path]:
    door = _door(place)
    gone = []
    try:
        if door.state.ours:
            door.path.unlink()
            gone.append(door.path)
        if door.state.ours or (bare and door.state is State.ABSENT):
            for path in door.path.parent.glob("__pycache__/docker.*.pyc"):
                path.unlink()
                gone.append(path)
        if bare:
            for directory in ("virt/__pycache__", "virt", "__pycache__", ""):
                path = place / directory
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
                    gone.append(path)
    except OSError as error:
        raise _unwritable(door.path.parent, error) from error
    return gone


def _unwritable(directory: Path, error: OSError) -> DockstackError:
    try:
        owner = f"root or {directory.owner()}"
    except KeyError:
        owner = "root"
    cure = f"Run this as {owner}." if os.geteuid() != 0 else "Is its file system read-only or full? `findmnt -T` tells."
    return DockstackError(f"{directory} cannot be written: {error.strerror}.", cure)
