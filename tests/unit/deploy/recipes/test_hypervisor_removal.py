# SPDX-License-Identifier: Apache-2.0
"""docker.enable: false on a controller that had it: what enabling made goes, servers and what is others' never do."""

from __future__ import annotations

import pytest

from dockstack.deploy.hypervisors import daemon_json, engine_file, storage
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.recipes import hypervisor_removal as recipe
from dockstack.deploy.supervision import distribution_units
from dockstack.deploy.supervision.services import Service
from dockstack.deploy.wanted.inventory import Role

pytestmark = pytest.mark.unit
OURS = ("neutron-ovn-agent", "nova-compute", "docker", "lxcfs")
DRIVER = "/opt/dockstack/cli/bin/dockstack driver remove --python /opt/dockstack/openstack/bin/python"


@pytest.fixture
def done(monkeypatch):
    """What Nova is asked and told, and which services stop, in order."""
    found = []
    monkeypatch.setattr(recipe, "ask", lambda _, action, desired: found.append((action, desired["hosts"])))
    told = ("hosts", "agents")
    monkeypatch.setattr(
        recipe, "provision", lambda _, action, desired: found.append((action, *(desired[name] for name in told)))
    )
    monkeypatch.setattr(recipe, "ensure_running", lambda _, service: found.append(f"woke {service.name}"))
    monkeypatch.setattr(host_removal, "remove_host", lambda _, key: found.append(f"removed {key}"))
    monkeypatch.setattr(host_removal, "remove_network", lambda _: found.append("removed the network"))
    return found


@pytest.fixture
def enabled(machine, done, monkeypatch):
    """A controller on which Docker has been enabled before."""

    def build(*services, **answers):
        one = machine({"hostname;": "node\nnetdev", **answers}, "docker.enable=false")
        for name in (*OURS, *services):
            inside = name.partition("-")[0] if name.startswith("host") else ""
            one.records.define(Service(name=name, command=("x",), inside=inside))
        monkeypatch.setattr(one.backend, "remove", lambda service: done.append(f"stopped {service.name}"))
        monkeypatch.setattr(one.backend, "stop", lambda _: None)
        return one

    return build


def test_only_a_controller_without_servers_has_the_stage(node):
    assert recipe.stages(node()) == ()
    assert recipe.stages(node("docker.enable=false", roles=frozenset({Role.COMPUTE}))) == ()
    assert [stage.name for stage in recipe.stages(node("docker.enable=false"))] == ["docker-removal"]


def test_where_nothing_of_it_is_left_nothing_is_done(enabled, done):
    one = enabled(**{"test -e /opt/dockstack/runtime": {"success": False}})
    recipe.remove(one)
    assert one.commands == ["test -e /opt/dockstack/runtime"]
    assert done == []
    assert one.changes == 0


def test_nova_forgets_the_host_after_its_service_has_stopped_and_before_the_engine_does(enabled, done):
    one = enabled()
    recipe.remove(one)
    assert done == [
        ("refuse-inhabited", ["node"]),
        "woke docker",
        "stopped nova-compute",
        ("forget-hosts", ["node"], False),
        "stopped lxcfs",
        "stopped docker",
    ]
    assert [service.name for service in one.records.services()] == ["neutron-ovn-agent"], "metadata goes on"


def test_what_runs_the_drivers_programs_stops_before_they_go(enabled, done):
    one = enabled("exporter", "migration")
    recipe.remove(one)
    assert [each for each in done if isinstance(each, str)][-4:] == [
        "stopped exporter",
        "stopped migration",
        "stopped lxcfs",
        "stopped docker",
    ]
    assert "rm -rf --one-file-system -- /var/lib/nova/compute.prom" in one.commands


def test_nova_has_no_shell_and_nobodys_keys_any_more(enabled):
    one = enabled("migration", **{"getent passwd": {"success": False}})
    recipe.remove(one)
    assert "usermod --shell /usr/sbin/nologin nova" in one.commands
    for path in ("/etc/nova/migration", "/var/lib/nova/.ssh/authorized_keys", "/etc/dockstack/migration"):
        assert f"rm -rf --one-file-system -- {path}" in one.commands


def test_driver_runtime_and_the_way_to_the_socket_go_and_the_runtime_last(enabled):
    one = enabled()
    one.manifest.made("group", "docker")
    recipe.remove(one)
    done = one.commands
    assert DRIVER in done
    assert any("pip uninstall" in line and line.endswith("dockstack") for line in done)
    assert done.index("gpasswd -d nova docker") < done.index("groupdel docker")
    assert done[-1] == "rm -rf --one-file-system -- /opt/dockstack/runtime"
    for path in ("/opt/dockstack/openstack/.dockstack-driver", "/var/lib/dockstack/patches", "/var/lib/nova/docker"):
        assert f"rm -rf --one-file-system -- {path}" in done


def test_the_engines_own_configuration_is_as_before_and_an_engine_of_others_goes_on(enabled):
    theirs, path = '{"debug": true}', "/etc/docker/daemon.json"
    one = enabled()
    wanted = engine_file.wanted_keys(one.attributes)
    one = enabled(**{f"cat {path}": daemon_json.merge(theirs, wanted, path)})
    one.records.forget("docker")  # it was there before us
    one.manifest.set_done(engine_file.BEFORE, daemon_json.before(theirs, wanted, path))
    recipe.remove(one)
    assert any("kill -HUP" in line for line in one.commands)
    assert "groupdel docker" not in one.commands, "the group is not ours"
    assert one.manifest.done(engine_file.BEFORE) is None


def test_further_hosts_go_with_their_agents(enabled, done):
    recipe.remove(enabled("host2-nova-compute"))
    assert ("refuse-inhabited", ["node", "node-2"]) in done
    at = done.index("removed host2")
    assert done[at + 1 : at + 3] == [("forget-hosts", ["node-2"], True), "removed the network"]


def test_a_machine_with_servers_is_left_as_it_is(enabled, done, monkeypatch):
    def refuse(*_):
        raise StepFailedError("Nova has 2 servers on node: a, b.", "")

    monkeypatch.setattr(recipe, "ask", refuse)
    one = enabled()
    with pytest.raises(StepFailedError, match="2 servers"):
        recipe.remove(one)
    assert done == []
    assert one.changes == 0


def test_one_that_broke_off_goes_on(enabled, done, monkeypatch):
    one, told = enabled(), recipe.provision

    def breaks(*_):
        raise StepFailedError("Nova does not answer.", "")

    monkeypatch.setattr(recipe, "provision", breaks)
    with pytest.raises(StepFailedError):
        recipe.remove(one)
    assert "docker" in {service.name for service in one.records.services()}
    monkeypatch.setattr(recipe, "provision", told)
    recipe.remove(one)
    assert done[-3:] == [("forget-hosts", ["node"], False), "stopped lxcfs", "stopped docker"]


def test_its_storage_goes_unless_others_are_in_it_and_its_units_are_the_distributions_again(enabled, monkeypatch):
    released = []
    monkeypatch.setattr(storage, "release", lambda _, entry: released.append(entry.name))
    monkeypatch.setattr(distribution_units, "release", lambda _, entry: released.append(entry.name))
    one = enabled()
    one.manifest.made(storage.MADE, "/var/lib/docker")
    for unit in ("lxcfs.service", "memcached.service"):
        one.manifest.made(distribution_units.HELD, unit)
    recipe.remove(one)
    assert released == ["/var/lib/docker", "lxcfs.service"], "the controller's own units stay held"
