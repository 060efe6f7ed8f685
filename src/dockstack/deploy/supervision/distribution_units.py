# SPDX-License-Identifier: Apache-2.0
"""Mask units of the distribution's packages, which would start beside our services at the next boot."""

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
    """Mask units before their packages are installed, as power may fail after the installation and before we mask them.

    A unit that is there already belongs to the machine's owner and is left as it is.
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
    """Unmask a unit and disable it: its package may stay installed, and it was not running before ``up``."""
    mask = f"{UNITS}/{entry.name}"
    machine.run(
        f'test "$(readlink {shlex.quote(mask)})" = /dev/null && systemctl unmask --quiet {shlex.quote(entry.name)}'
        f" && systemctl disable --quiet {shlex.quote(entry.name)}",
        check=False,
    )
