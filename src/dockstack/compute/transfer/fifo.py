# SPDX-License-Identifier: Apache-2.0
"""FIFOs, by which root's part hands over what it reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFIX = "moving-"


@contextmanager
def opened(workspace: Path) -> Iterator[tuple[str, int, int]]:
    """Make a FIFO and open both ends, so that neither reader nor writer waits for the other; give its path and them.

    The caller closes the reading end when nobody here reads it any more, and the writing end when all is written.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=workspace) as directory:
        path = f"{directory}/fifo"
        os.mkfifo(path, 0o600)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        writer = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.set_blocking(reader, True)
        yield path, reader, writer


def remove_leftovers(workspace: Path) -> None:
    """Remove what a process that was killed has left; only one process uses a workspace."""
    for left in workspace.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
