# SPDX-License-Identifier: Apache-2.0
"""Look at the compute hosts of this machine: engines, network namespaces and switches. Reads only."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from dockstack.errors import DockstackError
from dockstack.names import EXTRA_HOSTS, NAMESPACES, UUID_LABEL, enter_host

BRIDGE = "br-int"
COMMAND_SECONDS = 30
NOVA_CONF, NAME_LINE = "/etc/nova/nova.conf", "s/^host *= *//p"


@dataclass(frozen=True)
class Traces:
    """What a compute node holds of one server."""

    containers: tuple[str, ...]
    namespaces: tuple[str, ...]
    switch_ports: tuple[str, ...]
    devices: tuple[str, ...]

    def describe(self) -> str:
        """Return the traces as text; empty if there are none."""
        parts = {
            "containers": self.containers,
            "network namespaces": self.namespaces,
            f"ports on {BRIDGE}": self.switch_ports,
            "devices": self.devices,
        }
        return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names)


def find_traces(server_id: str, port_ids: tuple[str, ...] = ()) -> Traces:
    """Find all that the hosts of this machine hold of a server."""
    taps = {f"tap{port_id[:11]}" for port_id in port_ids}
    containers: list[str] = []
    namespaces: list[str] = []
    plugged: set[str] = set()
    links: set[str] = set()
    for enter in entrances():
        label = f"label={UUID_LABEL}={server_id}"
        containers += ask(*enter, "docker", "ps", "-aq", "--filter", label).split()
        names = ask(*enter, "ls", str(NAMESPACES)).split()
        namespaces += [name for name in names if name.startswith(f"nova-{server_id}")]
        plugged |= set(ask(*enter, "ovs-vsctl", "list-ports", BRIDGE).split())
        links |= set(ask(*enter, "ls", "/sys/class/net").split())
    return Traces(tuple(containers), tuple(namespaces), tuple(sorted(taps & plugged)), tuple(sorted(taps & links)))


def further_names() -> set[str]:
    """Return Nova's names of the further hosts of this machine."""
    names = (ask(*enter_host(pin.stem), "sed", "-n", NAME_LINE, NOVA_CONF) for pin in EXTRA_HOSTS.glob("*.mnt"))
    return {name for name in names if name}


def entrances() -> list[tuple[str, ...]]:
    """Return for each host of this machine the words that run a command in it: none for the machine itself."""
    return [(), *(enter_host(pin.stem) for pin in sorted(EXTRA_HOSTS.glob("*.mnt")))]


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
