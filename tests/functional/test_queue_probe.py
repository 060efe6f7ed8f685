# SPDX-License-Identifier: Apache-2.0
"""What `cloud check` says of queue options: of queues that oslo.messaging declares in a RabbitMQ of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import oslo_messaging
import pytest
from amqp.exceptions import NotFound
from oslo_config import cfg
from oslo_messaging._drivers import amqp, impl_rabbit

from dockstack.deploy.join.probes import bus, queues
from dockstack.deploy.join.probes.model import Failed, Skipped
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from held_ports import hold_port, port_of

pytestmark = pytest.mark.functional
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PATIENCE = 120
OURS = {"rabbit_quorum_queue": False, "rabbit_transient_quorum_queue": False, "amqp_durable_queues": False}
KOLLAS = {"rabbit_quorum_queue": True, "rabbit_transient_quorum_queue": True, "rabbit_stream_fanout": True}
KOLLAS |= {"rabbit_qos_prefetch_count": 50}


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory):
    """The address of a RabbitMQ with a name and ports of its own, beside whatever runs on this machine."""
    if not PROGRAM.exists() or shutil.which("epmd") is None:
        pytest.skip("there is no RabbitMQ here (package rabbitmq-server)")
    place = tmp_path_factory.mktemp("rabbit")
    held = [hold_port() for _ in range(3)]
    port, distribution, epmd = (port_of(one) for one in held)
    (place / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = nodes\ndefault_pass = bus-pw\n"
    )
    environment = {
        **os.environ,
        "HOME": str(place),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"queues{port}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
        "RABBITMQ_MNESIA_BASE": str(place),
        "RABBITMQ_LOG_BASE": str(place),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
        "RABBITMQ_PID_FILE": str(place / "pid"),
    }
    with (
        (place / "log").open("w") as log,
        _running(["epmd", "-address", "127.0.0.1", "-port", str(epmd)], env=environment, stdout=log),
        _running([PROGRAM], env=environment, stdout=log, stderr=log) as server,
    ):
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            assert server.poll() is None, (place / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (place / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield f"rabbit://nodes:bus-pw@127.0.0.1:{port}/"
    for one in held:
        one.close()


@contextmanager
def _running(command, **options):
    """Run a program with all that it starts."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def conductor(url, topic, **options):
    """A service of a cloud that listens on a topic, by oslo.messaging; the exchange is this cloud's alone."""
    conf = cfg.ConfigOpts()
    conf([])
    for known in (amqp.amqp_opts, impl_rabbit.rabbit_opts):
        conf.register_opts(known, group="oslo_messaging_rabbit")
    for name, value in options.items():
        conf.set_override(name, value, group="oslo_messaging_rabbit")
    transport = oslo_messaging.get_rpc_transport(conf, url)
    target = oslo_messaging.Target(exchange=f"exchange-{topic}", topic=topic, server="controller")
    server = oslo_messaging.get_rpc_server(transport, target, [object()], executor="threading")
    server.start()
    _await_listener(url, topic)
    try:
        yield
    finally:
        server.stop()
        server.wait()
        transport.cleanup()


def _await_listener(url, topic):
    """RabbitMQ counts the listeners of a quorum queue a moment after they are there."""
    cloud, deadline = document(url), time.monotonic() + PATIENCE
    with bus.session(cloud, bus.brokers(cloud.text("messaging.transport_url"))[0], use(topic)) as connection:
        while not queues._has_listeners(connection, topic):
            assert time.monotonic() < deadline, f"nobody listens on {topic}"
            time.sleep(0.1)


def document(url, **options):
    values = {f"messaging.{name}": value for name, value in options.items()}
    return CloudDocument([SourceValues("test", {"messaging.transport_url": url, **values})])


def use(topic):
    return replace(bus.OF_NOVA, topics=(topic,))


CLOUDS = {
    "as dockstack's": OURS,
    "durable": {"amqp_durable_queues": True},
    "quorum": {"rabbit_quorum_queue": True},
    "quorum with a limit": {"rabbit_quorum_queue": True, "rabbit_quorum_delivery_limit": 7},
    "transient quorum": {"rabbit_quorum_queue": True, "rabbit_transient_quorum_queue": True},
    "as Kolla-Ansible's": KOLLAS,
    "streams for an hour": {**KOLLAS, "rabbit_transient_queues_ttl": 3600},
    "deleted automatically": {"amqp_auto_delete": True},
}


@pytest.mark.parametrize("name", CLOUDS)
def test_a_document_that_says_what_the_cloud_has_passes(rabbit, name):
    topic, options = f"same-{list(CLOUDS).index(name)}", CLOUDS[name]
    with conductor(rabbit, topic, **options):
        assert "as the document says" in queues.ask(document(rabbit, **options), use(topic))
        # Nothing has changed: the cloud's other services declare theirs as before.
        with conductor(rabbit, topic, **options):
            assert "as the document says" in queues.ask(document(rabbit, **options), use(topic))


