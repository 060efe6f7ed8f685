# SPDX-License-Identifier: Apache-2.0
"""The OCI runtime wrapper: its files, its installation, and the patches that the driver leaves for it."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.containers.editor import VERSION
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RUNTIME = "dockstack-runtime"
EDITOR = "dockstack-runtime-editor"
PYTHON = "/usr/bin/python3"
DIRECTORY = Path("/opt/dockstack/runtime")
PATCHES = Path("/var/lib/dockstack/patches")
PATCH, GATE, HELD = ".json", ".gate", ".held"  # the last is the wrapper's own
OWNER = ".server"  # whose container it is, for those who measure: nothing that a user of the host may not know

_IDENTITY = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_.-]*")


@dataclass(frozen=True)
class Mount:
    """What the wrapper mounts into a container.

    Attributes:
        source: a path of the host below one of the directories that the wrapper was installed with, and no link;
            "tmpfs" for a file system of its own.
        destination: where it appears in the container; made if it is missing.
        type: bind or tmpfs.
        options: mount(8)'s words; a bind mount's hold ``bind``, or ``rbind`` for all below it.
        required: without its source the server does not start; otherwise it starts without the mount.
    """

    source: str
    destination: str
    type: str = "bind"
    options: tuple[str, ...] = ("bind", "ro", "nosuid", "nodev")
    required: bool = True


@dataclass(frozen=True)
class Overlay:
    """The root file system of a stopped container, mounted into another one for as long as that runs.

    Attributes:
        lower: the image's layers as overlay2 keeps them, the uppermost first.
        upper: what the stopped container wrote; it is written to.
        work: overlay2's directory beside it.
        destination: where it appears; made if it is missing.
    """

    lower: tuple[str, ...]
    upper: str
    work: str
    destination: str


@dataclass(frozen=True)
class Root:
    """The same where such a root file system is one directory: a subvolume of btrfs.

    Attributes:
        source: the subvolume; it is written to.
        destination: where it appears; made if it is missing.
    """

    source: str
    destination: str


@dataclass(frozen=True)
class Disk:
    """A volume as a block device of a container.

    Attributes:
        name: of its node in /dev.
        link: its name below /dev/disk/by-id.
        major, minor: the device's numbers.
        access: "rw", or "r" for reading only.
        rates: bytes read and written, requests to read and to write a second; 0 is no bound.
    """

    name: str
    link: str
    major: int
    minor: int
    access: str = "rw"
    rates: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class RootVolume:
    """A volume whose file system is a container's root.

    Attributes:
        major, minor: the device's numbers.
        rates: as of ``Disk``.
    """

    major: int
    minor: int
    rates: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Patch:
    """What the wrapper changes in a container's configuration before its first process."""

    netns: str  # the path of the network namespace to join
    drop_mounts: tuple[str, ...] = ()  # destinations of mounts that the engine adds and the server must not get
    mounts: tuple[Mount, ...] = ()  # added after the engine's own, so that they win
    masked_paths: tuple[str, ...] = ()  # files and directories of /proc and /sys that read as empty
    readonly_paths: tuple[str, ...] = ()
    overlays: tuple[Overlay, ...] = ()  # mounted before ``mounts``
    roots: tuple[Root, ...] = ()  # likewise
    disk_guard: str = ""  # the file system of whose requests it gets none that would lift its disk's limit
    shm_bytes: int = 0  # what its /dev/shm holds; 0: as the engine has it
    contents: Mapping[str, str] = field(default_factory=dict)  # what the engine's own files in it begin with, by path
    environment: Mapping[str, str] = field(default_factory=dict)  # what its first process gets, unless it has that
    own_groups: bool = False  # it may make control groups below its own
    sysctls: tuple[str, ...] = ()  # what it may write below /proc/sys/net, which is its own network's
    devices: tuple[Disk, ...] = ()
    root_volume: RootVolume | None = None  # what is its root file system instead of the engine's
    volume_mounts: str = ""  # how it may mount its volumes itself, by the host's mount broker; empty: not
    mount_socket: str = ""  # where a runtime leaves what the broker answers it by
    interfaces: Mapping[str, str] = field(default_factory=dict)  # by the host's ends of its links; read by ours only


def render(
    patch_directory: str, runc: str, python: str = PYTHON, sources: tuple[str, ...] = (str(PATCHES.parent),)
) -> dict[str, str]:
    """Return the wrapper's files, name to text, with the directories written into them.

    Args:
        patch_directory: where ``write_patch`` leaves its files.
        runc: the real runtime, an absolute path.
        python: the system's interpreter, an absolute path; it must outlive any environment of ours.
        sources: directories below which the sources of mounts may stand.
    """
    here = resources.files("dockstack.compute.containers")
    dispatcher = (here / "dispatcher.sh").read_text(encoding="utf-8")
    marks = {"@PATCHES@": patch_directory, "@RUNC@": runc, "@PYTHON@": python, "@SOURCES@": ":".join(sources)}
    for mark, value in marks.items():
        dispatcher = dispatcher.replace(mark, shlex.quote(value))
    return {EDITOR: (here / "editor.py").read_text(encoding="utf-8"), RUNTIME: dispatcher}


