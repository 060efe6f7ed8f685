# SPDX-License-Identifier: Apache-2.0
"""The archive that this machine comes up from: what it must be for, its acceptance, and the note for later runs."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import distributions, paths
from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.node import baked
from dockstack.deploy.node.baked import Archive, BakedError, Origin
from dockstack.deploy.node.own_package import lock_digest, source_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.deploy.wanted.attributes import Attributes

SPARE_MB = 1024  # that stay free of what the parts unpack to
_MIB = 1 << 20


def origin_here(attributes: Attributes) -> Origin:
    """Return what an archive must be for, to be taken on this machine, as the attributes want it."""
    chosen = distributions.choose(attributes.text("distribution"), distributions.here())
    line = [chosen.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    python = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
    return Origin(source_hash(), attributes.text("release"), chosen.name, platform.machine(), python)


def accept(archive: Archive, wanted: Origin) -> None:
    """Note the archive from which the stages of this and of later runs take what they need, until ``forget``.

    Raises:
        BakedError: it is for something else, is damaged, or has no room here; nothing was changed.
    """
    archive.require(wanted)
    _require_room(archive)
    archive.verify()
    note = f"{archive.path.resolve()}\n{archive.identity}\n"
    if _note() != note:
        shutil.rmtree(paths.BAKED, ignore_errors=True)  # of another archive
        write_atomically(Path(paths.BAKED_NOTE), note)


def noted(attributes: Attributes) -> Archive | None:
    """Return the archive that was accepted; None without one, or if it is gone, another, or not for what is wanted now.

    So a run that failed is of no consequence for one of another version or release.
    """
    path, _, identity = _note().partition("\n")
    if not path:
        return None
    try:
        archive = Archive.read(Path(path))
    except BakedError:
        return None
    same = archive.identity == identity.strip() and archive.origin == origin_here(attributes)
    return archive if same else None


def forget() -> None:
    """Take away the note and what was unpacked for the installation alone."""
    Path(paths.BAKED_NOTE).unlink(missing_ok=True)
    shutil.rmtree(paths.BAKED, ignore_errors=True)


def _note() -> str:
    try:
        return Path(paths.BAKED_NOTE).read_text()
    except FileNotFoundError:
        return ""


def _require_room(archive: Archive) -> None:
    """Refuse where a file system has not the room for what will be unpacked on it."""
    needed: dict[int, int] = defaultdict(lambda: SPARE_MB)
    for part, place in _missing(archive):
        standing = next(one for one in (place, *place.parents) if one.exists())
        device = _device(standing)
        needed[device] += part.unpacked // _MIB
        free = shutil.disk_usage(standing).free // _MIB
        if free < needed[device]:
            brief = f"{standing} has {free} MiB free, and what {archive.path} holds takes {needed[device]} MiB or more."
            raise BakedError(brief, "Make room there.")


def _device(place: Path) -> int:
    return place.stat().st_dev


def _missing(archive: Archive) -> Iterator[tuple[baked.Part, Path]]:
    """Yield the parts that this machine still lacks, with where each is unpacked."""
    environments = {
        baked.OPENSTACK: (paths.OPENSTACK_VENV, f"{archive.origin.release}/openstack"),
        baked.COMMAND_LINE: (paths.CLI_VENV, "cli"),
    }
    new = not Path(paths.VAR, "mariadb", "mysql").is_dir()  # packages come before it, and a base image to the new only
    for part in archive.parts:
        if part.name in environments:
            place, lock = environments[part.name]
            marker = Path(place, ".dockstack-lock")
            if not (marker.exists() and marker.read_text().strip() == lock_digest(lock)):
                yield part, Path(place)
        elif new:
            yield part, Path(paths.BAKED, part.name)
