# SPDX-License-Identifier: Apache-2.0
"""How queues of the message bus were declared: RabbitMQ refuses whoever declares one of the same name otherwise.

A passive declaration tells only whether a queue is there. One that is there is then declared again: with the options
that it has, that changes nothing, and with others it is refused (PRECONDITION_FAILED). So the options are tried. What
is declared by which option: oslo.messaging's impl_rabbit.py.

What has vanished since it was seen would be made by that, and wrongly by a guess; then services would be refused. By
itself, only that vanishes which is deleted automatically. So such an exchange is held meanwhile; and of a queue, these
options are tried first: where they are refused, it is one that stays, and where they are taken and nobody listens, the
queue was made by this, and is removed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from amqp import exceptions as amqp_errors

from dockstack.deploy.join.probes import bus
from dockstack.deploy.join.probes.model import Refused, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from amqp import Connection
    from amqp.protocol import queue_declare_ok_t

    from dockstack.deploy.join.probes.bus import Use
    from dockstack.deploy.wanted.cloud_document import CloudDocument

QUORUM, DURABLE, AUTO_DELETE = "rabbit_quorum_queue", "amqp_durable_queues", "amqp_auto_delete"
STREAM, TRANSIENT_QUORUM, TTL = "rabbit_stream_fanout", "rabbit_transient_quorum_queue", "rabbit_transient_queues_ttl"
LIMITS = {
    "rabbit_quorum_delivery_limit": "x-delivery-limit",
    "rabbit_quorum_max_memory_length": "x-max-in-memory-length",
    "rabbit_quorum_max_memory_bytes": "x-max-in-memory-bytes",
}


@dataclass(frozen=True)
class Difference:
    """An option that the broker has otherwise than the document.

    Attributes:
        name: the option.
        there: its value by which the queue was declared; None: another one, which could not be told.
        otherwise: what else it may be.
    """

    name: str
    there: bool | None
    otherwise: str = ""


def ask(cloud: CloudDocument, use: Use = bus.OF_NOVA) -> str:
    """Compare how queues are declared with the document's options.

    Raises:
        Refused: a node's would be, too.
        Skipped: no queue is there now by which to tell.
    """
    broker = bus.brokers(cloud.text(use.key))[0]  # one of a cluster, whose queues are everywhere the same
    with bus.session(cloud, broker, use) as connection:
        there = [topic for topic in use.topics if _has_listeners(connection, topic)]
        differences = {each.name: each for topic in there for each in _compare(connection, topic, cloud)}
    if not there:
        raise Skipped(
            f"{broker.place} has no queue {use.topics[0]} with a listener now to tell how queues are declared."
        )
    if differences:
        raise _failure(broker.place, use, cloud, tuple(differences.values()))
    return f"{broker.place}: {' and '.join(there)} are declared as the document says, and so are their fan-outs."


def _failure(place: str, use: Use, cloud: CloudDocument, differences: tuple[Difference, ...]) -> Refused:
    told = [one for one in differences if one.there is not None]
    said = ", ".join(f"{one.name} {_word(cloud.values[_key(one.name)])}" for one in differences)
    seen = [f"{one.name} {_word(one.there)}" for one in told] + [
        f"another {one.name}" for one in differences if one.there is None
    ]
    options = " ".join(f"--set {_key(one.name)}={_word(one.there)}" for one in told) or "--set KEY=VALUE"
    further = [one.otherwise for one in differences if one.otherwise]
    if len(told) < len(differences):
        further.insert(0, "A service's own file has it in [oslo_messaging_rabbit].")
    return Refused(
        f"RabbitMQ at {place} has queues that were declared with {', '.join(seen)}; the document says {said}.",
        f"RabbitMQ would refuse the node's queues (PRECONDITION_FAILED). {use.unjoined}",
        " ".join((f"Have the document say what the cloud has: `dockstack cloud import` with {options}.", *further)),
    )


def _key(option: str) -> str:
    return f"messaging.{option}"


def _word(value: object) -> str:
    return str(value).lower()


def _compare(connection: Connection, topic: str, cloud: CloudDocument) -> Iterator[Difference]:
    """Yield the options of the document by which a topic's queue, or its fan-out, would not be what is there."""
    yield from _compare_queue(connection, topic, cloud)
    fanout = f"{topic}_fanout"
    if _seen(connection, fanout):  # a stream, which stays without readers; RabbitMQ does not tell of these
        yield from _compare_stream(connection, fanout, cloud)
    elif _holds_exchange(connection, fanout):
        wanted = {name: cloud.values.flag(_key(name)) for name in (STREAM, TRANSIENT_QUORUM)}
        durable = _takes_exchange(connection, fanout, durable=True)
        yield from _differing(wanted, {STREAM: False, TRANSIENT_QUORUM: durable})


