# SPDX-License-Identifier: Apache-2.0
"""The message bus, as nova-compute and Neutron's agent will find it; nothing is made there.

The library is the one below oslo.messaging's own driver, so that what it says is what nova-compute would say.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from amqp import Connection
from amqp import exceptions as amqp_errors

from dockstack.deploy.join.endpoints import BUS_HOST, DEFAULT_PORTS
from dockstack.deploy.join.probes.model import Failed, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.deploy.wanted.cloud_document import CloudDocument

KNOCK, PATIENCE = 3, 8  # seconds until somebody is there, which the kernel answers, and for each answer


@dataclass(frozen=True)
class Use:
    """Who uses a bus, and who must speak there.

    Attributes:
        key: of its transport URL in the cloud document.
        exchange: oslo.messaging's control_exchange.
        program: what a node runs.
        partner: to whom that speaks.
        topics: on which they listen: the partner, and other nodes.
    """

    key: str
    exchange: str
    program: str
    partner: str
    topics: tuple[str, ...]

    @property
    def unjoined(self) -> str:
        """What comes of it if that fails."""
        return f"{self.program} would start, and never report."


OF_NOVA = Use("messaging.transport_url", "nova", "nova-compute", "nova-conductor", ("conductor", "compute"))
OF_NEUTRON = Use(
    "messaging.neutron_transport_url", "neutron", "neutron-openvswitch-agent", "Neutron's server", ("q-plugin",)
)


@dataclass(frozen=True)
class Broker:
    """One RabbitMQ of a transport URL."""

    host: str
    port: int
    virtual_host: str
    user: str
    password: str = field(repr=False)

    @property
    def place(self) -> str:
        """Its address, as a person writes it."""
        return f"{self.host}:{self.port}"


def brokers(transport_url: str) -> tuple[Broker, ...]:
    """Return all brokers of a transport URL as oslo.messaging reads it; pure."""
    parts = urlsplit(transport_url)
    virtual_host = unquote(parts.path[1:]) or "/"
    found = []
    for text in parts.netloc.split(","):
        login, _, _ = text.rpartition("@")
        user, _, password = login.partition(":")
        match = BUS_HOST.search(text)
        if match:
            port = int(match.group(2) or DEFAULT_PORTS["rabbit"])
            found.append(Broker(match.group(1).strip("[]"), port, virtual_host, unquote(user), unquote(password)))
    return tuple(found)


def ask(cloud: CloudDocument, use: Use = OF_NOVA) -> str:
    """Log in to every broker, and look for the exchange of Nova, or of Neutron.

    Raises:
        Failed: one does not answer, refuses the login, or is not where that service speaks.
    """
    found = brokers(cloud.text(use.key))
    for broker in found:
        with session(cloud, broker, use) as connection:
            connection.channel().exchange_declare(use.exchange, "topic", passive=True)
    places = ", ".join(broker.place for broker in found)
    return f"{places}: login, virtual host and exchange {use.exchange} are as they say."


def _encryption(cloud: CloudDocument, host: str) -> dict[str, Any] | bool:
    if not cloud.values.flag("messaging.ssl"):
        return False
    authority = cloud.text("tls.authority")
    context = {"check_hostname": True} | ({"cadata": authority} if authority else {})
    return {"context": context, "server_hostname": host, "do_handshake_on_connect": False}


@contextmanager
def session(cloud: CloudDocument, broker: Broker, use: Use) -> Iterator[Connection]:
    """Be logged in to a broker for the time of the block.

    Raises:
        Failed: it does not answer, or refuses the login or what was asked there.
    """
    address = f"[{broker.host}]:{broker.port}" if ":" in broker.host else broker.place
    connection = Connection(
        host=address,
        userid=broker.user,
        password=broker.password,
        login_method="PLAIN",
        virtual_host=broker.virtual_host,
        ssl=_encryption(cloud, broker.host),
        connect_timeout=KNOCK,
        read_timeout=PATIENCE,
        write_timeout=PATIENCE,
        client_properties={"product": "dockstack cloud check"},
    )
    try:
        connection.connect()
        yield connection
        connection.close()  # rather than break off, which its log would warn of
    except amqp_errors.AMQPError as error:
        raise _refusal(broker, error, use) from error
    except OSError as error:
        raise Failed(
            f"RabbitMQ at {broker.place} does not answer: {error.strerror or error or type(error).__name__}",
            use.unjoined,
            "Is it the address that nodes reach, and is messaging.ssl as the cloud has it? See routes and firewalls.",
        ) from error
    finally:
        connection.collect()


def _refusal(broker: Broker, error: amqp_errors.AMQPError, use: Use) -> Failed:
    """Say what RabbitMQ refused, by the type of its answer."""
    match error:
        case amqp_errors.NotFound():
            return Refused(
                f"RabbitMQ at {broker.place} has no exchange {use.exchange} in virtual host {broker.virtual_host!r}.",
                f"{use.partner} does not speak there, so it is not the message bus of the nodes; {use.unjoined}",
                f"Take {use.key} from a compute node's own file; with cells, of one in the nodes' cell.",
            )
        case amqp_errors.NotAllowed():
            return Refused(
                f"RabbitMQ at {broker.place} does not let {broker.user} into virtual host {broker.virtual_host!r}.",
                use.unjoined,
                f"Is the virtual host the cloud's? It is what follows the port in {use.key}.",
            )
        case amqp_errors.AccessRefused():
            return Refused(
                f"RabbitMQ at {broker.place} refuses {broker.user}, or what it may do in {broker.virtual_host!r}.",
                use.unjoined,
                f"Check user and password in {use.key}, and `rabbitmqctl list_permissions` there.",
            )
        case _:
            return Failed(
                f"RabbitMQ at {broker.place} answers with {type(error).__name__}.",
                use.unjoined,
                "See its log; does it speak AMQP 0-9-1 there, and is messaging.ssl as the cloud has it?",
            )
