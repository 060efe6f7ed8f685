# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from openstack import exceptions as sdk_errors

from dockstack.bench import servers
from dockstack.bench.fixture import roomy_quota
from dockstack.bench.servers import ServerTemplate, delete_all, time_burst, time_server
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

RECIPE = ServerTemplate("image", "flavor", "network", "zone")


class Compute:
    """Servers that become ACTIVE (or what ``becomes`` says) when they are looked at a second time."""

    def __init__(self, becomes=("ACTIVE",)):
        self.becomes, self.items, self.looks, self.numbers = itertools.cycle(becomes), {}, {}, itertools.count(1)

    def create_server(self, **request):
        server = SimpleNamespace(
            id=str(next(self.numbers)), status="BUILD", fault={"message": "No valid host"}, **request
        )
        self.items[server.id] = server
        return server

    def get_server(self, identifier):
        if identifier not in self.items:
            raise sdk_errors.NotFoundException("gone")
        server = self.items[identifier]
        if server.status == "BUILD" and self.looks.setdefault(identifier, 0):
            server.status = next(self.becomes)
        self.looks[identifier] = 1
        return server

    def servers(self, name, all_projects):
        for server in self.items.values():
            if server.status == "BUILD":
                server.status = next(self.becomes)
        return [each for each in self.items.values() if each.name.startswith(name.removeprefix("^"))]

    def delete_server(self, identifier, ignore_missing=True):
        self.items.pop(identifier, None)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(servers, "POLL_SECONDS", 0)
    monkeypatch.setattr(servers, "BURST_POLL_SECONDS", 0)


def test_a_life_is_timed_in_order():
    compute = Compute()
    boot = time_server(SimpleNamespace(compute=compute), RECIPE, "x")
    assert 0 <= boot.answered <= boot.active
    assert not compute.items


def test_a_server_in_error_is_deleted_and_its_fault_told():
    compute = Compute(["ERROR"])
    with pytest.raises(DockstackError, match="No valid host"):
        time_server(SimpleNamespace(compute=compute), RECIPE, "x")
    assert not compute.items


def test_a_burst_counts_errors_and_leaves_nothing():
    compute = Compute(["ACTIVE", "ACTIVE", "ERROR"])
    burst = time_burst(SimpleNamespace(compute=compute), RECIPE, "burst", 6, lambda text: None)
    assert (burst.asked, burst.active, len(burst.errors)) == (6, 4, 2)
    assert burst.rate > 0
    assert not compute.items


def test_delete_all_leaves_other_peoples_servers():
    compute = Compute()
    compute.create_server(name="users-own")
    compute.create_server(name="dockstack-bench-old")
    delete_all(SimpleNamespace(compute=compute))
    assert [each.name for each in compute.items.values()] == ["users-own"]


def test_the_quota_comes_back_after_a_failure():
    written = []
    compute = SimpleNamespace(
        get_quota_set=lambda project: SimpleNamespace(instances=10, cores=20, ram=51200),
        update_quota_set=lambda project, **values: written.append(values),
    )
    with pytest.raises(KeyboardInterrupt), roomy_quota(SimpleNamespace(compute=compute, current_project_id="p")):
        raise KeyboardInterrupt
    assert written == [dict.fromkeys(("instances", "cores", "ram"), -1), {"instances": 10, "cores": 20, "ram": 51200}]


class Kept:
    """A cloud whose image of a server is in Glance when it is looked at a third time; or never, if it fails."""

    def __init__(self, fails=False):
        self.looks, self.fails, self.deleted = 0, fails, []
        self.compute = self.image = self

    def create_server_image(self, _server, _name):
        return SimpleNamespace(id="kept")

    def get_image(self, image):
        self.looks += 1
        if self.fails and self.looks > 1:
            raise sdk_errors.NotFoundException("gone")
        return SimpleNamespace(id=image, status="active" if self.looks > 2 else "saving", size=1)

    def delete_image(self, image, ignore_missing):
        self.deleted.append((image, ignore_missing))


def test_an_image_of_a_server_is_looked_at_as_often_as_a_server(monkeypatch):
    waits = []
    monkeypatch.setattr(servers, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(servers.time, "sleep", waits.append)
    cloud = Kept()
    with servers.snapshot(cloud, "server", "x") as kept:
        assert kept.status == "active"
    assert waits == [0.1, 0.1], "the client library's own wait looks every two seconds"
    assert cloud.deleted == [("kept", True)]


def test_an_image_of_a_server_that_nova_gives_up_ends_the_wait():
    cloud = Kept(fails=True)
    with pytest.raises(DockstackError, match="failed"), servers.snapshot(cloud, "server", "x"):
        pass
    assert cloud.deleted
