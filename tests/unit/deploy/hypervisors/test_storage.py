# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockstack.deploy.configuration import extra_hosts
from dockstack.deploy.configuration.settings import SECRET_NAMES, Settings
from dockstack.deploy.hypervisors import storage
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.hypervisors.storage import Volume
from dockstack.deploy.node.manifest import Made
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.run import teardown
from dockstack.deploy.wanted.hosts import ExtraHost

pytestmark = pytest.mark.unit

BTRFS = ("docker.storage=btrfs", "docker.storage_gb=8")
VOLUME = Volume("btrfs", 8, "/var/lib/docker", "docker.service")
ABSENT = {"success": False}


def test_what_the_attributes_ask_for(node):
    assert storage.wanted(node().attributes) is None
    assert storage.all_wanted(node("hosts=2").attributes) == ()
    second = Volume("btrfs", 8, "/var/lib/dockstack/hosts/host2/var/lib/docker")
    assert storage.all_wanted(node(*BTRFS, "hosts=2").attributes) == (VOLUME, second)


def test_what_a_later_run_must_know(node):
    assert storage.to_remember(node().attributes) == {}
    assert storage.to_remember(node(*BTRFS).attributes) == {"docker.storage": "btrfs", "docker.storage_gb": 8}


def test_fstab_mounts_it_before_the_engine_and_not_for_the_machine():
    text = storage.with_entry("UUID=1 / ext4 defaults 0 1", VOLUME)
    assert text.splitlines()[0] == "UUID=1 / ext4 defaults 0 1"
    assert text.splitlines()[2] == (
        "/var/lib/docker.img /var/lib/docker btrfs loop,nodiscard,x-systemd.required-by=docker.service,"
        "x-systemd.before=docker.service 0 0"
    )
    assert storage.with_entry(text, VOLUME) == text
    other = storage.with_entry(text, replace(VOLUME, kind="xfs"))
    assert other.count("/var/lib/docker.img") == 1
    assert " xfs loop,prjquota," in other


@settings(deadline=None)
@given(st.lists(st.sampled_from(["/dev/sda1 / ext4 x 0 1", "# a comment", "", "/x.img /var/lib/docker2 xfs x 0 0"])))
def test_fstab_is_given_back_as_it_was(lines):
    before = "".join(f"{line}\n" for line in lines)
    host = Volume("xfs", 8, "/var/lib/dockstack/hosts/host2/var/lib/docker")
    after = storage.with_entry(storage.with_entry(before, VOLUME), host)
    assert storage.without_entry(storage.without_entry(after, VOLUME.mount_point), host.mount_point) == before


def test_a_file_has_its_name_only_when_it_is_whole_and_is_noted_first(machine):
    one = machine({"test -e /var/lib/docker.img": ABSENT, "mountpoint -q": ABSENT, "cat /etc/fstab": ABSENT})
    storage.provide(one, VOLUME)
    (made,) = [command for command in one.commands if "mkfs" in command]
    assert "fallocate -l 8G /var/lib/docker.img.new && mkfs.btrfs --quiet --nodiscard" in made
    assert made.endswith("mv /var/lib/docker.img.new /var/lib/docker.img")
    assert "mount /var/lib/docker" in one.commands
    assert storage.ours(one.manifest) == ("/var/lib/docker",)
    assert not one.manifest.ours("file", "/etc/fstab")


def test_a_second_run_changes_nothing(machine):
    one = machine(
        {"cat /etc/fstab": storage.with_entry("", VOLUME).splitlines(), "dpkg-query": "btrfs-progs installed 6"}
    )
    storage.provide(one, VOLUME)
    one.changes = 0
    done = len(one.commands)
    storage.provide(one, VOLUME)
    assert not one.changes
    assert not any(word in command for command in one.commands[done:] for word in ("mkfs", "fallocate", "mount /"))


