# SPDX-License-Identifier: Apache-2.0
"""The cloud document of a cloud of our own."""

from __future__ import annotations

import pytest

from dockstack.deploy.configuration import neutron, nova, registry
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.configuration.settings import SECRET_NAMES
from dockstack.deploy.join import own_cloud
from dockstack.deploy.node.output import Output
from dockstack.deploy.node.own_package import lock_digest
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.recipes.facts import settings_from
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.cloud_document import CloudDocument

pytestmark = pytest.mark.unit
OPEN = ("listen_address=192.0.2.1", "network.encap_ip=192.0.2.1")


class Answering(LocalShell):
    def __init__(self, listeners):
        self._listeners = listeners

    def _execute(self, line, stdin, timeout):
        return Output(ok=True, stdout=self._listeners, stderr="")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The document of a cloud with these attributes, from the files that `up` writes for it."""

    def build(*assignments, listeners="ptcp:6642:0.0.0.0", said_again=True, installed=""):
        """``said_again``: whether the command line that imports says what that of `up` said."""
        attributes = inventory.load(None, assignments).local.attributes
        secrets = {name: f"{name}-value" for name in SECRET_NAMES}
        settings = settings_from(attributes, None, secrets, hostname="one", datapath="system")
        inis = (
            nova.nova_conf(settings),
            neutron.neutron_conf(settings),
            neutron.ml2_conf(settings),
            neutron.ovn_agent_conf(settings),
        )
        paths = [tmp_path / name for name in ("nova.conf", "neutron.conf", "ml2_conf.ini", "ovn_agent.ini")]
        for path, ini in zip(paths, inis, strict=True):
            path.write_text(render_ini(ini))
        monkeypatch.setattr(own_cloud, "FILES", paths)
        for name in ("REGISTRY", "LOCK_MARKER"):
            monkeypatch.setattr(own_cloud, name, tmp_path / name)
            (tmp_path / name).unlink(missing_ok=True)
        if registry.wanted(attributes):
            (tmp_path / "REGISTRY").write_text(render_ini(registry.registry_conf(settings)))
        if installed:
            (tmp_path / "LOCK_MARKER").write_text(f"{lock_digest(f'{installed}/openstack')}\n")
        said = attributes if said_again else inventory.load(None).local.attributes
        return CloudDocument(own_cloud.values(said, Answering(listeners)).sources)

    return build


def test_a_cloud_that_listens_for_others_can_be_joined(own):
    document = own(*OPEN)
    document.require_usable("")
    assert document.text("release") == "2026.2"
    assert document.text("registry.address") == "http://192.0.2.1:5005"
    assert own(*OPEN, "registry.enable=false").text("registry.address") == ""
    assert document.values["ovn.southbound"] == ("tcp:192.0.2.1:6642",)
    assert document.text("messaging.transport_url") == "rabbit://openstack:rabbitmq_password-value@192.0.2.1:5672/"
    assert document.text("accounts.neutron.username") == "nova"


def test_what_up_was_told_need_not_be_said_again(own):
    """What the cloud runs with tells where its registry is, its databases, and which release it has."""
    document = own(*OPEN, "release=2026.2", said_again=False)
    document.require_usable("")
    assert document.text("registry.address") == "http://192.0.2.1:5005"
    assert document.values["ovn.southbound"] == ("tcp:192.0.2.1:6642",)
    assert own(*OPEN, "registry.enable=false", said_again=False).text("registry.address") == ""
    wild = own("listen_address=0.0.0.0", "public_address=192.0.2.7", "network.encap_ip=192.0.2.7", said_again=False)
    assert wild.values["ovn.southbound"] == ("tcp:192.0.2.7:6642",)


def test_its_release_is_the_installed_one(own):
    assert own(*OPEN, "release=2026.1", said_again=False, installed="2026.1").text("release") == "2026.1"
    assert own(*OPEN, "release=2026.1").text("release") == "2026.1", "installed by another dockstack: as it is said"


def test_a_cloud_with_tls_can_be_joined_with_all_that_is_needed_to_trust_it(own, tmp_path, monkeypatch):
    files = {key: tmp_path / f"{key}.pem" for key in own_cloud.AUTHORITIES}
    for key, path in files.items():
        path.write_text(f"certificate of {key}")
    monkeypatch.setattr(own_cloud, "AUTHORITIES", files)
    document = own(*OPEN, "tls.enable=true", listeners="pssl:6642:192.0.2.1")
    document.require_usable("")
    assert document.values["ovn.southbound"] == document.values["ovn.northbound"] == ("ssl:192.0.2.1:6642",)
    assert document.text("ovn.authority") == "certificate of ovn.authority"
    assert document.text("tls.authority") == "certificate of tls.authority"
    assert document.values.flag("ovn.issue"), "each node gets a certificate of its own"
    assert document.values.flag("messaging.ssl")
    assert document.text("identity.auth_url") == "https://192.0.2.1:5000/v3"
    assert (document.text("metadata.protocol"), document.text("metadata.host")) == ("https", "192.0.2.1")
    assert document.text("registry.address") == "192.0.2.1:5005"
    assert document.text("consoles.serial_url") == "wss://192.0.2.1:6083/"


def test_only_the_secrets_that_a_node_needs_are_taken(own):
    told = set(own(*OPEN).secrets())
    assert told == {
        "rabbit://openstack:rabbitmq_password-value@192.0.2.1:5672/",
        "metadata_secret-value",
        "nova_password-value",
    }


def test_a_cloud_that_listens_for_itself_only_is_refused_with_all_that_keeps_others_out(own):
    document = own(listeners="")
    keys = {problem.key for problem in document.problems()}
    addresses = {"messaging.transport_url", "identity.auth_url", "metadata.host", "consoles.novnc_url"}
    assert addresses | {"ovn.southbound", "ovn.northbound"} <= keys
    assert "accounts.nova.password" not in keys


@pytest.mark.parametrize(
    ("line", "remote"),
    [
        ("ptcp:6642:0.0.0.0", "tcp:own:6642"),
        ("pssl:6642", "ssl:own:6642"),
        ("ptcp:6642:192.0.2.9", "tcp:192.0.2.9:6642"),
        ("ptcp:6642:[::]", "tcp:own:6642"),
        ("ptcp:6642:[2001:db8::1]", "tcp:[2001:db8::1]:6642"),
    ],
)
def test_listeners_become_what_others_connect_to(line, remote):
    assert own_cloud.listeners(["punix:/run/x.sock", line], "own") == [remote]
