# SPDX-License-Identifier: Apache-2.0
"""Backends that supervise services: systemd, or supervisor where PID 1 is not systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.supervision.backends.supervisor import Supervisor
from dockstack.deploy.supervision.backends.systemd import Systemd

if TYPE_CHECKING:
    from dockstack.deploy.node.shell import Shell
    from dockstack.deploy.supervision.backends.model import Backend

# systemd's own documented test for "was this machine booted with systemd" (sd_booted(3)).
BOOTED_WITH_SYSTEMD = "/run/systemd/system"


def choose(shell: Shell, wanted: str) -> Backend:
    """Return the backend that the attribute ``services.backend`` asks for; "auto" looks at the node."""
    if wanted == "auto":
        wanted = "systemd" if shell.run(["test", "-d", BOOTED_WITH_SYSTEMD], check=False).ok else "supervisor"
    return Systemd(shell) if wanted == "systemd" else Supervisor(shell)
