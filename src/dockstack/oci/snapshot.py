# SPDX-License-Identifier: Apache-2.0
"""A root file system as an image of one layer.

An archive names each layer's size and digest before its bytes, and both are known only when all was read. So it is
read twice: once to measure and check it, once to send it. What the first reading could keep would take as much room on
the host as the whole root file system.

One layer, because layers of snapshots of snapshots would pile up to the engine's limit of 125.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dockstack.errors import DockstackError
from dockstack.names import LABEL_PREFIX
from dockstack.oci import sandbox
from dockstack.oci.documents import Configuration, Digest, ImageRejected, Layer, Platform, go_architecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dockstack.oci.streams import ImageLimits

    Read = Callable[[], Iterable[bytes]]  # starts reading a root file system as a tar archive, the same each time

# What a server may run with otherwise than its image says (the specification's names)
_SETTINGS = ("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "StopSignal", "Volumes")
_PROPERTY_BYTES = 60_000  # Glance keeps 65,535
_GIB = 1 << 30


class SnapshotError(DockstackError):
    """A server's root file system cannot become an image."""


def build_process(image: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an image says about its process, so that a server from it runs as this one does.

    Args:
        image: the "config" of the image that the server was made from.
        server: the server's own.
    """
    process = {key: value for key, value in image.items() if key not in _SETTINGS and value}
    process |= {key: server[key] for key in _SETTINGS if server.get(key)}
    labels = {name: value for name, value in (image.get("Labels") or {}).items() if not name.startswith(LABEL_PREFIX)}
    process.pop("Labels", None)
    return process | ({"Labels": labels} if labels else {})


def describe_process(process: Mapping[str, Any]) -> dict[str, str]:
    """Say how a process runs in image properties, each as it would have to be set to change nothing."""
    environment = dict(item.partition("=")[::2] for item in process.get("Env") or ())
    command = list(process.get("Cmd") or ())
    described = {
        "docker_entrypoint": json.dumps(list(process.get("Entrypoint") or ())),
        "docker_command": json.dumps(command),
        "os_command_line": shlex.join(command),
        "docker_env": json.dumps(environment),
        "docker_user": process.get("User") or "",
        "docker_workdir": process.get("WorkingDir") or "",
        "docker_stop_signal": process.get("StopSignal") or "",
        **{f"docker_env_{name}": value for name, value in environment.items()},
    }
    if len(described["docker_env"].encode()) > _PROPERTY_BYTES:
        described["docker_env"] = "{}"  # the image's own configuration says it all
    return described


@contextmanager
def measuring(limits: ImageLimits, timeout: float) -> Iterator[Callable[[Read], Layer]]:
    """Start what reads a root file system and returns it as a layer; it gets ready while the body makes the copy.

    A server's files are a stranger's, so they are read in a process of their own, as images are.

    Args:
        limits: what hosts accept, so that nothing is sent that could not boot.
        timeout: seconds that the reading may take.

    Raises:
        SnapshotError: when it is called: no server could boot from it.
        InputTooSlow: when it is called: the reading did not end in time.
        CannotCheck: the host's own trouble.
        Exception: whatever ``read`` raises.
    """
    with sandbox.measuring(limits=limits, timeout=timeout) as checked:

        def measure(read: Read) -> Layer:
            try:
                digest, size = checked(read())
            except ImageRejected as error:
                raise SnapshotError(
                    f"The server's root file system cannot become an image. {error.brief}",
                    "Remove what the message names from the server, then try again.",
                    error.details,
                ) from error
            return Layer(digest, size, lambda: _unchanged(read(), digest))

        yield measure


def build_configuration(layer: Layer, process: dict[str, Any], architecture: str, comment: str) -> Configuration:
    """Build the configuration of an image of one layer.

    Args:
        layer: its layer.
        process: what it runs.
        architecture: the machine's, as uname names it.
        comment: what its history says.
    """
    return Configuration.build(Platform("linux", *go_architecture(architecture)), [layer.diff_id], process, comment)


def needed_disk_gb(size: int) -> int:
    """Return what a flavor's disk must have for an image that unpacks to ``size`` bytes."""
    return -(-size // _GIB)


def _unchanged(chunks: Iterable[bytes], digest: Digest) -> Iterator[bytes]:
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
        yield chunk
    if sha256.hexdigest() != digest.hex:
        raise SnapshotError("The server's root file system changed while it was read.", "Try again.")
