# SPDX-License-Identifier: Apache-2.0
"""The controller's own host is one of those that send each other servers, where it is the nodes' cloud's."""

from __future__ import annotations

import platform

import pytest

from dockstack.deploy import paths
from dockstack.deploy.administration import api
from dockstack.deploy.configuration import migration
from dockstack.deploy.join import own_host
from dockstack.deploy.join.peers import Peer, Peers
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.supervision.services import Check, CheckKind, Service

pytestmark = pytest.mark.unit
KEY, OTHER = f"ssh-ed25519 {'A' * 68}", f"ssh-ed25519 {'B' * 67}="


@pytest.fixture
def here(tmp_path, monkeypatch):
    """This machine as a controller whose host other machines reach."""
    monkeypatch.setattr(paths, "STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(api, "is_ours", lambda _: True)
    places = {
        (paths, "SECRETS_FILE"): "",
        (migration, "CLIENT_PUBLIC"): f"{KEY} nova\n",
        (migration, "HOST_PUBLIC"): f"{OTHER}\n",
    }
    for (module, name), content in places.items():
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(module, name, str(tmp_path / name))
    check = Check(CheckKind.TCP, "192.0.2.1:8222")
    Records.here().define(Service(name=migration.SERVICE, command=("x",), check=check))
    return tmp_path


@pytest.fixture
def known(tmp_path):
    return Peers(tmp_path / "peers")


def test_nodes_know_the_host_of_their_controller(here, known, cloud):
    (node,) = own_host.noted(known, cloud)
    assert (node.name, node.connector) == (platform.node(), "@local")
    assert known.all() == (Peer("192.0.2.1", KEY, OTHER),)


def test_one_that_they_know_stays_so_where_no_clouds_yaml_is_found(here, known, cloud, monkeypatch):
    own_host.noted(known, cloud)
    monkeypatch.setattr(api, "is_ours", lambda _: False)
    assert [node.connector for node in own_host.noted(known, cloud)] == ["@local"]
    assert known.all() == (Peer("192.0.2.1", KEY, OTHER),)


def test_the_controller_of_another_cloud_is_none_of_them(here, known, cloud, monkeypatch):
    monkeypatch.setattr(api, "is_ours", lambda _: False)
    assert own_host.noted(known, cloud) == ()
    assert known.all() == ()


@pytest.mark.parametrize("missing", ["SECRETS_FILE", "CLIENT_PUBLIC", "a record"])
def test_a_machine_that_is_no_host_of_theirs_is_forgotten(here, known, cloud, missing):
    own_host.noted(known, cloud)
    if missing == "a record":
        Records.here().forget(migration.SERVICE)
    else:
        (here / missing).unlink()
    assert own_host.noted(known, cloud) == ()
    assert known.all() == ()
