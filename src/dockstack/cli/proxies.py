# SPDX-License-Identifier: Apache-2.0
"""Proxies that the environment names: packages come through them, and this machine's own services do not.

Clients of HTTP take a proxy for every address that ``no_proxy`` does not name, also for 127.0.0.1. The proxy then looks
for the cloud on itself, and its error page is taken for the cloud's answer.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from dockstack.errors import DockstackError

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_EXCEPT = ("no_proxy", "NO_PROXY")  # some programs read the one, some the other


def spare_this_machine(environment: MutableMapping[str, str]) -> None:
    """Have this process and those that it starts go past the proxy to this machine; what is excepted already stays."""
    if not _find(environment):
        return
    said = next((environment[name] for name in _EXCEPT if environment.get(name)), "")
    names = [name.strip() for name in said.split(",") if name.strip()]
    value = ",".join(dict.fromkeys([*names, *_list_own_names()]))
    environment.update(dict.fromkeys(_EXCEPT, value))


def hint(error: DockstackError, environment: MutableMapping[str, str]) -> str:
    """Say that a proxy may be the cause of an error; empty if it is not, or there is none."""
    found = _find(environment)
    told = f"{error.brief}\n{error.details}".lower()
    if not found or not (_is_of_proxy(error) or "proxy" in told or "bad gateway" in told):
        return ""
    return (
        f"{found} is set, and the proxy may be the cause: name the hosts that it cannot reach in no_proxy, or correct "
        "or unset the variable."
    )


def _find(environment: MutableMapping[str, str]) -> str:
    """Return the name of a variable that names a proxy; its value may have a password."""
    spelled = (name for proxy in _PROXIES for name in (proxy, proxy.upper()))
    return next((name for name in spelled if environment.get(name)), "")


def _list_own_names() -> Iterable[str]:
    import psutil  # noqa: PLC0415 - most have no proxy, and `--help` is quick

    every = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    found = [address.address for address in every if _is_ip(address)]
    return ["localhost", "127.0.0.1", "::1", socket.gethostname(), *sorted(name.partition("%")[0] for name in found)]


def _is_ip(address: object) -> bool:
    return getattr(address, "family", None) in (socket.AF_INET, socket.AF_INET6)


def _is_of_proxy(error: BaseException | None) -> bool:
    """Whether an error goes back to a proxy; each library of HTTP has a class of its own of this name."""
    while error is not None:
        if any(kind.__name__ == "ProxyError" for kind in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False
