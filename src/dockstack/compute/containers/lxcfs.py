# SPDX-License-Identifier: Apache-2.0
"""What a server sees of its machine is its own: its processors, memory, load and uptime, and no disks of the host.

LXCFS is a file system that answers for the control group of whoever reads it. Its files stand over the kernel's in a
server. They belong to one process of LXCFS: when that ends, reading them fails, and they must be mounted anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.containers.runtime import Mount
from dockstack.compute.engine import Engine
from dockstack.compute.privileged import context
from dockstack.compute.privileged import lxcfs as privileged
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable

# What programs ask for processors, memory, load and the time since boot. LXCFS's diskstats is left out: its numbers are
# the server's, but its devices are the host's.
FILES = (
    "proc/cpuinfo",
    "proc/loadavg",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "sys/devices/system/cpu/online",
)

# Where the kernel tells of block devices; a path that a kernel lacks is passed over.
BLOCK_DEVICES = (
    "/proc/diskstats",
    "/proc/partitions",
    "/sys/block",
    "/sys/class/block",
    "/sys/dev/block",
    "/sys/devices/virtual/bdi",
    "/sys/devices/virtual/block",
    "/sys/fs/ext4",
    "/sys/fs/xfs",
    "/sys/fs/btrfs",
)


DIRECTORY = Path("/var/lib/dockstack/lxcfs")
PATIENCE = 3.0  # seconds that LXCFS may take for an answer: it takes microseconds


class ViewError(DockstackError):
    """The kernel refused to put a server's own view of its machine in place."""


@dataclass
class _Memory:
    """What LXCFS said when it was last asked."""

    generation: int | None = None
    asked_at: float | None = None  # an answer is awaited since then; None: none is


@dataclass(frozen=True)
class Lxcfs:
    """LXCFS on this host, if it runs.

    Whoever asks an LXCFS that hangs waits for as long as it does. So only ``ask`` does that, in a thread that nobody
    waits for; all else goes by what it heard.

    Attributes:
        directory: where it is mounted; None if this host has none.
    """

    directory: Path | None
    _memory: _Memory = field(default_factory=_Memory, compare=False, repr=False)

    def ask(self) -> int | None:
        """Look which LXCFS runs, and remember it; may take as long as it likes."""
        self._memory.asked_at = time.monotonic()
        try:
            self._memory.generation = self._look()
        finally:
            self._memory.asked_at = None
        return self._memory.generation

    def generation(self) -> int | None:
        """Tell one process of LXCFS from the next by the number of its mount; None if none answers, or none in time."""
        asked_at = self._memory.asked_at
        if asked_at is not None and time.monotonic() - asked_at > PATIENCE:
            return None
        return self._memory.generation

    def _look(self) -> int | None:
        if self.directory is None:
            return None
        try:
            device = (self.directory / FILES[0]).stat().st_dev
            return device if device != self.directory.parent.stat().st_dev else None
        except OSError:  # not there, or its process is gone: ENOTCONN
            return None

    def mounts(self) -> tuple[Mount, ...]:
        """Return what goes over the kernel's files in a server that starts now; nothing if LXCFS does not answer.

        It may end before the server starts: better a server that sees the host's numbers than none.
        """
        if self.directory is None or self.generation() is None:
            return ()
        return tuple(Mount(str(self.directory / file), f"/{file}", required=False) for file in FILES)

    def renew(self, pid: int, container_id: str) -> bool:
        """Put the files of the LXCFS that runs now over those of one that is gone; say whether that was needed.

        Without an LXCFS the dead files go, and the kernel's show again: the host's, but readable.

        Args:
            pid: the server's first process.
            container_id: its container; a process of another one is left alone.

        Raises:
            ViewError: the kernel refused.
        """
        if self.directory is None:
            return False
        source = str(self.directory) if self.generation() is not None else ""
        try:
            return bool(privileged.renew(pid, container_id, source, list(FILES)))
        except OSError as error:
            raise ViewError(
                f"The view of container {container_id[:12]} could not be renewed: {error.strerror or error}.",
                "Restart the server through Nova; check that nova-compute's privsep helper runs as root.",
            ) from error


def hidden(blocks: Path = Path("/sys/block")) -> tuple[str, ...]:
    """Return the paths that tell of the host's block devices, the hardware's own directories included."""
    parents = (str(entry.resolve().parent) for entry in _entries(blocks))
    return tuple(dict.fromkeys((*BLOCK_DEVICES, *sorted(set(parents)))))


def _entries(directory: Path) -> Iterable[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def main() -> None:
    """Renew what every running server sees, without Nova: the console script ``dockstack-views``.

    Needs root. With an LXCFS that was stopped for good, servers see the host's numbers afterwards, which beats errors.
    """
    parser = argparse.ArgumentParser(description="Renew what running servers see of their machine.")
    parser.add_argument("--engine", default="unix:///run/docker.sock", help="the engine (default: %(default)s)")
    parser.add_argument("--lxcfs", type=Path, default=DIRECTORY, help="where LXCFS is mounted (default: %(default)s)")
    options = parser.parse_args()
    context.set_client_mode(False)
    engine, lxcfs = Engine(options.engine, 60), Lxcfs(options.lxcfs)
    try:
        lxcfs.ask()
        running = [engine.container(found.name) for found in engine.containers()]
        renewed = sum(lxcfs.renew(container.pid, container.id) for container in running if container.pid)
    except DockstackError as error:
        sys.exit(f"dockstack-views: {error}")
    print(f"renewed {renewed}")
