# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from fake_sdk import FakeCloud, Resource

from dockstack.errors import DockstackError
from dockstack.verify.sweep import only_run, sweep

pytestmark = pytest.mark.unit


def test_removes_ours_servers_first_and_nothing_else():
    cloud = FakeCloud()
    cloud.keys.create(name="dockstack-verify-login-key-1")
    cloud.groups.create(name="dockstack-verify-login-group-1")
    cloud.groups.create(name="default")
    cloud.servers.create(name="dockstack-verify-login-server-1")
    cloud.servers.create(name="users-own")
    cloud.ips.create(description="dockstack-verify-login-ip-1")
    cloud.ips.create(description="")
    router = cloud.routers.create(name="dockstack-verify-isolation-a-router-1")
    cloud.ports.append(Resource(id="port", device_id=router.id, device_owner="network:router_interface"))
    cloud.projects.create(name="dockstack-verify-isolation-a-1")
    cloud.users.create(name="admin")
    cloud.log.clear()
    cloud.volumes.create(name="dockstack-verify-volume-volume-1")
    cloud.volumes.create(name="users-own")
    cloud.log.clear()
    removed = sweep(cloud, 1, lambda text: None, admin=True)
    assert removed[0] == "server dockstack-verify-login-server-1"
    assert "detach port" in cloud.log
    assert [each.name for each in cloud.servers.items.values()] == ["users-own"]
    assert [each.name for each in cloud.users.items.values()] == ["admin"]
    assert len(cloud.ips.items) == 1
    assert [each.name for each in cloud.volumes.items.values()] == ["users-own"]
    assert not cloud.projects.items


def test_without_leftovers_nothing_happens():
    cloud = FakeCloud(volumes=None)
    assert sweep(cloud, 1, lambda text: None, admin=False) == []
    assert cloud.log == []


def test_a_second_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with only_run("cloud"), pytest.raises(DockstackError, match="Another run"), only_run("cloud"):
        pass
    with only_run("cloud"):
        pass
