# SPDX-License-Identifier: Apache-2.0
"""The cloud's authority and its certificates, by real handshakes of TLS, in memory."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from dockstack.deploy.configuration import certificates
from dockstack.deploy.configuration.certificates import CLIENT, LIFE, RENEWED, Holder

pytestmark = pytest.mark.unit
NOW = datetime.now(UTC)
CONTROLLER = Holder("controller", ("192.0.2.1", "controller", "localhost"))
NODE = Holder("node7", ("node7", "192.0.2.7"), CLIENT)


@pytest.fixture
def authority():
    return certificates.authority(None, "dockstack on controller", NOW)


@pytest.fixture
def shake(tmp_path):
    """A client that trusts an authority shakes hands with a server, and calls it by a name."""

    def hands(served, trusted, name, client=None):
        paths = []
        for number, text in enumerate((served, client or "")):
            paths.append(tmp_path / f"{number}.pem")
            paths[-1].write_text(text)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(paths[0])
        trusting = ssl.create_default_context(cadata=certificates.certificate_of(trusted))
        if client is not None:
            serving.verify_mode = ssl.CERT_REQUIRED
            serving.load_verify_locations(cadata=certificates.certificate_of(trusted))
            trusting.load_cert_chain(paths[1])
        one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
        at_server = serving.wrap_bio(one, other, server_side=True)
        at_client = trusting.wrap_bio(other, one, server_hostname=name)
        for end in (at_client, at_server, at_client, at_server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
        assert at_client.version() == at_server.version() == "TLSv1.3"

    return hands


@pytest.mark.parametrize("name", CONTROLLER.addresses)
def test_whoever_trusts_the_authority_reaches_the_controller_by_each_of_its_names(authority, shake, name):
    shake(certificates.issued(None, authority, CONTROLLER, NOW), authority, name)


def test_another_name_and_another_authority_are_refused(authority, shake):
    served = certificates.issued(None, authority, CONTROLLER, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake(served, authority, "192.0.2.2")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"signature failure|unable to get local issuer|self-signed"):
        shake(served, certificates.authority(None, "dockstack on controller", NOW), "controller")


def test_a_node_shows_its_certificate_and_cannot_pretend_to_be_the_cloud(authority, shake):
    served = certificates.issued(None, authority, CONTROLLER, NOW)
    node = certificates.issued(None, authority, NODE, NOW)
    shake(served, authority, "controller", client=node)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake(node, authority, "node7")


def test_a_certificate_of_the_cloud_is_no_clients(authority, shake):
    served = certificates.issued(None, authority, CONTROLLER, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake(served, authority, "controller", client=served)


def test_a_second_run_changes_nothing(authority):
    served = certificates.issued(None, authority, CONTROLLER, NOW)
    later = NOW + LIFE - RENEWED - timedelta(days=1)
    assert certificates.authority(authority, "renamed", later) == authority
    assert certificates.issued(served, authority, CONTROLLER, later) == served


@pytest.mark.parametrize(
    "holder",
    [
        Holder("controller", ("192.0.2.9", "controller", "localhost")),
        Holder("controller", CONTROLLER.addresses, CLIENT),
    ],
    ids=["other addresses", "another purpose"],
)
def test_a_certificate_that_does_not_fit_any_more_is_made_anew(authority, holder):
    served = certificates.issued(None, authority, CONTROLLER, NOW)
    assert certificates.issued(served, authority, holder, NOW) != served


def test_a_certificate_is_made_anew_before_it_ends(authority, shake):
    old = certificates.issued(None, authority, CONTROLLER, NOW - LIFE + RENEWED)
    new = certificates.issued(old, authority, CONTROLLER, NOW)
    assert new != old
    shake(old, authority, "controller")  # so far, both are good
    shake(new, authority, "controller")


def test_an_authority_is_made_anew_before_anything_that_it_signed_could_outlive_it(shake):
    old = certificates.authority(None, "dockstack on controller", NOW - timedelta(days=19 * 365))
    served = certificates.issued(None, old, CONTROLLER, NOW)
    new = certificates.authority(old, "renamed", NOW)
    assert new != old
    assert certificates.issued(served, new, CONTROLLER, NOW) == served
    shake(served, new, "controller")
    shake(certificates.issued(None, new, CONTROLLER, NOW), old, "controller")


@pytest.mark.parametrize("damage", ["", "nothing", "half"])
def test_what_is_damaged_is_made_anew(authority, damage):
    served = certificates.issued(None, authority, CONTROLLER, NOW)
    kept = served[: len(served) // 2] if damage == "half" else damage
    assert certificates.key_of(certificates.issued(kept, authority, CONTROLLER, NOW))
    assert certificates.key_of(certificates.authority(kept, "dockstack", NOW))


def test_an_authority_that_lost_its_certificate_keeps_its_key(authority):
    key = certificates.key_of(authority)
    assert certificates.key_of(certificates.authority(key, "dockstack on controller", NOW)) == key


def test_anothers_certificate_is_not_kept(authority):
    other = certificates.authority(None, "dockstack on controller", NOW)
    served = certificates.issued(None, other, CONTROLLER, NOW)
    assert certificates.issued(served, authority, CONTROLLER, NOW) != served
