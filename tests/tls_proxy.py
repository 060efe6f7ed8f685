# SPDX-License-Identifier: Apache-2.0
"""The proxy that ends TLS: a real HAProxy with the file and the certificate of a cloud with ``tls.enable``."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime

from dockstack.deploy.configuration import certificates, haproxy
from dockstack.deploy.configuration.certificates import Holder
from dockstack.deploy.configuration.settings import Ports, Settings
from dockstack.waiting import wait_for
from held_ports import hold_port, port_of

OUTSIDE, INSIDE = "127.0.0.9", "127.0.0.1"
SECONDS = 60  # what a machine with other work may need
NAMES = ("keystone", "placement", "glance", "nova", "nova_metadata", "neutron", "rabbitmq", "serial_console", "novnc")


def answers(port):
    try:
        socket.create_connection((OUTSIDE, port), 5).close()
    except OSError:
        return False
    return True


@contextmanager
def tls_proxy(directory, monkeypatch, **known):
    """Run the proxy; give its ports, and the certificate of whom its clients trust.

    Args:
        directory: for its file and its certificate.
        monkeypatch: pytest's.
        known: ports that are not free ones: registry.
    """
    now = datetime.now(UTC)
    authority = certificates.authority(None, "dockstack on controller", now)
    pem = directory / "apis.pem"
    pem.write_text(certificates.issued(None, authority, Holder("controller", (OUTSIDE,)), now))
    pem.chmod(0o600)
    monkeypatch.setattr(haproxy, "API_CERTIFICATE", pem)
    with ExitStack() as until_the_end:
        held = [until_the_end.enter_context(closing(hold_port(INSIDE))) for _ in NAMES]
        ports = Ports(**dict(zip(NAMES, map(port_of, held), strict=True)), **known)
        settings = Settings(
            secrets={},
            hostname="controller",
            listen_address=OUTSIDE,
            tls=True,
            ports=ports,
            registry="registry" in known,
        )
        (directory / "proxy.cfg").write_text(haproxy.tls_proxy_cfg(settings))
        proxy = until_the_end.enter_context(subprocess.Popen(["haproxy", "-db", "-f", directory / "proxy.cfg"]))
        until_the_end.callback(proxy.terminate)
        listens = wait_for(lambda: answers(known.get("registry", ports.keystone)), SECONDS, 0.1)
        assert listens, "the proxy does not listen"
        yield ports, certificates.certificate_of(authority)
