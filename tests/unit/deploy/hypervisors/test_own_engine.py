# SPDX-License-Identifier: Apache-2.0
"""An engine of our own beside the machine's: it has nothing in common with that one, and goes with the cloud."""

from __future__ import annotations

import json

import pytest

from dockstack.deploy.hypervisors import chosen, docker, engine, engine_file, storage
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.hypervisors.engine import engine_of, is_own
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.supervision.backends import systemd
from dockstack.deploy.supervision.services import Service
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

ABSENT = {"success": False}
CONTAINERD = "test -e /run/containerd/containerd.sock"
SOCKET = "unix:///run/dockstack/docker.sock"


@pytest.fixture
def own(machine):
    def build(answers=None, *assignments):
        return machine({"ls /usr/bin/dockerd": "/usr/sbin/dockerd", **(answers or {})}, "docker.own=true", *assignments)

    return build


def test_the_machine_s_is_what_it_was(node):
    places = engine_of(node().attributes)
    assert (places.socket, places.data_root, places.unit) == ("/run/docker.sock", "/var/lib/docker", "docker.service")
    assert places.default_root
    assert not places.options
    assert engine.to_remember(node().attributes) == {}


def test_nothing_is_shared_with_the_machine_s(own, machine):
    ours, theirs = own(), machine({"ls /usr/bin/dockerd": "/usr/sbin/dockerd"})
    service, other = Docker(ours.attributes).service(ours), Docker(theirs.attributes).service(theirs)
    assert not {word for word in service.command if "/" in word} & {*other.command} - {"/usr/sbin/dockerd"}
    assert other.unit == "docker.service"
    assert service.unit is None
    assert service.check.command[:3] == ("docker", "-H", SOCKET)
    assert (is_own(service), is_own(other)) == (True, False)
    settings = dict(dict(chosen(ours.node).contribution().nova)["docker"])
    assert settings["host_url"] == SOCKET


def test_its_unit_leaves_containers_alone_and_makes_its_directory(own):
    one = own()
    text = systemd.render(Docker(one.attributes).service(one))
    assert "KillMode=process" in text
    assert "ExecStartPre=+install -d -m 755 /run/dockstack" in text
    assert "--containerd-namespace=dockstack" in text
    assert "--bridge=none" in text
    assert "--iptables=false" in text


@pytest.mark.parametrize(("there_first", "there_later"), [(True, False), (False, True)])
def test_it_stays_with_the_containerd_of_its_first_start(own, there_first, there_later):
    option = "--containerd=/run/containerd/containerd.sock"
    first = own({CONTAINERD: {"success": there_first}})
    service = Docker(first.attributes).service(first)
    assert (option in service.command) is there_first
    later = own({CONTAINERD: {"success": there_later}})
    later.records.define(service)
    assert Docker(later.attributes).service(later).command == service.command


def test_its_file_is_another_and_says_where_its_data_is(own):
    one = own({"cat /etc/dockstack/docker.json": ABSENT})
    written = {}
    one.file = lambda path, content, **_: written.update({path: json.loads(content)})
    engine_file.place(one, engine_of(one.attributes), engine_file.wanted_keys(one.attributes))
    (document,) = (written.pop(path) for path in ["/etc/dockstack/docker.json"])
    assert document["data-root"] == "/var/lib/dockstack/docker"
    assert document["live-restore"] is True
    assert not written
    assert not any("/run/docker.pid" in command or "/etc/docker" in command for command in one.commands)


def test_places_of_it_may_be_chosen(node):
    places = engine_of(node("docker.own=true", "docker.socket=/run/x.sock", "docker.data_root=/srv/x").attributes)
    assert (places.socket, places.data_root) == ("/run/x.sock", "/srv/x")
    assert engine.to_remember(node("docker.own=true").attributes) == {"docker.own": True}


def test_its_storage_is_mounted_for_its_unit(node):
    volume = storage.wanted(node("docker.own=true", "docker.storage=btrfs").attributes)
    assert (volume.mount_point, volume.unit) == ("/var/lib/dockstack/docker", "dockstack-docker.service")


def test_an_engine_that_answers_on_its_socket_is_started_by_us_all_the_same(own, monkeypatch):
    one = own({f"docker -H {SOCKET} info": json.dumps({"LiveRestoreEnabled": False})})
    started = []
    monkeypatch.setattr(docker, "ensure_running", lambda _, service: started.append(service))
    with pytest.raises(StepFailedError, match="did not take over"):
        Docker(one.attributes).start(one)
    assert [service.name for service in started] == ["docker"]


def test_where_no_engine_was_only_ours_will_start(own, monkeypatch):
    one = own({"ls /usr/bin/dockerd": ABSENT, "cat /usr/sbin/policy-rc.d": ABSENT}, "docker.lxcfs=false")
    held = []
    monkeypatch.setattr(docker.distribution_units, "hold", lambda _, units: held.extend(units))
    Docker(one.attributes).install(one)
    assert held == ["docker.socket", "docker.service"]
    held.clear()
    there = own(None, "docker.lxcfs=false")
    Docker(there.attributes).install(there)
    assert not held


def test_containers_of_people_in_it_are_refused_before_it_is_removed(own):
    server = "aaa nova-1-2 1-2"
    inhabited, usual = (own({f"docker -H {SOCKET} ps -a": lines}) for lines in ([server, "ccc web "], [server]))
    with pytest.raises(DockstackError, match="1 containers in dockstack's own engine are not servers: web"):
        Docker(inhabited.attributes).refuse_hung(inhabited)
    Docker(usual.attributes).refuse_hung(usual)


def test_it_is_not_handed_over(own, monkeypatch):
    one = own({f"docker -H {SOCKET} ps": ["aaa nova-1-2 1-2"]})
    monkeypatch.setattr(one.backend, "name", "systemd")
    one.records.define(Service(name="docker", command=("dockerd",)))
    Docker(one.attributes).cleanup(one)
    assert [service.name for service in one.records.services()] == ["docker"]  # teardown's to stop and remove
