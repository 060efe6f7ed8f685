# SPDX-License-Identifier: Apache-2.0
"""HAProxy's files: what ends TLS on the controller, and the lines that all files of ours begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.paths import API_CERTIFICATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.deploy.configuration.settings import Settings

BEGINNING = (
    "# Written by dockstack.",
    "global",
    "    maxconn 2000",
    "    user haproxy",
    "    group haproxy",
)
# A stream is silent for as long as nobody has something to say, such as a console's.
STREAMS = (
    "    mode tcp",
    "    timeout connect 5s",
    "    timeout client 1d",
    "    timeout server 1d",
)
# An API may work on one answer for minutes; whoever begins a request has to go on with it. A connection is for one
# request, as without TLS: one that is kept is sometimes closed just when the next request comes, which then fails.
REQUESTS = (
    "    mode http",
    "    timeout connect 5s",
    "    timeout client 10m",
    "    timeout server 10m",
    "    timeout http-request 30s",
    "    option httpclose",
)


def api_ports(settings: Settings) -> Mapping[str, int]:
    """Return the ports that speak HTTP."""
    ports = settings.ports
    return {
        "keystone": ports.keystone,
        "placement": ports.placement,
        "glance": ports.glance,
        "nova": ports.nova,
        "nova-metadata": ports.nova_metadata,
        "neutron": ports.neutron,
        **({"cinder": ports.cinder} if settings.volumes else {}),
        **({"barbican": ports.barbican} if settings.key_manager else {}),
        **({"registry": ports.registry} if settings.registry else {}),
    }


def tls_proxy_cfg(settings: Settings) -> str:
    """Return the file of what ends TLS: on the address for others, for all that listens on the loopback.

    It alone reads the key, as root, before it becomes another user. uWSGI has an application make its links of https
    where the header says so; what a client sends there is replaced.
    """
    ports = settings.ports
    streams = {"rabbitmq": ports.rabbitmq, "serial-console": ports.serial_console, "novnc": ports.novnc}
    lines = [*BEGINNING, "    ssl-default-bind-options ssl-min-ver TLSv1.2", "defaults", *REQUESTS]
    for name, port in api_ports(settings).items():
        lines += [*_listen(settings, name, port), "    http-request set-header X-Forwarded-Proto https"]
    lines += ["defaults", *STREAMS]
    for name, port in streams.items():
        lines += _listen(settings, name, port)
    return "\n".join(lines) + "\n"


def _listen(settings: Settings, name: str, port: int) -> list[str]:
    return [
        f"listen {name}",
        f"    bind {settings.listen_address}:{port} ssl crt {API_CERTIFICATE}",
        f"    server here {settings.bind_address}:{port}",
    ]
