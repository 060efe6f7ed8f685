# SPDX-License-Identifier: Apache-2.0
"""The nodes that were added from here, as people read them; none of them is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from dockstack.deploy.join.journal import Step
from dockstack.deploy.supervision.status import age
from dockstack.terminal import styled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.deploy.join.journal import Entry

COLOURS = {Step.JOINED: "green", Step.ENABLED: "green", Step.DRAINED: "cyan", Step.FAILED: "red"}


def table(entries: Iterable[Entry]) -> Table:
    """Return a line for each node: how far it came, and since when."""
    found = Table(box=None, pad_edge=False)
    for title in ("NODE", "HOSTNAME", "LOGIN", "RELEASE", "STATE", "SINCE"):
        found.add_column(title, no_wrap=True)
    for entry in entries:
        state = styled((entry.step.value, COLOURS.get(entry.step, "yellow")))
        found.add_row(entry.node, entry.hostname, entry.login, entry.release, state, age(entry.at))
    return found
