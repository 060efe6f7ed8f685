# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.node.manifest import Made, Manifest
from dockstack.deploy.run import teardown
from dockstack.deploy.supervision.backends.model import RunState
from dockstack.deploy.supervision.services import Service
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def test_the_journal_survives_a_torn_line(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.made("file", "/etc/a")
    with (tmp_path / "manifest.jsonl").open("a") as journal:
        journal.write('{"kind": "file", "na')
    assert Manifest(tmp_path).entries() == [Made("file", "/etc/a")]


def test_a_thing_after_a_torn_line_is_not_lost(tmp_path):
    manifest = Manifest(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"kind": "fi')
    manifest.made("file", "/etc/b")
    assert Manifest(tmp_path).ours("file", "/etc/b")


def test_noting_twice_is_noting_once(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.made("user", "nova")
    manifest.made("user", "nova")
    assert len(manifest.entries()) == 1


def test_a_file_that_stood_there_is_kept_and_put_back(machine):
    one = machine({"stat -c": {"stdout": "root:root 644 other"}})
    one.file("/etc/memcached.conf", "ours")
    backup = one.manifest.backup_path("/etc/memcached.conf")
    assert any(f"cp -a /etc/memcached.conf {backup}" in command for command in one.commands)
    teardown._remove(one, one.manifest.entries(), teardown._AFTERWARDS)
    assert f"test -e {backup} && mv {backup} /etc/memcached.conf" in one.commands


def test_clean_leaves_alone_what_was_there_before(machine):
    there = machine({"stat -c '%U:%G %a %F' /var/lib/nova": "nova:nova 755 directory", "id -Gn nova": "nova docker"})
    there.directory("/var/lib/nova", owner="nova")
    there.user("nova", home="/var/lib/nova", groups=("docker",))
    there.group("docker")
    assert there.manifest.entries() == []
    before = len(there.commands)
    teardown._remove(there, there.manifest.entries(), teardown._AFTERWARDS)
    assert len(there.commands) == before


def test_what_is_made_is_noted_before_it_is_made(machine):
    one = machine({"stat -c": {"success": False}, "mkdir": {"success": False}})
    with pytest.raises(Exception, match="failed"):
        one.directory("/var/lib/nova")
    assert one.manifest.ours("directory", "/var/lib/nova")


def test_clean_stops_before_it_removes_and_keeps_the_switch_until_its_bridges_are_gone(machine, monkeypatch):
    one = machine()
    one.manifest.made("user", "nova")
    one.manifest.made("bridge", "br-ex")
    one.manifest.made("package", "docker.io")
    for name in ("nova-compute", "ovn-controller", "ovs-vswitchd", "docker"):
        one.records.define(Service(name=name, command=("x",)))
    told = []

    def tell(services, ended):
        told.append((len(one.commands), sorted(service.name for service in services)))

    for verb in ("wake", "finish", "leave"):
        monkeypatch.setattr(one.backend, verb, lambda: None)
    for verb in ("stop", "remove"):
        monkeypatch.setattr(one.backend, verb, lambda service: None)
    monkeypatch.setattr(one.backend, "look", lambda service: RunState(running=True))
    monkeypatch.setattr(one.backend, "stop_all", tell)
    monkeypatch.setattr(Docker, "_others", lambda self, machine: [])
    left = teardown.clean(one, packages=False)
    bridge = next(i for i, command in enumerate(one.commands) if "del-br br-ex" in command)
    user = next(i for i, command in enumerate(one.commands) if "userdel --force nova" in command)
    (early, first), (late, second) = told
    assert early <= bridge < late <= user
    assert (first, second) == (["nova-compute", "ovn-controller"], ["ovs-vswitchd"])
    assert left == ["docker.io"]
    assert not any("purge" in command for command in one.commands)
    assert one.records.services() == ()


def test_clean_changes_nothing_beside_an_engine_that_hangs(machine, monkeypatch):
    """Its servers would go on for ever, and nobody would know of them any more."""
    one = machine({"docker": {"success": False}})
    one.manifest.made("user", "nova")
    one.records.define(Service(name="docker", command=("x",)))
    monkeypatch.setattr(one.backend, "look", lambda service: RunState(running=True, pid=77))
    with pytest.raises(DockstackError, match=r"The engine \(pid 77\) does not answer.*kill -9 77"):
        teardown.clean(one, packages=False)
    assert [command for command in one.commands if "docker" not in command and "test -d" not in command] == []
    assert one.manifest.ours("user", "nova")


def test_services_that_are_not_wanted_any_more_go_but_not_the_engine(machine, monkeypatch):
    one = machine()
    removed = []
    monkeypatch.setattr(one.backend, "remove", lambda service: removed.append(service.name))
    for name in ("nova-api", "nova-compute", "docker"):
        one.records.define(Service(name=name, command=("x",)))
    assert teardown.retire(one, {"nova-api"}) == ["nova-compute"]
    assert removed == ["nova-compute"]
    assert {service.name for service in one.records.services()} == {"nova-api", "docker"}


def test_purging_does_not_take_other_peoples_containers_along(machine):
    one = machine()
    teardown._remove_packages(one, ["docker.io", "memcached"])
    lines = [command for command in one.commands if "apt-get" in command]
    assert any(line.endswith("'apt-get -qy purge memcached'") for line in lines)
    assert any(line.endswith("'apt-get -qy remove docker.io'") for line in lines)


OURS, WIRED = "ovnmeta-11111111-1111-4111-8111-111111111111", "ovnmeta-22222222-2222-4222-8222-222222222222"
THEIRS = "ovnmeta-33333333-3333-4333-8333-333333333333"


def test_metadata_namespaces_of_others_stay_and_are_named(machine):
    listing = [f"{OURS} (id: 1)", WIRED, f"{THEIRS} (id: 3)", "ovnmeta-of-somebody", "nova-x"]
    one = machine(
        {
            "ip netns list": "\n".join(listing),
            "ovs-vsctl --timeout=10 list-ports br-int": "tap22222222-20\ntap9",
            f"test -e /var/lib/neutron/ovn-metadata-proxy/{OURS.removeprefix('ovnmeta-')}.conf": "",
            "test -e": {"success": False},
        }
    )
    said = []
    one._say = said.append
    teardown._metadata_namespaces(one)
    deleted = [command.split()[-1] for command in one.commands if "netns delete" in command]
    assert deleted == [OURS, WIRED]
    assert said == [f"Leaving the network namespace {THEIRS}, which no agent of ours has made"]


def test_packages_that_nobody_needed_before_stay(machine, monkeypatch):
    one = machine()
    answers = iter([{"foreign"}, {"foreign", "ours-dependency"}])
    monkeypatch.setattr(teardown, "_superfluous", lambda _: next(answers))
    teardown._remove_packages(one, ["memcached"])
    assert not any("autoremove" in command or "foreign" in command for command in one.commands)
    assert any("purge ours-dependency" in command for command in one.commands)