def _compare_queue(connection: Connection, topic: str, cloud: CloudDocument) -> Iterator[Difference]:
    wanted = {name: cloud.values.flag(_key(name)) for name in (QUORUM, DURABLE, AUTO_DELETE)}
    limits = {argument: number for name, argument in LIMITS.items() if (number := cloud.values.number(_key(name)))}
    for there in _nearest(wanted):
        arguments = {"x-queue-type": "quorum", **limits} if there[QUORUM] else {}
        declared = {"durable": there[DURABLE] or there[QUORUM], "auto_delete": there[AUTO_DELETE]}
        if _takes_queue(connection, topic, arguments, **declared):
            if there[AUTO_DELETE]:
                _require_not_ours(connection, topic)
            yield from _differing(wanted, there)
            return
    yield from (Difference(name, None) for name in LIMITS)


def _compare_stream(connection: Connection, fanout: str, cloud: CloudDocument) -> Iterator[Difference]:
    if not cloud.values.flag(_key(STREAM)):
        left = f"Or is that stream left from before? Then delete it: rabbitmqctl delete_queue {fanout}"
        yield Difference(STREAM, there=True, otherwise=left)
    seconds = cloud.values.number(_key(TTL))
    arguments = {"x-queue-type": "stream", **({"x-max-age": f"{seconds}s"} if seconds else {})}
    if not _takes_queue(connection, fanout, arguments, durable=True, auto_delete=False):
        yield Difference(TTL, None)


def _nearest(wanted: Mapping[str, bool]) -> list[dict[str, bool]]:
    """Return all that these options could be: of queues that can vanish first, then with the fewest that differ."""
    every = [dict(zip(wanted, values, strict=True)) for values in product((False, True), repeat=len(wanted))]
    return sorted(every, key=lambda each: (not each[AUTO_DELETE], len(list(_differing(wanted, each)))))


def _differing(wanted: Mapping[str, bool], there: Mapping[str, bool]) -> Iterator[Difference]:
    return (Difference(name, there[name]) for name in wanted if wanted[name] != there[name])


# -- what RabbitMQ is asked; it closes a channel with each refusal, so each question has one of its own ----------------


def _seen(connection: Connection, queue: str) -> queue_declare_ok_t | None:
    """Return what RabbitMQ tells of a queue, None if it is not there."""
    try:
        return connection.channel().queue_declare(queue, passive=True)
    except amqp_errors.NotFound:
        return None


def _has_listeners(connection: Connection, queue: str) -> bool:
    seen = _seen(connection, queue)
    return seen is not None and seen.consumer_count > 0


def _holds_exchange(connection: Connection, name: str) -> bool:
    """Bind a queue of this connection to an exchange, which RabbitMQ deletes with the last that is bound to it.

    That makes no exchange. What is sent there meanwhile is dropped by that queue, and reaches all others.

    Returns:
        Whether it is there, and stays until the connection ends.
    """
    channel = connection.channel()
    own = channel.queue_declare("", exclusive=True, arguments={"x-max-length": 0}).queue
    try:
        channel.queue_bind(own, name)
    except amqp_errors.NotFound:
        return False
    return True


def _require_not_ours(connection: Connection, queue: str) -> None:
    """Remove a queue that is deleted automatically and has no listener: its last one has taken the cloud's with him.

    Raises:
        Skipped: so it was.
    """
    if _has_listeners(connection, queue):
        return
    with suppress(amqp_errors.PreconditionFailed, amqp_errors.NotFound):  # then somebody has it again, or nobody
        connection.channel().queue_delete(queue, if_unused=True, if_empty=True)
    raise Skipped(f"The last listener of the queue {queue} left while it was asked; ask again when one is back.")


def _takes_queue(
    connection: Connection, queue: str, arguments: Mapping[str, Any], *, durable: bool, auto_delete: bool
) -> bool:
    """Tell whether a queue that is there was declared so.

    Raises:
        Skipped: it is on a node of RabbitMQ that is down.
    """
    try:
        connection.channel().queue_declare(queue, durable=durable, auto_delete=auto_delete, arguments=dict(arguments))
    except amqp_errors.PreconditionFailed:
        return False
    except amqp_errors.NotFound as error:
        raise Skipped(f"The queue {queue} is on a node of RabbitMQ that is down, so nobody can tell.") from error
    return True


def _takes_exchange(connection: Connection, name: str, *, durable: bool) -> bool:
    try:
        connection.channel().exchange_declare(name, "fanout", durable=durable, auto_delete=True)
    except amqp_errors.PreconditionFailed:
        return False
    return True
