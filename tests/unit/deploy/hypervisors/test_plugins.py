# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.hypervisors import chosen, engine_file, lxcfs
from dockstack.deploy.hypervisors.docker import Docker, our_containers
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.hypervisors.engine_file import LIVE_RESTORE_BY_FLAG
from dockstack.deploy.hypervisors.fake import Fake
from dockstack.deploy.hypervisors.model import Hypervisor
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import hypervisor as recipe
from dockstack.deploy.supervision.services import Service
from dockstack.deploy.wanted.inventory import Role

pytestmark = pytest.mark.unit

NO_FUSE = {"test -c /dev/fuse": {"success": False}}
GOOD_INFO = json.dumps(
    {"LiveRestoreEnabled": True, "Runtimes": {"dockstack": {"path": "/opt/dockstack/runtime/dockstack-runtime"}}}
)


def test_only_where_our_package_is_does_neutron_s_agent_load_our_extension(node):
    assert chosen(node()).contribution().metadata_extension == "dockstack_metadata"
    assert chosen(node("hypervisor=fake")).contribution().metadata_extension == "metadata"


def test_the_interface_has_exactly_the_five_verbs_and_the_contribution():
    assert Hypervisor.__abstractmethods__ == {
        "install", "configure", "start", "stop", "cleanup", "contribution",
    }  # fmt: skip


def test_enabled_means_docker(node):
    assert isinstance(chosen(node()), Docker)


def test_disabled_means_no_recipe_no_group_no_file(node):
    disabled = node("docker.enable=false")
    assert chosen(disabled) is None
    assert recipe.stages(disabled) == ()


def test_a_node_without_the_compute_role_has_none(node):
    assert chosen(node(roles=frozenset({Role.CONTROLLER}))) is None


def test_fake(node):
    plugin = chosen(node("hypervisor=fake"))
    assert isinstance(plugin, Fake)
    assert plugin.contribution().container_formats == ()


def test_the_stages_stand_where_they_are_wanted(node):
    install, configure, start = recipe.stages(node())
    assert install.name in configure.after
    assert recipe.NOVA_CONFIGURATION in configure.after
    assert "command-line" in configure.after  # which puts the door in its place
    assert configure.name in start.after


def test_what_docker_contributes(node):
    contribution = chosen(node("docker.group=engine")).contribution()
    assert contribution.compute_driver == "docker.DockerDriver"
    assert contribution.container_formats == ("docker", "dockerref")
    assert contribution.groups == ("engine",)
    assert contribution.watch  # the driver's version restarts nova-compute


def test_install_takes_an_engine_that_is_there(machine):
    one = machine({"ls /usr/bin/dockerd": "/usr/bin/dockerd", "id -Gn nova": "nova docker"})
    Docker(one.attributes).install(one)
    assert not any("apt-get install" in command for command in one.commands)


def test_install_brings_the_distributions_engine_and_lets_nova_in(machine):
    one = machine(
        {
            "ls /usr/bin/dockerd": {"success": False},
            "getent group": {"success": False},
            "id -Gn nova": "nova",
            "cat /usr/sbin/policy-rc.d": {"success": False},
        }
    )
    Docker(one.attributes).install(one)
    assert any("apt-get" in command and command.endswith(" docker.io") for command in one.commands)
    assert any(command.startswith("groupadd") and "docker" in command for command in one.commands)
    assert "usermod -aG docker nova" in one.commands
    made = {(entry.kind, entry.name) for entry in one.manifest.entries()}
    assert {("package", "docker.io"), ("group", "docker"), ("membership", "nova:docker")} <= made


DOOR = "/opt/dockstack/cli/bin/dockstack driver {} --python /opt/dockstack/openstack/bin/python"
DOOR_IS_THERE, PUT_DOOR = DOOR.format("check --no-load"), DOOR.format("install")
CONFIGURED = {"info": GOOD_INFO, "cat /etc/docker/daemon.json": "{}"}


def test_the_door_comes_after_the_wheel_for_older_wheels_take_it_along(machine):
    one = machine({DOOR_IS_THERE: {"success": False}, **CONFIGURED})
    Docker(one.attributes).configure(one)
    (wheel,) = (at for at, command in enumerate(one.commands) if "pip install" in command and ".whl" in command)
    assert wheel < one.commands.index(PUT_DOOR)


def test_a_door_that_is_there_is_no_change(machine):
    absent, present = machine({DOOR_IS_THERE: {"success": False}, **CONFIGURED}), machine(CONFIGURED)
    for one in (absent, present):
        Docker(one.attributes)._install_door(one)
    assert (absent.changes, present.changes) == (1, 0)
    assert PUT_DOOR not in present.commands


def test_start_uses_a_foreign_engine_and_does_not_restart_it(machine):
    one = machine({"docker -H unix:///run/docker.sock info": GOOD_INFO, "stat -L": "root:docker 660", **NO_FUSE})
    Docker(one.attributes).start(one)
    assert one.records.services() == ()  # nor LXCFS, without FUSE
    assert not any("HUP" in command or "restart" in command for command in one.commands)


