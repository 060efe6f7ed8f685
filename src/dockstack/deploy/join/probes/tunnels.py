# SPDX-License-Identifier: Apache-2.0
"""The path that tunnels take, from this machine to each chassis: is it wide enough for the cloud's networks?"""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from typing import TYPE_CHECKING

from dockstack.deploy.join.probes import apis, databases
from dockstack.deploy.join.probes.model import Failed, Skipped

if TYPE_CHECKING:
    from dockstack.deploy.wanted.cloud_document import CloudDocument

# linux/in.h; Python has no names for them before 3.12 or so
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
HEADERS = 28  # of IPv4 and UDP
DISCARD = 9  # RFC 863; who has nobody there says so, or nothing
WAIT = 0.3  # seconds for a router on the way to object
MOST = 20  # chassis that are tried


def ask(cloud: CloudDocument) -> str:
    """Send one datagram of that size, which must not be cut, towards each chassis.

    Raises:
        Failed: it does not fit.
        Skipped: nobody can tell from here.
    """
    needed = apis.needed_mtu(cloud)
    if not needed:
        raise Skipped("Neutron has no network yet that is tunnelled.")
    try:
        known = databases.tunnel_ends(cloud)
    except Failed as failed:
        raise Skipped(f"Where tunnels end is not known: {failed.seen}") from failed
    ends = [end for end in known if _is_elsewhere(end)][:MOST]
    if not ends:
        raise Skipped("OVN has no chassis yet whose tunnels end on another machine, over IPv4.")
    for end in ends:
        found = path_mtu(end, needed)
        if found < needed:
            raise Failed(
                f"The way from here to the tunnels of {end} takes {found} bytes; the largest network needs {needed}.",
                "Small packets pass and large ones vanish: logins work, and transfers hang.",
                f"Raise the MTU on that way to {needed}, or lower Neutron's (global_physnet_mtu) for new networks.",
            )
    return f"{needed} bytes pass from here to {', '.join(ends)}, as far as routers tell."


def _is_elsewhere(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.version == 4 and not parsed.is_loopback  # noqa: PLR2004


def path_mtu(address: str, size: int) -> int:
    """Return the largest packet that is known to pass to an address, after one of this size was sent there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        try:
            out.connect((address, DISCARD))
            out.send(bytes(size - HEADERS))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise Skipped(f"From here, {address} cannot be reached: {error.strerror}") from error
        time.sleep(WAIT)
        return out.getsockopt(socket.IPPROTO_IP, IP_MTU)
