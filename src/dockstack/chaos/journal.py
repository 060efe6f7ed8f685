# SPDX-License-Identifier: Apache-2.0
"""The journal of a run: what was decided and what came of it, a JSON object a line, written as it happens."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Journal:
    """Writes lines, from any thread, and tells them to a person."""

    def __init__(self, path: Path, tell: Callable[[dict[str, Any]], None]) -> None:
        """Begin a journal.

        Args:
            path: the file; one that is there is replaced.
            tell: shown each line's content.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._tell = tell
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._last: dict[int, str] = {}

    def close(self) -> None:
        """End it; what threads still say is lost."""
        with self._lock:
            self._file.close()

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self._begun

    def note(self, what: str, **facts: Any) -> None:
        """Write one line."""
        line = {"at": round(self.age, 2), "clock": round(time.time(), 2), "what": what, **facts}
        with self._lock:
            if self._file.closed:
                return
            if what == "act" and facts.get("result") not in ("refused", "skipped", "busy", "unanswered"):
                self._last[facts["slot"]] = facts["action"]
            self._file.write(json.dumps(line, default=str) + "\n")
            self._file.flush()
            self._tell(line)

    def last_action(self, slot: int) -> str:
        """Return the last action on a slot's server that was accepted; empty if there was none."""
        with self._lock:
            return self._last.get(slot, "")
