# SPDX-License-Identifier: Apache-2.0
"""Files that survive kill -9 and power loss: whole and old, or whole and new."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(
    path: str | Path, content: str | bytes, *, mode: int = 0o644, owner: tuple[int, int] | None = None
) -> None:
    """Write a file beside its target, sync it, and rename it over the target.

    Args:
        path: the target; what is there, a link too, is replaced.
        content: text or bytes.
        mode: its permissions.
        owner: user and group id, for a process that may give files away; others keep what they write.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            if owner is not None and os.geteuid() == 0:
                os.fchown(stream.fileno(), *owner)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def append_line(path: str | Path, line: str) -> None:
    """Append one line durably; concurrent writers do not mix (O_APPEND, one write)."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # A line that power loss tore stays a line of its own.
        torn = target.stat().st_size and target.read_bytes()[-1:] != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + line.rstrip("\n").encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make a rename in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