WRONG = {
    "classic in a cloud of quorum queues": (CLOUDS["quorum"], OURS, ("rabbit_quorum_queue=true",)),
    "quorum in a cloud of classic queues": (OURS, CLOUDS["quorum"], ("rabbit_quorum_queue=false",)),
    "transient in a durable cloud": (CLOUDS["durable"], OURS, ("amqp_durable_queues=true",)),
    "all of Kolla-Ansible's": (KOLLAS, OURS, ("rabbit_quorum_queue=true", "rabbit_stream_fanout=true")),
    "streams where there are none": (
        CLOUDS["transient quorum"],
        KOLLAS,
        ("rabbit_stream_fanout=false",),
    ),
    "transient ones are quorum queues": (
        CLOUDS["transient quorum"],
        CLOUDS["quorum"],
        ("rabbit_transient_quorum_queue=true",),
    ),
    "not deleted automatically": (CLOUDS["deleted automatically"], OURS, ("amqp_auto_delete=true",)),
    "another limit": (CLOUDS["quorum with a limit"], CLOUDS["quorum"], ("another rabbit_quorum_delivery_limit",)),
    "another time": (CLOUDS["streams for an hour"], KOLLAS, ("another rabbit_transient_queues_ttl",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_the_cloud_is_named_with_the_option_to_set(rabbit, name):
    cloud, said, named = WRONG[name]
    topic = f"wrong-{list(WRONG).index(name)}"
    with conductor(rabbit, topic, **cloud):
        with pytest.raises(Failed) as failed:
            queues.ask(document(rabbit, **said), use(topic))
        told = f"{failed.value.seen} {failed.value.cure}"
        assert [text for text in named if text not in told] == []
        assert told.count("--set messaging.") == sum("=" in text for text in named)
        assert "bus-pw" not in f"{told} {failed.value.means}"
        assert "as the document says" in queues.ask(document(rabbit, **cloud), use(topic)), "it has changed something"


def test_a_stream_may_be_left_from_before_which_is_said(rabbit):
    with conductor(rabbit, "former", **KOLLAS):
        pass
    now = CLOUDS["transient quorum"]
    with conductor(rabbit, "former", **now), pytest.raises(Failed) as failed:
        queues.ask(document(rabbit, **now), use("former"))
    assert "rabbitmqctl delete_queue former_fanout" in failed.value.cure


@pytest.fixture
def gone(rabbit):
    """Tells whether there is no such queue, or exchange."""

    def tell(name, kind="queue"):
        with bus.session(document(rabbit), bus.brokers(rabbit)[0], bus.OF_NOVA) as connection:
            declare = getattr(connection.channel(), f"{kind}_declare")
            try:
                declare(name, *(["fanout"] if kind == "exchange" else []), passive=True)
            except NotFound:
                return True
            return False

    return tell


def leaving_after(monkeypatch, look, leave):
    """Have a service leave right after something was looked at for the first time."""
    looked = getattr(queues, look)

    def once(*given):
        found = looked(*given)
        monkeypatch.setattr(queues, look, looked)
        leave()
        return found

    monkeypatch.setattr(queues, look, once)


@pytest.mark.parametrize("said", [{"amqp_auto_delete": True}, OURS, KOLLAS], ids=["right", "wrong", "quorum"])
def test_a_queue_that_vanishes_while_it_is_asked_is_not_made(rabbit, gone, monkeypatch, said):
    topic = f"leaves-{len(said)}"
    with ExitStack() as service:
        service.enter_context(conductor(rabbit, topic, amqp_auto_delete=True))
        leaving_after(monkeypatch, "_has_listeners", service.close)
        with pytest.raises(Skipped, match="left while it was asked"):
            queues.ask(document(rabbit, **said), use(topic))
    assert gone(topic)
    with conductor(rabbit, topic, amqp_auto_delete=True):
        assert "as the document says" in queues.ask(document(rabbit, amqp_auto_delete=True), use(topic))


def test_an_exchange_that_vanishes_while_it_is_asked_is_not_made(rabbit, gone, monkeypatch):
    with ExitStack() as service:
        service.enter_context(conductor(rabbit, "ends", **OURS))
        leaving_after(monkeypatch, "_holds_exchange", service.close)
        queues.ask(document(rabbit, **OURS), use("ends"))
    assert gone("ends_fanout", "exchange")


def test_a_queue_that_nobody_listens_to_is_left_alone(rabbit, gone):
    with conductor(rabbit, "idle", **CLOUDS["quorum"]):
        pass
    with pytest.raises(Skipped, match="no queue idle with a listener"):
        queues.ask(document(rabbit, **OURS), use("idle"))
    assert not gone("idle")


def test_without_a_queue_nothing_can_be_told_and_none_is_made(rabbit):
    for _ in range(2):
        with pytest.raises(Skipped, match="no queue nobodys with a listener now"):
            queues.ask(document(rabbit), use("nobodys"))