def test_start_reloads_a_foreign_engine_whose_configuration_is_old(machine):
    one = machine({"info --format '{{json .}}'": json.dumps({"LiveRestoreEnabled": False, "Runtimes": {}})})
    with pytest.raises(StepFailedError, match="did not take over"):
        Docker(one.attributes).start(one)
    assert any("kill -HUP" in command for command in one.commands)
    assert not any("restart docker" in command for command in one.commands)


def test_the_socket_is_the_groups(machine):
    one = machine({"docker -H unix:///run/docker.sock info": GOOD_INFO, "stat -L": "root:root 666", **NO_FUSE})
    Docker(one.attributes).start(one)
    assert "chown root:docker /run/docker.sock && chmod 660 /run/docker.sock" in one.commands


def test_cleanup_removes_only_what_nova_made(machine):
    containers = ["aaa nova-1-2 1-2", "bbb nova-3-4-probe 3-4", "ccc web 1-2"]
    one = machine({"ps -a": containers, " images ": ["dockstack.local/glance:1", "dockstack.local/checksum:2"]})
    Docker(one.attributes).cleanup(one)
    commands = [command for command in one.commands if "docker -H" in command]
    assert any(" ps -a --no-trunc --filter label=org.openstack.nova.uuid " in command for command in commands)
    assert "docker -H unix:///run/docker.sock rm -f -v aaa bbb" in commands
    assert any(" images --filter 'reference=dockstack.local/*' " in command for command in commands)
    removed = [command.partition(" rmi ")[2] for command in commands if " rmi " in command]
    assert removed == ["dockstack.local/glance:1", "dockstack.local/checksum:2"]
    assert not any("prune" in command or "/var/lib/docker" in command for command in one.commands)


@pytest.mark.parametrize("line", ["ccc web 1-2", "ddd nova-5 1-2", "eee nova-", ""])
def test_a_container_that_only_carries_our_label_is_somebodys_own(line):
    # what `docker run` makes of an image that was made from a server
    assert our_containers([line]) == []


@pytest.mark.parametrize(
    ("supervised_by", "running", "handed_over"),
    [("systemd", ["f00"], True), ("systemd", [], False), ("supervisor", ["f00"], False)],
)
def test_the_engine_goes_on_for_containers_of_others(machine, monkeypatch, supervised_by, running, handed_over):
    one = machine({"docker -H unix:///run/docker.sock ps -q": running})
    removed = []
    monkeypatch.setattr(one.backend, "name", supervised_by)
    monkeypatch.setattr(one.backend, "remove", removed.append)
    one.records.define(Service(name="docker", command=("dockerd",), unit="docker.service"))
    Docker(one.attributes)._hand_over(one)
    assert [service.stoppable for service in removed] == ([False] if handed_over else [])
    assert (one.records.services() == ()) is handed_over


def test_cleanup_puts_daemon_json_back(machine):
    theirs = '{"dns": ["192.0.2.1"]}'
    one = machine({"cat /etc/docker/daemon.json": theirs})
    plugin = Docker(one.attributes)
    engine_file.place(one, engine_of(one.attributes), engine_file.wanted_keys(one.attributes))
    assert one.manifest.done("daemon-json-before")
    assert "cp -a /etc/docker/daemon.json /etc/docker/daemon.json.before-dockstack" in one.commands
    plugin.cleanup(one)
    assert one.manifest.done("daemon-json-before") is None
    assert not one.manifest.ours("file", "/etc/docker/daemon.json")


@pytest.mark.parametrize("by_flag", [True, False])
def test_live_restore_stands_in_one_place(machine, by_flag):
    one = machine({"grep -qzxE -e": {"success": by_flag}, "cat /etc/docker/daemon.json": "{}"})
    written = []
    one.file = lambda path, content, **_: written.append(json.loads(content))
    engine_file.place(one, engine_of(one.attributes), engine_file.wanted_keys(one.attributes))
    assert ["live-restore" in document for document in written] == [not by_flag]


def test_the_flag_is_read_from_a_real_command_line():
    wanted, cases = LIVE_RESTORE_BY_FLAG.rpartition(" && ")[2], {}
    for option in ("--live-restore", "--live-restore=true", "--live-restore=false", "--live-restore-x"):
        with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", option], stdin=-1) as process:
            line = wanted.replace("$pid", str(process.pid))
            cases[option] = subprocess.run(["sh", "-c", line], check=False).returncode == 0
            process.stdin.close()
    assert list(cases.values()) == [True, True, False, False]


def test_lxcfs_is_our_own_instance_that_survives_its_own_corpse():
    service = lxcfs.service(DEBIAN_12)
    assert service.command[4:5] == ("/var/lib/dockstack/lxcfs",)
    assert "--enable-cfs" in service.command
    assert service.command[2].startswith("umount --lazy")
    assert not service.replaces


def test_install_brings_lxcfs_unless_it_is_not_wanted(machine, node):
    one = machine({"ls /usr/bin/dockerd": "/usr/bin/dockerd", "dpkg-query": {"success": False}})
    Docker(one.attributes).install(one)
    assert any("apt-get" in command and command.endswith(" lxcfs") for command in one.commands)
    contribution = chosen(node("docker.lxcfs=false")).contribution()
    assert ("lxcfs_directory", "") in contribution.nova[0][1]
