# SPDX-License-Identifier: Apache-2.0
"""Units that come with the distribution's packages and would start beside ours at the next boot."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.node.manifest import Made
    from dockstack.deploy.supervision.machine import Machine

HELD = "held-unit"
UNITS = "/etc/systemd/system"


def hold(machine: Machine, units: Sequence[str]) -> None:
    """Mask units before their packages are installed: power may fail between that and the moment ours replace them.

    A unit that is there already is somebody's; it is left as it is.
    """
    if machine.backend.name != "systemd":
        return
    listing = machine.run(["systemctl", "list-unit-files", "--no-legend", "--plain", *units], check=False)
    known = {line.split()[0] for line in listing.lines if line.strip()}
    for unit in units:
        if unit not in known:
            machine.manifest.made(HELD, unit)
            machine.command(["systemctl", "mask", "--quiet", unit])


def release(machine: Machine, entry: Made) -> None:
    """Give a unit back, disabled: its package stays installed, and what nobody asked for does not start."""
    mask = f"{UNITS}/{entry.name}"
    machine.run(
        f'test "$(readlink {shlex.quote(mask)})" = /dev/null && systemctl unmask --quiet {shlex.quote(entry.name)}'
        f" && systemctl disable --quiet {shlex.quote(entry.name)}",
        check=False,
    )
