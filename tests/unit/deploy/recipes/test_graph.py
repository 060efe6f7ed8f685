# SPDX-License-Identifier: Apache-2.0
import base64
import subprocess

import pytest

from dockstack.deploy.recipes.keystone import make_keys
from wanted_cloud import stages


def before(graph, name):
    found = set()
    waiting = [name]
    while waiting:
        for other in graph[waiting.pop()].after:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def test_packages_and_code_are_installed_side_by_side():
    graph = stages()
    assert "packages" not in before(graph, "openstack-environment")
    assert "openstack-environment" not in before(graph, "packages")


def test_migrations_wait_for_nothing_of_each_other():
    graph = stages()
    migrations = {name for name in graph if name.endswith("-database")}
    assert len(migrations) == 5
    assert all(not before(graph, name) & migrations for name in migrations)


def test_nova_daemons_start_after_the_catalogue():
    graph = stages()
    for name in ("nova-daemons", "compute", "neutron-workers"):
        assert "identity" in before(graph, name)


def test_apis_load_while_the_message_bus_starts_and_who_speaks_over_it_waits():
    graph = stages()
    for name in ("keystone", "placement", "glance", "neutron", "nova", "nova-daemons"):
        assert "message-bus" not in before(graph, name)
    for name in ("compute", "networks", "ready"):
        assert "message-bus" in before(graph, name)


def test_an_image_is_made_when_projects_may_have_images():
    graph = stages()
    assert "image-limits" in before(graph, "base-image")
    assert "identity" in before(graph, "image-limits")


def test_the_hypervisor_starts_before_nova_compute():
    assert "hypervisor-start" in before(stages(), "compute")


def test_a_cloud_without_docker_has_no_compute_stages():
    assert not {"compute", "ready"} & set(stages("docker.enable=false"))
    assert "compute" in stages("hypervisor=fake")


@pytest.mark.parametrize("left", [{}, {"0": "old"}, {".new": "torn"}])
def test_keys_are_made_once_and_completed_after_a_kill(tmp_path, left):
    for name, content in left.items():
        (tmp_path / name).write_text(content)
    for _ in range(2):
        subprocess.run(["sh", "-c", make_keys(str(tmp_path))], check=True)
        first = (tmp_path / "1").read_text()
    assert len(base64.urlsafe_b64decode(first)) == 32
    assert (tmp_path / "1").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "0").read_text() == left.get("0", (tmp_path / "0").read_text())
    assert not (tmp_path / ".new").exists()


def test_hosts_go_into_an_aggregate_where_one_is_named_when_all_are_ready():
    assert "aggregate" not in stages()
    graph = stages("compute.aggregate=docker", "hosts=3")
    assert graph["aggregate"].after == ("ready", "host2-ready", "host3-ready")
    assert "aggregate" not in stages("compute.aggregate=x", "hypervisor=fake")
