# SPDX-License-Identifier: Apache-2.0
"""A node's own certificate: made where the cloud's authority is, told to that node, and the same the next time."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from dockstack.deploy.configuration import certificates
from dockstack.deploy.join import survey
from dockstack.deploy.join.commission import commission
from dockstack.deploy.join.engine_choice import Engines
from dockstack.deploy.join.look import NodeFacts
from dockstack.deploy.join.node_certificate import NodeCertificates
from dockstack.deploy.join.plan import Joining
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
KEY = "/etc/dockstack/ovn-key.pem"


@pytest.fixture
def authority(tmp_path):
    text = certificates.authority(None, "dockstack on controller", datetime.now(UTC))
    (tmp_path / "own.pem").write_text(text)
    return text


@pytest.fixture
def own(cloud, authority):
    """The document of a cloud of our own with TLS."""
    values = {"ovn.southbound": ["ssl:192.0.2.1:6642"], "ovn.northbound": ["ssl:192.0.2.1:6641"], "ovn.issue": True}
    values |= {"ovn.authority": certificates.certificate_of(authority), "tls.authority": "PEM"}
    document = cloud.and_then(SourceValues("test", values))
    document.require_usable("")
    return document


@pytest.fixture
def here(tmp_path):
    return NodeCertificates(str(tmp_path / "own.pem"), str(tmp_path / "nodes"))


def test_each_node_gets_its_own_and_no_key_of_the_authoritys(own, here, compute, authority):
    told = {}
    for name in ("one", "two"):
        document = here.given(own, name, f"{name}.example.org", "192.0.2.7")
        files = Joining(compute(name=name), document).files(NodeFacts(hostname=name, source="192.0.2.7"))
        told[name] = commission(compute(name=name), document, "192.0.2.7").text()
        assert files[KEY].secret
        assert files[KEY].mode == 0o640
        ssl.create_default_context(cadata=files["/etc/dockstack/ovn-certificate.pem"].content)
        assert files[KEY].content.splitlines()[1] in told[name]
    key = certificates.key_of(authority).splitlines()[1]
    assert told["one"] != told["two"]
    assert not [text for text in told.values() if key in text]


def test_what_a_node_was_told_is_told_again_and_only_then_kept(own, here, tmp_path):
    first = here.given(own, "rack/one", "one", "192.0.2.7")
    assert not (tmp_path / "nodes").exists(), "looking changes nothing"
    here.keep("rack/one", first)
    (kept,) = (tmp_path / "nodes").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    again = here.given(own, "rack/one", "one", "192.0.2.7")
    assert again.text("ovn.private_key") == first.text("ovn.private_key")
    renamed = here.given(own, "rack/one", "renamed", "192.0.2.7")
    assert renamed.text("ovn.private_key") != first.text("ovn.private_key")


def test_a_cloud_that_gives_its_nodes_one_certificate_keeps_to_that(cloud, here):
    assert here.given(cloud, "one", "one", "192.0.2.7") is cloud
    here.keep("one", cloud)


@pytest.mark.parametrize("hostname", ["", "kn\u00f6del"])
def test_a_machine_without_a_usable_name_gets_none(own, here, hostname):
    with pytest.raises(DockstackError, match="no certificate can name"):
        here.given(own, "one", hostname, "192.0.2.7")


def test_what_would_change_and_what_is_told_have_the_same_certificate(own, here, compute, monkeypatch):
    facts = NodeFacts(hostname="one.example.org", source="192.0.2.7")
    monkeypatch.setattr(survey, "NodeCertificates", lambda: here)
    monkeypatch.setattr(survey, "connect", lambda _: None)
    monkeypatch.setattr(survey.engine_choice, "ask", lambda _: Engines())
    for name, answer in (("os_release", "ID=debian\nVERSION_ID=12\n"), ("gather", facts), ("read", {})):
        monkeypatch.setattr(survey.look, name, lambda *_, answer=answer: answer)
    looked = survey.survey(compute(name="one"), own)
    (change,) = (change for change in looked.plan.files if change.path == "/etc/dockstack/ovn-certificate.pem")
    told = looked.told.cloud["ovn.certificate"]
    assert told.splitlines()[1] in change.diff
    assert b"one.example.org" in ssl.PEM_cert_to_DER_cert(told)


def test_without_the_authority_it_is_said_where_to_go(own, here, tmp_path):
    (tmp_path / "own.pem").write_text(certificates.authority(None, "another cloud", datetime.now(UTC)))
    with pytest.raises(DockstackError, match="is not here") as refused:
        here.given(own, "one", "one", "192.0.2.7")
    assert "controller" in refused.value.resolution
    (tmp_path / "own.pem").unlink()
    with pytest.raises(DockstackError, match="is not here"):
        here.given(own, "one", "one", "192.0.2.7")
