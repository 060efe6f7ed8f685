# SPDX-License-Identifier: Apache-2.0
"""What is wrong with how other machines come in: in clear, where nobody could, or with certificates that fail."""

from __future__ import annotations

import ipaddress
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from dockstack.deploy.recipes.facts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dockstack.deploy.node.listeners import Listener
    from dockstack.deploy.wanted.attributes import Attributes

GIVEN = ("tls.certificate", "tls.private_key", "tls.authority")
PROXY = "haproxy"


def obstacles(attributes: Attributes, failure: str, listening: Iterable[Listener]) -> Iterator[tuple[str, str]]:
    """Yield what stands in the way and its cure; pure.

    Args:
        attributes: of the controller.
        failure: what ``handshake`` said of the operator's certificate.
        listening: what listens on the machine.
    """
    listen, tls = attributes.text("listen_address"), attributes.flag("tls.enable")
    address = ipaddress.ip_address(listen)
    given = [name for name in GIVEN if attributes.text(name)]
    if not tls and not address.is_loopback and not attributes.flag("listen_in_clear"):
        yield (
            f"At listen_address {listen} others come in, and passwords and tokens would cross the network in clear.",
            "Encrypt them: --set tls.enable=true. Only where you trust the whole network: --set listen_in_clear=true",
        )
    if tls and (address.is_loopback or address.is_unspecified):
        yield (
            f"tls.enable encrypts what other machines send, and listen_address is {listen}.",
            "Name the address of this machine that they come to, as in --set listen_address=192.0.2.1",
        )
    if tls and given and len(given) < len(GIVEN):
        yield (
            f"{given[0]} is set, and not {' and '.join(name for name in GIVEN if name not in given)}.",
            "A certificate of your own needs all three; without any of them, `up` makes one.",
        )
    if failure:
        yield (
            f"The certificate of tls.certificate does not hold: {failure}.",
            "Correct the files, or leave them away.",
        )
    if any(_in_the_way(listener, attributes, proxied=tls) for listener in listening):
        was, becomes = ("in clear", "over TLS") if tls else ("over TLS", "in clear")
        yield (
            f"Others come in {was} at {listen} now, and are to do so {becomes}.",
            "Stop the cloud first, which leaves servers and data alone: dockstack down",
        )


def _in_the_way(listener: Listener, attributes: Attributes, *, proxied: bool) -> bool:
    """Tell whether an API of ours listens here itself where its proxy shall, or the other way round."""
    same = listener.address in {attributes.text("listen_address"), "0.0.0.0"}
    return (
        listener.ours
        and same
        and listener.port == attributes.number("ports.keystone")
        and (listener.program == PROXY) != proxied
    )


def handshake(attributes: Attributes) -> str:
    """Shake hands with the operator's certificate, in memory, as a client of the cloud will; return what failed."""
    certificate, key, authority = (attributes.text(name) for name in GIVEN)
    if not (attributes.flag("tls.enable") and certificate and key and authority):
        return ""
    name = attributes.text("public_address") or attributes.text("listen_address") or LOOPBACK
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(certificate, key, password="")  # without, one is asked for at the terminal
        trusting = ssl.create_default_context(cafile=authority)
        server = serving.wrap_bio(to_server, to_client, server_side=True)
        client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
        for end in (client, server, client):
            _go_on(end)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError as error:  # of SSL, too
        return error.strerror or str(error)
    return ""


def _go_on(end: ssl.SSLObject) -> None:
    with suppress(ssl.SSLWantReadError):  # the other one's turn
        end.do_handshake()
