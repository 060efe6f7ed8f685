# SPDX-License-Identifier: Apache-2.0
"""The cloud document: its two files, its problems."""

from __future__ import annotations

import pytest
import yaml

from dockstack.deploy.wanted import cloud_document
from dockstack.deploy.wanted.attributes import AttributeRefusedError, SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument, names_loopback
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "cloud.yaml"
    values = {
        "identity.region": "north",
        "metadata.secret": "0123",
        "accounts.nova.password": "1e5",
        "ovn.southbound": ["tcp:192.0.2.1:6642", "tcp:192.0.2.2:6642"],
        "tls.authority": PEM,
        "messaging.rabbit_quorum_queue": True,
    }
    cloud_document.save(CloudDocument([SourceValues("a source", values)]), path)
    return path


def test_what_is_saved_is_read_back_with_its_provenance(saved):
    document = cloud_document.load(saved)
    assert document.text("metadata.secret") == "0123"
    assert document.text("accounts.nova.password") == "1e5"
    assert document.text("tls.authority") == PEM
    assert document.values["ovn.southbound"] == ("tcp:192.0.2.1:6642", "tcp:192.0.2.2:6642")
    assert document.values["messaging.rabbit_quorum_queue"] is True
    assert document.values.setting("identity.region").source == "a source"
    assert document.values.setting("release").source == "default"


def test_secrets_are_apart_in_a_file_of_root_alone(saved):
    secrets = cloud_document.secrets_path(saved)
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert set(yaml.safe_load(secrets.read_text())) == {"metadata.secret", "accounts.nova.password"}
    assert "0123" not in saved.read_text()


def test_where_nothing_can_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DockstackError, match="cannot be written"):
        cloud_document.save(CloudDocument([]), tmp_path / "file" / "cloud.yaml")


def test_a_secret_that_others_may_read_is_refused(saved):
    cloud_document.secrets_path(saved).chmod(0o640)
    with pytest.raises(DockstackError, match="mode 640"):
        cloud_document.load(saved)


def test_a_secret_in_the_open_file_is_refused(saved):
    saved.write_text(saved.read_text() + "accounts.nova.password: nova-pw\n")
    with pytest.raises(DockstackError, match=r"holds secrets: accounts\.nova\.password") as refused:
        cloud_document.load(saved)
    assert "nova-pw" not in str(refused.value)


def test_a_value_written_by_hand_has_the_file_as_its_source(saved):
    saved.write_text("identity.region: south\n")
    setting = cloud_document.load(saved).values.setting("identity.region")
    assert (setting.value, setting.source) == ("south", str(saved))


def test_a_wrong_key_is_refused_with_the_right_one():
    with pytest.raises(AttributeRefusedError, match=r"identity\.regoin") as refused:
        CloudDocument([SourceValues("x", {"identity.regoin": "north"})])
    assert refused.value.resolution == "Did you mean identity.region? `dockstack cloud keys` lists them all."


def test_a_secret_that_is_refused_is_not_told():
    with pytest.raises(AttributeRefusedError) as refused:
        CloudDocument([SourceValues("x", {"metadata.secret": ["hush-hush"]})])
    assert "hush" not in f"{refused.value}{refused.value.resolution}"


def test_tls_to_ovn_needs_its_three_files():
    document = CloudDocument([SourceValues("x", {"ovn.southbound": ["ssl:192.0.2.1:6642"]})])
    keys = [problem.key for problem in document.problems()]
    assert {"ovn.authority", "ovn.certificate", "ovn.private_key"} <= set(keys)


@pytest.mark.parametrize(
    ("cinder", "missing"), [({}, False), ({"accounts.cinder.username": "cinder"}, True)], ids=["none", "cinder"]
)
def test_cinders_password_is_asked_for_where_there_is_a_cinder(cinder, missing):
    keys = [problem.key for problem in CloudDocument([SourceValues("x", cinder)]).problems()]
    assert ("accounts.cinder.password" in keys) is missing


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("http://127.0.0.1:5000/v3", True),
        ("http://localhost:5000", True),
        ("http://[::1]:5000", True),
        ("rabbit://u:p@192.0.2.1:5672,u:p@127.0.0.1:5672/", True),
        ("tcp:127.0.0.1:6642", True),
        ("127.0.0.1", True),
        ("rabbit://u:localhost@192.0.2.1:5672/", False),
        ("http://localhost.example.org/", False),
        ("http://[2001:db8::1]:5000", False),
        ("http://10.127.0.1:80", False),
    ],
)
def test_addresses_of_the_loopback_are_told_from_others(text, loopback):
    assert names_loopback(text) is loopback


@pytest.mark.parametrize(
    ("key", "value", "form"),
    [
        ("messaging.transport_url", "amqp://u:hush-hush@192.0.2.1:5672/", "rabbit://USER"),
        ("identity.auth_url", "192.0.2.1:5000", "http://HOST"),
        ("ovn.southbound", ["tcp:192.0.2.1:6642", "192.0.2.2:6642"], "tcp:HOST:PORT"),
    ],
)
def test_what_nobody_could_connect_to_is_refused(key, value, form):
    problems = CloudDocument([SourceValues("some.conf", {key: value})]).problems()
    (problem,) = (problem for problem in problems if problem.key == key)
    assert form in problem.text
    assert "some.conf" in problem.text
    assert "hush" not in problem.text
