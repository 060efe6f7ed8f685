# SPDX-License-Identifier: Apache-2.0
"""The volumes that an image declares: part of the server's own root file system, whatever the engine makes of them.

The engine would make a volume of its own for each, below its data root, where nothing holds the server to its disk, and
would copy the image's files into it. It leaves a place alone where something is mounted already. So each declared
volume is covered by a small tmpfs when a container is created, and the runtime takes the covers off again before the
first process: what shows is what the image has there.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 256  # each is an entry in the engine's and the runtime's records of the container, and in a label
_BYTES = 64 << 10  # of all their paths
_PATH_BYTES = 4096  # PATH_MAX
# The kernel's file systems, which the runtime mounts itself. Below two of them nothing of an image could show anyway.
_KERNELS = ("/proc", "/sys", "/dev")
_KERNELS_OWN = ("/sys/", "/dev/")
COVER_BYTES = 4097
"""The size of a cover. No other tmpfs of a server has this odd one: by it the editor knows a cover."""


class VolumeError(DockstackError):
    """An image declares a volume where no server can have one."""


def cover(volumes: Iterable[str], taken: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the mounts, in the engine's words, that keep it from making volumes.

    Args:
        volumes: the mount points that an image declares.
        taken: where something is mounted anyway.

    Raises:
        VolumeError: one is no place for a volume.
    """
    mounted = {_clean(path) for path in taken}
    return [_cover(path) for path in places(volumes) if path not in mounted]


def places(volumes: Iterable[str]) -> tuple[str, ...]:
    """Return declared mount points as the engine understands them, each once.

    Raises:
        VolumeError: one is no place for a volume, or there are too many.
    """
    found = tuple(sorted({_clean(_checked(volume)) for volume in volumes}))
    if len(found) > MOST or sum(map(len, found)) > _BYTES:
        raise VolumeError(
            f"The image declares {len(found)} volumes, with paths of {sum(map(len, found))} characters.",
            f"Build it again with at most {MOST} and {_BYTES} (VOLUME in a Dockerfile).",
        )
    return found


def uncovered(volumes: Iterable[str]) -> tuple[str, ...]:
    """Return the mount points at which the server's own files show; at the kernel's own places the covers stay."""
    return tuple(sorted({path for path in map(_clean, volumes) if not path.startswith(_KERNELS_OWN)}))


def _cover(path: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"Type": "tmpfs", "Target": path}
    if not path.startswith(_KERNELS_OWN):
        mount["TmpfsOptions"] = {"SizeBytes": COVER_BYTES}
    return mount


def _clean(path: str) -> str:
    """Return a path as Go's path.Clean does, by which the engine compares."""
    return posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else posixpath.normpath(path)


def _checked(path: str) -> str:
    clean = _clean(path)
    encoded = path.encode("utf-8", "replace")
    if (
        not path.startswith("/")
        or clean in ("/", *_KERNELS)
        or clean.startswith("/proc/")
        or "\0" in path
        or len(encoded) > _PATH_BYTES
        or encoded.decode() != path
    ):
        raise VolumeError(
            f"The image declares a volume at {path[:80]!r}, where no server can have one.",
            "Build it again without that volume (VOLUME in a Dockerfile).",
        )
    return path
