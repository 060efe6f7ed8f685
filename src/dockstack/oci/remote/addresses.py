# SPDX-License-Identifier: Apache-2.0
"""Where a connection may go.

A tenant names the registry, the registry names where tokens and blobs are, and names resolve to whatever their owners
say. So a host that the operator has not listed is only ever reached at a public address, and the connection goes to the
very address that was looked at: a name that is resolved twice may mean two machines.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from dockstack.errors import DockstackError
from dockstack.oci.documents import shown

PORTS = {"https": 443, "http": 80}
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class RegistryError(DockstackError):
    """A registry did not give what it was asked for; another host, or another moment, may fare better."""


class Origin(NamedTuple):
    """Whom a URL speaks to."""

    scheme: str
    host: str  # without brackets
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Read a URL's.

        Raises:
            RegistryError: it is none of the web's.
        """
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError as error:
            raise _no_url(url) from error
        if scheme not in PORTS or not host or parts.username is not None or not host.isascii():
            raise _no_url(url)
        return cls(scheme, host, port or PORTS[scheme])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == PORTS[self.scheme] else f":{self.port}")


@dataclass(frozen=True)
class Allowed:
    """Whom the operator trusts: these may have private addresses, and those with ``http`` speak without TLS."""

    origins: frozenset[Origin] = frozenset()
    ca_file: str | None = None  # whose signatures count beside the system's

    def require(self, origin: Origin) -> None:
        """Refuse to speak in clear to anybody else.

        Raises:
            RegistryError: the operator has not listed it so.
        """
        if origin.scheme != "https" and origin not in self.origins:
            raise RegistryError(
                f"The registry leads to {shown(str(origin))}, without TLS.",
                "Give the registry TLS, or list that address with http:// in [docker] allowed_registries.",
            )

    def resolve(self, origin: Origin) -> list[str]:
        """Return the addresses at which a host may be reached, best first.

        Raises:
            RegistryError: there are none.
        """
        try:
            found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise RegistryError(
                f"The name {shown(origin.host)} does not resolve on this host.", "Correct it, or this host's DNS."
            ) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        listed = any((known.host, known.port) == (origin.host, origin.port) for known in self.origins)
        usable = addresses if listed else [address for address in addresses if is_public(address)]
        if not usable:
            raise RegistryError(
                f"{shown(str(origin))} has no public address, and this host's operator has not listed it.",
                "Use another registry; an operator who wants this one adds it to [docker] allowed_registries.",
            )
        return usable


def is_public(text: str) -> bool:
    """Whether an address is one of the internet's: not this machine's, its networks', a link's, or reserved."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.sixtofour is not None:
            return is_public(str(address.sixtofour))
        if address not in _GLOBAL_UNICAST:  # mapped and translated IPv4 addresses, too
            return False
    return address.is_global and not address.is_multicast


def _no_url(url: str) -> RegistryError:
    return RegistryError(f"The registry leads to {shown(url)}, which is no address of the web.", "Ask who runs it.")
