# SPDX-License-Identifier: Apache-2.0
"""How others come in is refused before anything is changed, where it would fail or give passwords away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dockstack.deploy.configuration import certificates
from dockstack.deploy.configuration.certificates import CLIENT, Holder
from dockstack.deploy.node.listeners import Listener
from dockstack.deploy.run import tls_obstacles
from dockstack.deploy.run.preflight import MachineFacts, problems
from dockstack.deploy.wanted.inventory import Role

pytestmark = pytest.mark.unit
GOOD = MachineFacts(disk_mb={"/opt": 20000})
OTHERS, TLS = "listen_address=192.0.2.1", "tls.enable=true"
NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    "assignments", [(), (OTHERS, TLS), (OTHERS, "listen_in_clear=true"), ("listen_address=127.0.0.2",)]
)
def test_what_may_be(node, assignments):
    assert problems(node(*assignments), GOOD) == []


@pytest.mark.parametrize(
    ("assignments", "words", "cure"),
    [
        ((OTHERS,), "in clear", "tls.enable=true"),
        (("listen_address=0.0.0.0",), "in clear", "listen_in_clear=true"),
        ((TLS,), "listen_address is 127.0.0.1", "--set listen_address="),
        ((TLS, "listen_address=0.0.0.0"), "listen_address is 0.0.0.0", "--set listen_address="),
        ((OTHERS, TLS, "tls.certificate=/c.pem"), "not tls.private_key and tls.authority", "all three"),
    ],
)
def test_what_may_not_be_is_said_with_its_cure(node, assignments, words, cure):
    (problem,) = problems(node(*assignments), GOOD)
    assert words in problem.brief
    assert cure in problem.cure
    assert not problem.warning


def test_a_compute_node_of_a_cloud_lets_nobody_in(node):
    assert not problems(node(OTHERS, roles=frozenset({Role.COMPUTE})), GOOD)


@pytest.mark.parametrize(
    ("assignments", "listener", "refused"),
    [
        ((TLS,), Listener("192.0.2.1", 5000, 42, "uwsgi", ours=True), True),
        ((TLS,), Listener("0.0.0.0", 5000, 42, "uwsgi", ours=True), True),
        ((TLS,), Listener("127.0.0.1", 5000, 42, "uwsgi", ours=True), False),
        ((TLS,), Listener("192.0.2.1", 5000, 42, "haproxy", ours=True), False),
        (("listen_in_clear=true",), Listener("192.0.2.1", 5000, 42, "haproxy", ours=True), True),
        (("listen_in_clear=true",), Listener("192.0.2.1", 5000, 42, "uwsgi", ours=True), False),
    ],
)
def test_the_proxy_and_what_is_behind_it_do_not_take_each_others_place_while_they_run(
    node, assignments, listener, refused
):
    found = problems(node(OTHERS, *assignments), replace(GOOD, listeners=(listener,)))
    assert ["dockstack down" in problem.cure for problem in found] == ([True] if refused else [])


@pytest.mark.parametrize(
    ("listener", "name"),
    [
        (Listener("192.0.2.1", 6642, 42, "ovsdb-server"), "ports.ovn_southbound"),
        (Listener("127.0.0.1", 5672, 42, "beam.smp"), "ports.rabbitmq"),
    ],
)
def test_ports_of_both_sides_of_the_proxy_must_be_free(node, listener, name):
    (problem,) = problems(node(OTHERS, TLS), replace(GOOD, listeners=(listener,)))
    assert name in problem.brief
    assert not problems(node(), replace(GOOD, listeners=(replace(listener, port=6642),)))


@pytest.fixture
def given(tmp_path, node):
    """The attributes of a cloud with a certificate of the operator's."""
    authority = certificates.authority(None, "Example's authority", NOW)

    def build(*assignments, since=NOW, purpose=certificates.SERVER, trusted=authority, key=""):
        served = certificates.issued(None, authority, Holder("cloud", ("cloud.example.org",), purpose), since)
        files = {
            "tls.certificate": certificates.certificate_of(served),
            "tls.private_key": key or certificates.key_of(served),
            "tls.authority": certificates.certificate_of(trusted),
        }
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        own = [f"{name}={tmp_path / name}" for name in files]
        return node(OTHERS, TLS, "public_address=cloud.example.org", *own, *assignments).attributes

    return build


def test_a_certificate_of_the_operators_that_clients_will_take(given):
    assert tls_obstacles.handshake(given()) == ""


@pytest.mark.parametrize(
    ("assignments", "changes", "words"),
    [
        ((), {"since": NOW - timedelta(days=1000)}, "expired"),
        (("public_address=192.0.2.1",), {}, "IP address mismatch"),
        ((), {"purpose": CLIENT}, "unsuitable certificate purpose"),
        ((), {"trusted": certificates.authority(None, "Another", NOW)}, "issuer"),
        ((), {"key": "nothing"}, "PEM"),
        (("tls.private_key=/nowhere.pem",), {}, "No such file"),
    ],
    ids=["ended", "another name", "a client's", "another authority", "no key", "no file"],
)
def test_one_that_they_will_not_is_said_why(given, assignments, changes, words):
    assert words in tls_obstacles.handshake(given(*assignments, **changes))


def test_what_failed_is_a_problem_before_anything_is_changed(node):
    (problem,) = problems(node(OTHERS, TLS), replace(GOOD, certificate_failure="certificate has expired"))
    assert "certificate has expired" in problem.brief
