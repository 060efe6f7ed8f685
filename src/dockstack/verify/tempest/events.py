# SPDX-License-Identifier: Apache-2.0
"""Translate Tempest's stream of events to lines of JSON; run by Tempest's own Python, which has the subunit package.

Each line is a test that began or ended: its id, its state, the time and what is attached to it as text.
"""

from __future__ import annotations

import json
import sys
from typing import Any

ATTACHMENTS = ("reason", "traceback")  # the rest, such as the log of every request, is in stestr's repository


class Lines:
    """A subunit stream's receiver that writes a line for each test that begins or ends."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._texts: dict[str, list[str]] = {}

    def startTestRun(self) -> None:  # noqa: N802 - the stream protocol's name
        """Do nothing."""

    def stopTestRun(self) -> None:  # noqa: N802 - the stream protocol's name
        """Do nothing."""

    def status(self, **event: Any) -> None:
        """Collect attachments; write a line when a test changes its state."""
        name = event.get("test_id")
        if name is None:
            return
        attached, kind = event.get("file_bytes"), str(event.get("file_name") or "")
        if attached and kind.startswith(ATTACHMENTS):
            self._texts.setdefault(name, []).append(bytes(attached).decode(errors="replace"))
        state = event.get("test_status")
        if state in {None, "exists"}:
            return
        text = "" if state == "inprogress" else "".join(self._texts.pop(name, ()))
        at = event.get("timestamp")
        line = {"id": name, "state": state, "at": at.timestamp() if at else None, "text": text}
        line["tags"] = sorted(event.get("test_tags") or ())
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Read subunit from standard input until it ends."""
    import subunit  # type: ignore[import-not-found]  # noqa: PLC0415 - Tempest's environment has it, ours has not

    subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(Lines())


if __name__ == "__main__":
    main()
