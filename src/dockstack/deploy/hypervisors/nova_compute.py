# SPDX-License-Identifier: Apache-2.0
"""The nova-compute whose servers a hypervisor runs: that of our own Nova, or of one that somebody else installs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dockstack.deploy import paths

if TYPE_CHECKING:
    from dockstack.deploy.node.manifest import Manifest

SERVED = "nova-compute"  # the one-time record that names another's


@dataclass(frozen=True)
class NovaCompute:
    """What a hypervisor must know of it.

    Attributes:
        user: it runs as this user.
        python: it runs with this Python, in whose environment the driver is.
        state: where the driver keeps temporary files.
        ours: we install it; otherwise its user and the driver's package are somebody else's to provide.
    """

    user: str
    python: str
    state: str
    ours: bool = False

    def program(self, module: str) -> list[str]:
        """Return the command that runs the main function of a module of the driver's, wherever scripts are there."""
        # -P: not what lies in the directory that somebody happens to be in, as this runs as root.
        return [self.python, "-P", "-c", f"from {module} import main; main()"]


OURS = NovaCompute("nova", f"{paths.OPENSTACK_VENV}/bin/python", "/var/lib/nova/docker", ours=True)


def of_another(user: str, python: str) -> NovaCompute:
    """Return the nova-compute of somebody else's Nova; what the driver keeps goes with all that is dockstack's."""
    return NovaCompute(user, python, f"{paths.VAR}/compute")


UNKNOWN = of_another("", "")


def remember(manifest: Manifest, served: NovaCompute) -> None:
    """Note whom the hypervisor of this machine serves, for the verbs that come later."""
    manifest.set_done(SERVED, json.dumps(asdict(served)))


def remembered(manifest: Manifest) -> NovaCompute:
    """Return whom it serves; before anything was noted, neither its user nor its Python is known."""
    kept = manifest.done(SERVED)
    return UNKNOWN if kept is None else NovaCompute(**json.loads(kept))
