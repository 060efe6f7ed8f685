# SPDX-License-Identifier: Apache-2.0
"""Look at the compute node itself: the engine, the network namespaces and the switch. Reads only."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from dockstack.errors import DockstackError

NAMESPACES = Path("/run/netns")
BRIDGE = "br-int"
UUID_LABEL = "org.openstack.nova.uuid"
COMMAND_SECONDS = 30


@dataclass(frozen=True)
class Traces:
    """What a compute node holds of one server."""

    containers: tuple[str, ...]
    namespaces: tuple[str, ...]
    switch_ports: tuple[str, ...]
    devices: tuple[str, ...]

    def describe(self) -> str:
        """Say what is there, in words; empty if nothing is."""
        parts = {
            "containers": self.containers,
            "network namespaces": self.namespaces,
            f"ports on {BRIDGE}": self.switch_ports,
            "devices": self.devices,
        }
        return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names)


def find_traces(server_id: str, port_ids: tuple[str, ...] = ()) -> Traces:
    """Find all that the node holds of a server."""
    taps = {f"tap{port_id[:11]}" for port_id in port_ids}
    return Traces(
        containers=tuple(ask("docker", "ps", "-aq", "--filter", f"label={UUID_LABEL}={server_id}").split()),
        namespaces=tuple(path.name for path in NAMESPACES.glob(f"nova-{server_id}*")),
        switch_ports=tuple(sorted(taps & set(ask("ovs-vsctl", "list-ports", BRIDGE).split()))),
        devices=tuple(sorted(tap for tap in taps if (Path("/sys/class/net") / tap).exists())),
    )


def container_pid(server_id: str) -> int:
    """Return the process id of a server's first process; 0 if it does not run."""
    return int(ask("docker", "inspect", "--format", "{{.State.Pid}}", f"nova-{server_id}"))


def ask(*command: str) -> str:
    """Run a command that only reads.

    Raises:
        DockstackError: it failed or did not end.
    """
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except FileNotFoundError as error:
        raise DockstackError(f"{command[0]} is not installed here.", "Run on the compute node.") from error
    except subprocess.CalledProcessError as error:
        raise DockstackError(f"`{' '.join(command)}` failed.", details=error.stderr) from error
    except subprocess.TimeoutExpired as error:
        raise DockstackError(f"`{' '.join(command)}` did not end within {COMMAND_SECONDS} s.") from error
    return done.stdout.strip()
