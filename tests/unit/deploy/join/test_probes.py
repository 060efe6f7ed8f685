# SPDX-License-Identifier: Apache-2.0
"""Probes of a cloud, against services of the test's own that speak the real protocols on the loopback."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import cloud_services
from dockstack.deploy.join import probes
from dockstack.deploy.join.probes import bus, databases, releases, tunnels
from dockstack.deploy.join.probes.model import Failed, Skipped, Verdict
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

SECRETS = ("bus-pw", "nova-pw", "placement-pw", "neutron-pw", "meta-pw", "wrong-password")


@pytest.fixture
def services():
    """A cloud that is well: its APIs, its bus, its two databases."""
    made = (
        cloud_services.Apis(),
        cloud_services.Broker(),
        cloud_services.Database("OVN_Southbound"),
        cloud_services.Database("OVN_Northbound"),
    )
    with cloud_services.running(*made):
        yield made


@pytest.fixture
def document(services):
    """Its document, with some values replaced."""
    apis, broker, southbound, northbound = services

    def build(**values):
        known = {
            "release": "2026.2",
            "messaging.transport_url": f"rabbit://openstack:bus-pw@127.0.0.1:{broker.port}//",
            "identity.auth_url": f"{apis.url}/identity",
            "identity.region": "RegionOne",
            "ovn.southbound": [southbound.remote],
            "ovn.northbound": [northbound.remote],
            "metadata.secret": "meta-pw",
        }
        for name, password in cloud_services.PASSWORDS.items():
            known |= {f"accounts.{name}.username": name, f"accounts.{name}.password": password}
        return CloudDocument([SourceValues("test", known | values)])

    return build


def ask(document, name):
    (probe,) = (probe for probe in probes.probes(document) if probe.name == name)
    return probe.outcome()


def test_a_cloud_that_is_well_passes_all_and_is_not_changed(services, document):
    apis, broker, _, _ = services
    outcomes = probes.run(document())
    assert {one.name: one.verdict for one in outcomes} == {
        **dict.fromkeys(("accounts", "clock", "placement", "versions", "bus", "queues", "ovn"), Verdict.PASSED),
        "mtu": Verdict.SKIPPED,
    }
    assert ("nova", True) in broker.declared
    assert {name for name, passive in broker.declared if not passive} == {"conductor"}, "only what is there"
    assert "no chassis" in outcomes[-1].seen
    assert apis.seen.count("/placement/resource_providers") == 1


FAULTS = {
    "a password that is none": ("accounts", {"accounts.placement.password": "wrong-password"}, "account for placement"),
    "a region that is none": ("placement", {"identity.region": "north"}, "no endpoint for placement"),
    "an interface that is none": ("versions", {"identity.interface": "public"}, "no endpoint for compute"),
    "a Keystone that is away": ("accounts", {"identity.auth_url": "http://127.0.0.1:1/v3"}, "127.0.0.1:1 does not"),
    "a bus that is away": ("bus", {"messaging.transport_url": "rabbit://a:b@127.0.0.1:1/"}, "does not answer"),
    "a database that is away": ("ovn", {"ovn.northbound": ["tcp:127.0.0.1:1"]}, "127.0.0.1:1 does not answer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_in_a_document_is_said(document, fault):
    name, values, said = FAULTS[fault]
    outcome = ask(document(**values), name)
    assert outcome.verdict is Verdict.FAILED
    assert said in outcome.seen
    assert outcome.means
    assert outcome.cure


@pytest.mark.parametrize(
    ("login", "virtual_host", "said"),
    [
        ("openstack:wrong-password", "/", "refuses openstack"),
        ("openstack:bus-pw", "cell1", "does not let openstack into virtual host 'cell1'"),
    ],
)
def test_a_login_that_the_bus_refuses_is_told_from_a_virtual_host(services, document, login, virtual_host, said):
    url = f"rabbit://{login}@127.0.0.1:{services[1].port}/{virtual_host}"
    outcome = ask(document(**{"messaging.transport_url": url}), "bus")
    assert said in outcome.seen


def test_a_bus_on_which_no_nova_speaks_is_another_cells(services, document):
    services[1].exchanges.clear()
    assert "no exchange nova" in ask(document(), "bus").seen


def test_queues_that_the_bus_has_otherwise_are_named_with_what_to_set(services, document):
    services[1].queues["conductor"] = (True, {"x-queue-type": "quorum"})
    outcome = ask(document(), "queues")
    assert "with rabbit_quorum_queue true; the document says rabbit_quorum_queue false" in outcome.seen
    assert "PRECONDITION_FAILED" in outcome.means
    assert "--set messaging.rabbit_quorum_queue=true" in outcome.cure
    right = document(**{"messaging.rabbit_quorum_queue": True})
    assert ask(right, "queues").verdict is Verdict.PASSED


def test_a_queue_on_a_node_that_is_down_cannot_tell_how_it_is_declared(services, document):
    services[1].stuck.add("conductor")
    outcome = ask(document(), "queues")
    assert (outcome.verdict, "that is down" in outcome.seen) == (Verdict.SKIPPED, True)


def test_a_bus_without_any_queue_cannot_tell_how_they_are_declared(services, document):
    services[1].queues.clear()
    assert ask(document(), "queues").verdict is Verdict.SKIPPED


def test_a_port_on_which_nobody_speaks_amqp_is_no_bus(services, document):
    place = services[3].remote.removeprefix("tcp:")
    outcome = ask(document(**{"messaging.transport_url": f"rabbit://a:b@{place}/"}), "bus")
    assert outcome.verdict is Verdict.FAILED


def test_no_secret_is_in_what_a_probe_says(document):
    url = "rabbit://openstack:wrong-password@127.0.0.1:1/"
    accounts = {f"accounts.{name}.password": "wrong-password" for name in cloud_services.PASSWORDS}
    said = json.dumps([one.plain() for one in probes.run(document(**accounts, **{"messaging.transport_url": url}))])
    assert not [secret for secret in SECRETS if secret in said]


@pytest.mark.parametrize(("ahead", "verdict"), [(2, "passed"), (-2, "passed"), (60, "failed"), (-60, "failed")])
def test_clocks_are_compared(services, document, ahead, verdict):
    services[0].ahead = ahead
    assert ask(document(), "clock").verdict == verdict


def test_an_account_that_may_not_report_is_refused(services, document):
    services[0].forbidden = ("/placement/resource_providers",)
    assert "may not do" in ask(document(), "placement").seen


def test_the_wrong_database_is_told_from_the_right_one(services, document):
    outcome = ask(document(**{"ovn.southbound": [services[3].remote]}), "ovn")
    assert "serves no OVN_Southbound" in outcome.seen


def test_who_speaks_something_else_is_no_database(services, document, monkeypatch):
    monkeypatch.setattr(databases, "PATIENCE", 0.2)
    place = services[0].url.removeprefix("http://")
    assert "does not" in ask(document(**{"ovn.southbound": [f"tcp:{place}"]}), "ovn").seen


# -- releases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "newest", "known"),
    [
        ("2026.2", "2.104", "2026.2"),
        ("2026.1", "2.104", "2026.2"),
        ("2026.1", "2.103", "2026.1"),
        ("2026.2", "2.103", None),
        ("2026.1", "2.100", None),
        ("2026.1", "2.102", "2026.1"),  # a development version
        ("2026.2", "2.105", None),  # nobody knows what it refuses
        ("2025.1", "2.104", None),  # TooOldComputeService
    ],
)
def test_a_node_is_neither_newer_than_its_cloud_nor_too_old(wanted, newest, known):
    if known:
        assert releases.check(wanted, releases.microversion(newest)) == known
    else:
        with pytest.raises(Failed):
            releases.check(wanted, releases.microversion(newest))


def test_the_release_of_a_cloud_is_told_by_its_api(services, document):
    services[0].microversion = "2.103"
    assert "is of 2026.1" in ask(document(), "versions").seen
    assert ask(document(release="2026.1"), "versions").verdict is Verdict.PASSED


def test_nodes_that_their_cloud_must_not_have_are_refused_before_a_host_is_looked_at(services, document):
    probes.require_release(document())
    services[0].microversion = "2.103"
    with pytest.raises(DockstackError, match=r"so the cloud is of 2026\.1") as refused:
        probes.require_release(document())
    assert "newer than its conductors" in refused.value.resolution
    probes.require_release(document(**{"identity.auth_url": "http://127.0.0.1:1/v3"}))  # the nodes may reach it


def test_nodes_that_would_be_refused_are_refused_before_a_host_is_looked_at(services, document):
    probes.require_accepted(document())
    services[1].queues["conductor"] = (True, {"x-queue-type": "quorum"})
    with pytest.raises(DockstackError, match="nothing was changed") as refused:
        probes.require_accepted(document(**{"accounts.placement.password": "wrong-password"}))
    account, queues = refused.value.details.splitlines()
    assert "Keystone refuses the account for placement" in account, "two probes were told so, and it is said once"
    assert "--set messaging.rabbit_quorum_queue=true" in queues
    assert not [secret for secret in SECRETS if secret in refused.value.details]


@pytest.mark.parametrize("name", ["identity.auth_url", "messaging.transport_url"])
def test_what_does_not_answer_from_here_may_answer_nodes(services, document, name):
    away = {"identity.auth_url": "http://127.0.0.1:1/v3", "messaging.transport_url": "rabbit://a:b@127.0.0.1:1/"}
    probes.require_accepted(document(**{name: away[name]}))


def test_a_proxy_that_lets_nodes_in_alone_is_no_refusal_of_the_clouds(services, document):
    services[0].proxied = ("/placement/resource_providers",)
    outcome = ask(document(), "placement")
    assert (outcome.verdict, outcome.seen.partition(" forbids")[0]) == (
        Verdict.FAILED,
        "What stands before placement",
    )
    probes.require_accepted(document())
    services[0].proxied, services[0].forbidden = (), services[0].proxied
    with pytest.raises(DockstackError) as refused:
        probes.require_accepted(document())
    assert "may not do what a compute node does" in refused.value.details
    assert "--skip-probes" in refused.value.resolution


# -- transport URLs, tunnels, TLS -------------------------------------------------------------------------------------


def test_a_transport_url_is_read_as_oslo_messaging_does():
    found = bus.brokers("rabbit://a%40b:p%2Fw@10.1.0.1:5671,c:d@[fd00::1]//")
    assert [(one.host, one.port, one.user, one.password, one.virtual_host) for one in found] == [
        ("10.1.0.1", 5671, "a@b", "p/w", "/"),
        ("fd00::1", 5672, "c", "d", "/"),
    ]
    assert [one.virtual_host for one in bus.brokers("rabbit://a:b@h/nova_cell1?ssl=1")] == ["nova_cell1"]
    assert "d" not in repr(replace(found[1], host="")).partition("user='c'")[2]


def test_a_path_that_is_too_narrow_for_the_networks_fails(services, document, monkeypatch):
    services[2].ends = ("127.0.0.1", "192.0.2.9", "no address")
    monkeypatch.setattr(tunnels, "path_mtu", lambda address, size: 1450 if size == 1500 else 0)
    outcome = ask(document(), "mtu")
    assert outcome.verdict is Verdict.FAILED
    assert "192.0.2.9 takes 1450 bytes; the largest network needs 1500" in outcome.seen
    services[0].networks = [{"mtu": 1392, "provider:network_type": "geneve"}, {"mtu": 9000}]
    monkeypatch.setattr(tunnels, "path_mtu", lambda address, size: size)
    assert ask(document(), "mtu").verdict is Verdict.PASSED


def test_the_kernel_tells_how_large_a_packet_may_be(monkeypatch):
    monkeypatch.setattr(tunnels, "WAIT", 0)
    assert tunnels.path_mtu("127.0.0.1", 1500) >= 1500
    assert tunnels.path_mtu("127.0.0.1", 60_000) >= 60_000


def test_a_network_that_nobody_tells_of_skips_the_probe(services, document):
    services[0].forbidden = ("/network/v2.0/networks",)
    assert ask(document(), "mtu").verdict is Verdict.SKIPPED
    with pytest.raises(Skipped):
        tunnels.ask(document())


@pytest.fixture
def pki(tmp_path):
    """An authority, and files of a certificate that it signed, for both ends."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)

    def signed(key, signer, *, authority):
        return (
            x509.CertificateBuilder()
            .subject_name(name if authority else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "end")]))
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(signer, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )

    authority, end = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = {
        "ovn.authority": signed(authority, authority, authority=True),
        "ovn.certificate": signed(end, authority, authority=False),
        "ovn.private_key": end.private_bytes(*form).decode(),
    }
    for key, text in made.items():
        (tmp_path / key).write_text(text)
    return made


def test_databases_are_spoken_to_over_tls(pki, document, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ovn.certificate", tmp_path / "ovn.private_key")
    context.load_verify_locations(tmp_path / "ovn.authority")
    context.verify_mode = ssl.CERT_REQUIRED
    database = cloud_services.Database("OVN_Southbound", ("192.0.2.9",), context)
    with cloud_services.running(database):
        good = document(**pki, **{"ovn.southbound": [database.remote]})
        assert ask(good, "ovn").verdict is Verdict.PASSED
        assert databases.tunnel_ends(good) == ("192.0.2.9",)
        strangers = document(**{**pki, "ovn.authority": ""}, **{"ovn.southbound": [database.remote]})
        assert "does not answer" in ask(strangers, "ovn").seen


def test_an_answer_without_an_end_is_given_up(document, monkeypatch):
    monkeypatch.setattr(databases, "LARGEST", 1000)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"id": 1, "result": "' + b"x" * 4000)
        with pytest.raises(ValueError, match="no end"):
            databases._answer(ours)
