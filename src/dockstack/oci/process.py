# SPDX-License-Identifier: Apache-2.0
"""What an image says about the process that it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dockstack.names import SPARSE_LABEL
from dockstack.oci.documents import ImageRejected, as_go_reads

_READ = ("Cmd", "Entrypoint", "Env", "Healthcheck", "Labels", "StopSignal", "User", "Volumes", "WorkingDir")
_HEALTHCHECK = ("Interval", "Retries", "StartInterval", "StartPeriod", "Test", "Timeout")


@dataclass(frozen=True)
class ImageConfig:
    """What an image says about its process (OCI specification, "config"); server and image properties win over it."""

    env: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    working_directory: str = ""
    stop_signal: str | None = None
    volumes: tuple[str, ...] = ()  # declared mount points, absolute paths
    healthcheck: dict[str, Any] | None = None  # in the engine's form: Test, Interval, Timeout, Retries, StartPeriod
    init: str = ""  # not said but found: which init of a system its command is (compute.containers.inits)
    sparse: bool = False  # holds sparse files without their holes, and says where those belong


def image_config(process: dict[str, Any]) -> ImageConfig:
    """Translate a configuration's "config" member.

    Raises:
        ImageRejected: a member has a type that the engine would not take, or what no runtime starts.
    """
    process = as_go_reads(process, _READ, "configuration")
    healthcheck = process.get("Healthcheck")
    volumes, labels = process.get("Volumes") or {}, process.get("Labels")
    for name, value in (("Healthcheck", healthcheck or {}), ("Volumes", volumes)):
        if not isinstance(value, dict):
            raise _ill_typed(name)
    healthcheck = as_go_reads(healthcheck or {}, _HEALTHCHECK, "health check")
    pairs = [item.partition("=") for item in _strings(process, "Env") if item]
    if not all(name for name, _, _ in pairs):
        raise ImageRejected(
            "The image's configuration has a variable without a name in Env: no runtime starts such a process.",
            "Build the image again without it.",
        )
    return ImageConfig(
        env={name: value for name, _, value in pairs},
        command=_words(process, "Cmd"),
        entrypoint=_words(process, "Entrypoint"),
        user=_string(process, "User"),
        working_directory=_string(process, "WorkingDir"),
        stop_signal=_string(process, "StopSignal") or None,
        volumes=tuple(sorted(volumes)),
        healthcheck=healthcheck or None,
        sparse=isinstance(labels, dict) and labels.get(SPARSE_LABEL) == "true",
    )


def _words(process: dict[str, Any], key: str) -> tuple[str, ...]:
    """Read a command; a bare string is a command of one word to the engine, too (moby: strslice)."""
    value = process.get(key)
    return (value,) if isinstance(value, str) and value else _strings(process, key)


def _strings(process: dict[str, Any], key: str) -> tuple[str, ...]:
    value = process.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _ill_typed(key)
    return tuple(value)


def _string(process: dict[str, Any], key: str) -> str:
    value = process.get(key) or ""
    if not isinstance(value, str):
        raise _ill_typed(key)
    return value


def _ill_typed(key: str) -> ImageRejected:
    return ImageRejected(f"The image's configuration has a malformed {key}.", "Build the image again.")
