# SPDX-License-Identifier: Apache-2.0
"""OVN's southbound databases, as ovn-controller will find them: two questions of their protocol (RFC 7047).

Sixty lines instead of a library: those that there are replicate a whole database before they answer.
"""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.deploy.join.probes.model import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.deploy.wanted.cloud_document import CloudDocument

PATIENCE = 8.0
DATABASES = {"ovn.southbound": "OVN_Southbound", "ovn.northbound": "OVN_Northbound"}
LARGEST = 1 << 22  # bytes that an answer may have
CURE = "Is it the address that nodes reach, is it tcp: or ssl: as the cloud has it, and do the certificates fit?"


def ask(cloud: CloudDocument) -> str:
    """Ask each of OVN's databases whether it is what the document says.

    Raises:
        Failed: one does not answer, or serves something else.
    """
    seen = []
    for key, name in DATABASES.items():
        for remote in cloud.values.items(key):
            found = call(cloud, remote, "list_dbs", [])
            if not isinstance(found, list) or name not in found:
                served = ", ".join(map(str, found)) if isinstance(found, list) else "none"
                raise Failed(
                    f"{remote} serves no {name}; its databases: {served}.",
                    "ovn-controller and the agent would get nothing from there, and servers no network.",
                    f"Correct {key}: it is another database's, or another port.",
                )
            seen.append(remote)
    return f"{', '.join(seen)}: they are OVN's."


def tunnel_ends(cloud: CloudDocument) -> tuple[str, ...]:
    """Return where the tunnels of all chassis end."""
    query = ["OVN_Southbound", {"op": "select", "table": "Encap", "where": [], "columns": ["ip"]}]
    (answer,) = call(cloud, cloud.values.items("ovn.southbound")[0], "transact", query)
    return tuple(sorted({str(row["ip"]) for row in answer["rows"]}))


def call(cloud: CloudDocument, remote: str, method: str, parameters: list[Any]) -> Any:
    """Send one request and return its result.

    Raises:
        Failed: there is no answer.
    """
    try:
        with _connected(cloud, remote) as connection:
            connection.sendall(json.dumps({"method": method, "params": parameters, "id": 1}).encode())
            return _answer(connection)
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else "it does not speak OVSDB"
        raise Failed(
            f"{remote} does not answer: {reason}", "Nodes would get no networks: their servers stay in BUILD.", CURE
        ) from error


def _answer(connection: socket.socket) -> Any:
    """Read until the answer to our request is whole; the server's own questions (echo) stay unanswered."""
    decoder, text = json.JSONDecoder(), ""
    while len(text) < LARGEST:
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError("it hung up")
        text = (text + data.decode()).lstrip()
        while text:
            try:
                message, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                if not text.startswith("{"):
                    raise
                break
            text = text[end:].lstrip()
            if isinstance(message, dict) and message.get("id") == 1 and "result" in message:
                return message["result"]
    raise ValueError("its answer has no end")


@contextmanager
def _connected(cloud: CloudDocument, remote: str) -> Iterator[socket.socket]:
    protocol, _, place = remote.partition(":")
    host, _, port = place.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as plain:
        if protocol != "ssl":
            yield plain
            return
        with _context(cloud).wrap_socket(plain) as encrypted:
            yield encrypted


def _context(cloud: CloudDocument) -> ssl.SSLContext:
    """Return what OVN itself asks of a server: a certificate of the authority's, whatever its name is."""
    context = ssl.create_default_context(cadata=cloud.text("ovn.authority") or None)
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as it does; certificates of ovs-pki would not pass
    with tempfile.TemporaryDirectory(prefix="dockstack-") as directory:  # the library takes files only
        certificate, key = Path(directory, "certificate"), Path(directory, "key")
        certificate.write_text(cloud.text("ovn.certificate"))
        key.touch(mode=0o600)
        key.write_text(cloud.text("ovn.private_key"))
        context.load_cert_chain(certificate, key)
    return context
