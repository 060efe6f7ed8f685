# SPDX-License-Identifier: Apache-2.0
"""The network of machines: a bridge, a namespace and two cables each, and a way to the package index.

One cable has the machine's address. The other has none: where Open vSwitch has no kernel module, it must own the
device that its tunnels go through, and an address on its bridge.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

BRIDGE = "dsm-lan"
PREFIX = "dsm-"
NETWORK = "10.197.0"
TUNNELS = "10.197.1"
NAMESPACES = Path("/run/netns")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
RULES = (
    ("nat", "POSTROUTING", "-s", f"{NETWORK}.0/24", "!", "-d", f"{NETWORK}.0/24", "-j", "MASQUERADE"),
    ("filter", "FORWARD", "-i", BRIDGE, "-j", "ACCEPT"),
    ("filter", "FORWARD", "-o", BRIDGE, "-j", "ACCEPT"),
)


def address(number: int) -> str:
    return f"{NETWORK}.{number}"


def tunnel_address(number: int) -> str:
    return f"{TUNNELS}.{number}"


def namespace(name: str) -> Path:
    return NAMESPACES / f"{PREFIX}{name}"


def set_up() -> None:
    """Have the bridge, with this machine on it as everybody's gateway."""
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{address(1)}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    for table, chain, *rule in RULES:
        _run("iptables", "-w", "-t", table, "-I", chain, *rule)
    if FORWARDING.read_text().strip() == "0":
        FORWARDING.write_text("1")


def join(name: str, number: int) -> None:
    """Give a machine its namespace and its cables."""
    network = f"{PREFIX}{name}"
    _ip("netns", "add", network)
    for device, outside in (("eth0", f"{PREFIX}{number}"), ("eth1", f"{PREFIX}{number}t")):
        _ip("link", "add", outside, "type", "veth", "peer", "name", device, "netns", network)
        _ip("link", "set", outside, "master", BRIDGE, "up")
        _ip("-n", network, "link", "set", device, "up")
    _ip("-n", network, "link", "set", "lo", "up")
    _ip("-n", network, "address", "add", f"{address(number)}/24", "dev", "eth0")
    _ip("-n", network, "route", "add", "default", "via", address(1))


def take_down() -> None:
    """Remove all of it, of whichever run; what is not there is fine."""
    for place in NAMESPACES.glob(f"{PREFIX}*"):
        _ip("netns", "delete", place.name)
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        _ip("link", "delete", BRIDGE)
    for table, chain, *rule in RULES:
        while (
            subprocess.run(
                ["iptables", "-w", "-t", table, "-D", chain, *rule], check=False, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        ):
            pass


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