def install(
    directory: Path,
    patch_directory: Path,
    runc: str | None = None,
    python: str = PYTHON,
    sources: tuple[Path, ...] = (),
) -> bool:
    """Write the wrapper's files, each whole or not at all; say whether anything changed.

    Servers that start meanwhile meet the old file or the new one. Nothing needs a restart. What may be mounted into
    servers stands in ``sources`` or beside the patches.

    Raises:
        DockstackError: there is no real runtime or no interpreter.
    """
    found = runc or shutil.which("runc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None or not os.access(found, os.X_OK):
        raise DockstackError(f"There is no OCI runtime {found or 'runc'}.", "Install runc, or name it with --runc.")
    if not os.access(python, os.X_OK):
        raise DockstackError(f"There is no interpreter {python}.", "Install the distribution's python3.")
    directory.mkdir(parents=True, exist_ok=True)
    patches = patch_directory.resolve()
    allowed = tuple(dict.fromkeys(str(source.resolve()) for source in (patches.parent, *sources)))
    files = render(str(patches), str(Path(found).absolute()), python, allowed)
    return any([_place(directory / name, text) for name, text in files.items()])  # noqa: C419 - all of them, always


def patch_path(patch_directory: Path, container_id: str) -> Path:
    """Return where the wrapper looks for a container's patch.

    Raises:
        ValueError: ``container_id`` is none.
    """
    if not _IDENTITY.fullmatch(container_id):
        raise ValueError(f"{container_id!r} is no container id")
    return patch_directory / f"{container_id}{PATCH}"


def write_patch(patch_directory: Path, container_id: str, patch: Patch) -> None:
    """Leave a patch for a container's next starts; an older one is replaced."""
    path = patch_path(patch_directory, container_id)
    _write(path, json.dumps({"version": VERSION, **asdict(patch)}), 0o600)


def write_owner(patch_directory: Path, container_id: str, server_uuid: str, project_id: str) -> None:
    """Leave word whose container it is, where it can be read without the engine; one that is there stays."""
    if read_owner(patch_directory, container_id) != (server_uuid, project_id):
        path = patch_path(patch_directory, container_id).with_suffix(OWNER)
        _write(path, json.dumps({"server": server_uuid, "project": project_id}), 0o644, durable=False)


def read_owner(patch_directory: Path, container_id: str) -> tuple[str, str]:
    """Read whose container it is: the server's uuid and its project's id, both empty if there is no word of it."""
    try:
        found = json.loads(patch_path(patch_directory, container_id).with_suffix(OWNER).read_bytes())
        return str(found["server"]), str(found["project"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def owned(patch_directory: Path) -> frozenset[str]:
    """Return the ids of the containers of which there is word whose they are."""
    return frozenset(path.stem for path in patch_directory.iterdir() if path.suffix == OWNER)


def read_interfaces(patch_directory: Path, container_id: str) -> dict[str, str]:
    """Read from a container's patch which interface of it each link was, by the host's ends; none if there is none.

    A patch that another version wrote tells of none, too: a server must stay deletable whatever it says.
    """
    try:
        found = json.loads(patch_path(patch_directory, container_id).read_bytes())["interfaces"]
        return {str(device): str(name) for device, name in found.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def remove_patch(patch_directory: Path, container_id: str) -> None:
    """Remove a container's patch, and what is left of a held start; absent is success."""
    release(patch_directory, container_id)
    path = patch_path(patch_directory, container_id)
    for suffix in (PATCH, OWNER):
        path.with_suffix(suffix).unlink(missing_ok=True)


def release(patch_directory: Path, container_id: str) -> None:
    """Forget a held start that was broken off, so that the next one is none; absent is success."""
    path = patch_path(patch_directory, container_id)
    for suffix in (HELD, GATE):
        path.with_suffix(suffix).unlink(missing_ok=True)


@contextmanager
def holding(patch_directory: Path, container_id: str) -> Iterator[None]:
    """Have a container that is started meanwhile wait before its first process for the end of the block.

    It does not run if the block fails, or if this process dies: what the wrapper waits for is a lock of this process.
    """
    path = patch_path(patch_directory, container_id).with_suffix(GATE)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.write(descriptor, b"complete\n")
        path.unlink()
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # not by closing: a child that was just forked has it, too
        os.close(descriptor)


def patched(patch_directory: Path) -> tuple[str, ...]:
    """Return the ids of all containers of which something is here, for the sweep of strays."""
    return tuple(sorted({path.stem for path in patch_directory.iterdir() if path.suffix in (PATCH, GATE, HELD, OWNER)}))


def main() -> None:
    """Install the wrapper: the console script ``dockstack-runtime-install``."""
    parser = argparse.ArgumentParser(description="Install the OCI runtime that dockstack's servers start with.")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where to put it (default: %(default)s)")
    parser.add_argument("--patches", type=Path, default=PATCHES, help="[docker] patch_directory (default: %(default)s)")
    parser.add_argument(
        "--source",
        type=Path,
        action="append",
        default=[],
        help="a directory whose content the driver may mount into servers, besides the one that holds the patches",
    )
    parser.add_argument("--runc", help="the real runtime (default: the first runc on PATH)")
    options = parser.parse_args()
    try:
        changed = install(options.directory, options.patches, options.runc, sources=tuple(options.source))
    except (DockstackError, OSError) as error:
        sys.exit(f"dockstack-runtime-install: {error}")
    print("changed" if changed else "unchanged")


def _place(path: Path, text: str) -> bool:
    mode = 0o755
    try:
        if path.read_text(encoding="utf-8") == text and path.stat().st_mode & 0o777 == mode:
            return False
    except FileNotFoundError:
        pass
    _write(path, text, mode)
    return True


def _write(path: Path, text: str, mode: int, *, durable: bool = True) -> None:
    """Put a whole file in place, also across a power cut unless it may be lost then."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            if durable:
                os.fsync(descriptor)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
