# SPDX-License-Identifier: Apache-2.0
"""The only exception base: what happened, and what to do about it."""

from __future__ import annotations

from dockstack.display import printable, printable_lines


class DockstackError(Exception):
    """An error that a person will read.

    Attributes:
        brief: one sentence: what happened.
        resolution: one or more sentences: what to do about it; empty if nothing can be done.
        details: raw evidence (a log tail, an engine's answer); may have many lines.
    """

    def __init__(self, brief: str, resolution: str = "", details: str = "") -> None:
        """Keep the three parts; ``str()`` joins brief and resolution.

        They may quote names that a stranger chose, so whatever does not print is written out.
        """
        self.brief = printable(brief)
        self.resolution = printable(resolution)
        self.details = printable_lines(details)
        super().__init__(self.brief)

    def __str__(self) -> str:
        return f"{self.brief} {self.resolution}".strip()