def test_it_grows(machine):
    one = machine(
        {"cat /etc/fstab": storage.with_entry("", VOLUME).splitlines(), "dpkg-query": "btrfs-progs installed 6"}
    )
    storage.provide(one, VOLUME)
    done = len(one.commands)
    storage.provide(one, replace(VOLUME, size_gb=9))
    (grown,) = [command for command in one.commands[done:] if "fallocate" in command]
    assert "losetup -c" in grown
    assert "btrfs filesystem resize max /var/lib/docker" in grown


def test_the_engine_is_told_and_checked(machine):
    one = machine({"cat /etc/docker/daemon.json": "{}"}, *BTRFS)
    plugin = Docker(one.attributes)
    assert plugin._wanted.storage_driver == "btrfs"
    assert plugin._volume == VOLUME
    with pytest.raises(StepFailedError, match="stores with overlay2, not with btrfs"):
        storage.require_driver(VOLUME, "overlay2")
    storage.require_driver(VOLUME, "btrfs")
    storage.require_driver(None, "overlay2")


def test_the_engine_starts_only_when_it_is_mounted(machine):
    one = machine({"ls /usr/bin/dockerd": "/usr/bin/dockerd"}, *BTRFS)
    first = Docker(one.attributes).service(one).prepare[0]
    assert first == ("sh", "-c", "mountpoint -q /var/lib/docker || mount /var/lib/docker")
    plain = machine({"ls /usr/bin/dockerd": "/usr/bin/dockerd"})
    assert len(Docker(plain.attributes).service(plain).prepare) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_clean_removes_it_unless_others_keep_something_there(machine, kept):
    daemon = json.dumps({"storage-driver": "btrfs", "live-restore": True})
    answers = {
        "cat /etc/docker/daemon.json": daemon,
        "cat /etc/fstab": storage.with_entry("", VOLUME).splitlines(),
        " volume ls -q": ["theirs"] if kept else [],
        "! mountpoint": ABSENT,
    }
    one = machine(answers, *BTRFS)
    one.manifest.made(storage.MADE, "/var/lib/docker")
    one.manifest.set_done(
        "daemon-json-before", '{"runtime": "absent", "live-restore": "absent", "data-root": "absent", "file": true}'
    )
    Docker(one.attributes).cleanup(one)
    teardown._remove(one, one.manifest.entries(), teardown._AFTERWARDS)
    removed = [command for command in one.commands if command.startswith("rm -f /var/lib/docker.img")]
    assert bool(removed) is not kept
    assert any(command.startswith("! mountpoint -q /var/lib/docker || umount") for command in one.commands) is not kept


def test_without_an_answer_of_the_engine_it_stays(machine):
    one = machine({"docker -H unix:///run/docker.sock version": ABSENT}, *BTRFS)
    one.manifest.made(storage.MADE, "/var/lib/docker")
    Docker(one.attributes).cleanup(one)
    storage.release(one, Made(storage.MADE, "/var/lib/docker"))
    assert not any("umount" in command for command in one.commands)


def test_a_further_host_has_its_own(machine):
    settings = Settings(secrets=dict.fromkeys(SECRET_NAMES, "x"), hostname="node", datapath="netdev", hosts=2)
    host = ExtraHost("host2", "node-2", "198.19.77.2/24", "198.19.77.1/24")
    script = extra_hosts.prepare_host(settings, host, "/var/lib/docker", "/x")
    assert "\nstorage=/x\n" in script
    assert script.index('mount "$storage"') < script.index("    unshare --mount")
    one = machine({"cat /etc/fstab": ABSENT})
    one.manifest.made(storage.MADE, "/var/lib/dockstack/hosts/host2/var/lib/docker")
    one.manifest.made(storage.MADE, "/var/lib/docker")
    host_removal.remove_host(one, "host2")
    unmounted = [command for command in one.commands if "umount --lazy" in command]
    assert len(unmounted) == 1
    assert "host2" in unmounted[0]
