# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind goes; what another one's Tempest made stays."""

from __future__ import annotations

import json

import pytest
from fake_sdk import FakeCloud, Resource, Shelf

from dockstack.verify.tempest.sweep import swept

pytestmark = pytest.mark.unit


@pytest.fixture
def cloud():
    cloud = FakeCloud()
    shelf = lambda kind: Shelf(cloud.log, kind)  # noqa: E731 - one line a kind reads better
    cloud.domains, cloud.pools, cloud.flavors = shelf("domain"), shelf("pool"), shelf("flavor")
    cloud.aggregates, cloud.server_groups = shelf("aggregate"), shelf("server group")
    cloud.identity.domains = cloud.domains.list
    cloud.network.subnet_pools, cloud.network.delete_subnet_pool = cloud.pools.list, cloud.pools.delete
    cloud.network.ports = lambda **filters: iter(cloud.ports)
    cloud.network.delete_port = lambda port: cloud.log.append(f"delete port {port.id}")
    cloud.compute.flavors, cloud.compute.delete_flavor = cloud.flavors.list, cloud.flavors.delete
    cloud.compute.aggregates = cloud.aggregates.list
    cloud.compute.server_groups = cloud.server_groups.list
    cloud.compute.delete_server_group = cloud.server_groups.delete
    cloud.compute.unlock_server = lambda server: cloud.log.append(f"unlock {server.name}")
    return cloud


def leave(cloud, name):
    """Leave what a killed test leaves: a project with a locked server, a network, its ports and an image."""
    project = cloud.projects.create(name=f"tempest-{name}-1")
    cloud.users.create(name=f"tempest-{name}-1-project-member")
    cloud.servers.create(name=f"{name}-server", project_id=project.id, is_locked=True)
    cloud.networks.create(name=f"{name}-net", project_id=project.id)
    cloud.images.create(name=f"{name}-image", owner=project.id)
    cloud.ports.append(Resource(id=f"{name}-port", name="", project_id=project.id, device_owner=""))
    cloud.ports.append(Resource(id=f"{name}-dhcp", name="", project_id=project.id, device_owner="network:distributed"))
    return project


def names(shelf):
    return [item.name for item in shelf.items.values()]


def test_what_a_run_leaves_goes_and_others_things_stay(cloud, tmp_path):
    leave(cloud, "theirs")
    cloud.servers.create(name="users-own", project_id="someone")
    cloud.flavors.create(name="tempest-small")
    said = []
    with swept(cloud, tmp_path / "record", said.append):
        leave(cloud, "ours")
        cloud.flavors.create(name="dstack-flavor")
    assert names(cloud.servers) == ["theirs-server", "users-own"]
    assert names(cloud.projects) == ["tempest-theirs-1"]
    assert names(cloud.users) == ["tempest-theirs-1-project-member"]
    assert names(cloud.images) == ["theirs-image"]
    assert names(cloud.flavors) == ["tempest-small"]
    assert "unlock ours-server" in cloud.log
    assert [line for line in cloud.log if "port" in line] == ["delete port ours-port"]
    assert said[0] == "removing server ours-server"
    assert not (tmp_path / "record").exists()


def test_what_a_killed_run_left_goes_before_the_next(cloud, tmp_path):
    theirs = leave(cloud, "theirs")
    users = [user.id for user in cloud.users.items.values()]
    (tmp_path / "record").write_text(json.dumps([theirs.id, *users]))
    leave(cloud, "killed")
    with swept(cloud, tmp_path / "record", lambda text: None):
        assert names(cloud.projects) == ["tempest-theirs-1"]
    assert names(cloud.users) == ["tempest-theirs-1-project-member"]


def test_it_is_swept_after_an_interrupt_too(cloud, tmp_path):
    def run():
        with swept(cloud, tmp_path / "record", lambda text: None):
            leave(cloud, "ours")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert names(cloud.projects) == []
