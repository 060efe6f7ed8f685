# SPDX-License-Identifier: Apache-2.0
"""The console log: what a server's processes wrote, bounded on disk by the engine and here in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.compute.engine import Engine

MAX_BYTES = 100 * 1024  # what Nova's drivers answer


def tail(engine: Engine, name: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the last bytes of a container's console log, running or not.

    Raises:
        NotFound: there is no such container.
    """
    return engine.logs(name, max_bytes)
