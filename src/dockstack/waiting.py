# SPDX-License-Identifier: Apache-2.0
"""Wait for something that only looking tells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found | None], seconds: float, every: float) -> Found | None:
    """Look again and again until what is found is true, and return it; return the last look's when time is over.

    Args:
        look: looks; what it raises ends the waiting.
        seconds: how long; there is always one look, and one after the last pause.
        every: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(every)
    return found
