# SPDX-License-Identifier: Apache-2.0
"""A server between two hosts in memory: whatever breaks off, it runs with its newest files, and nothing is lost.

The line between the hosts and the receiver at its end are the real ones; a shell stands for SSH.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_flows import UUID, make_host, make_server, no_events
from oslo_config import cfg

import dockstack
from dockstack.compute import conf
from dockstack.compute.engine import Conflict, Container, EngineError
from dockstack.compute.flows import cold_migration, incoming_migration, lifecycle, recovery, rescue, snapshot
from dockstack.compute.host import host as host_module
from dockstack.compute.host import received, set_aside
from dockstack.compute.host.copies import CannotCopy
from dockstack.compute.model import Destination, PowerState
from dockstack.compute.privileged import layers
from dockstack.compute.transfer.channel import ChannelError, stream_chunks
from fake_host import FakeEngine, Fault, Killed, World

pytestmark = pytest.mark.unit
NAME = f"nova-{UUID}"
SERVER = make_server(ports=())


class Lab:
    """Two hosts with an engine each, in one kernel, and what the servers' containers hold."""

    def __init__(self, world, tmp_path, monkeypatch) -> None:
        self.monkeypatch, self.tmp_path = monkeypatch, tmp_path
        self.files: dict[str, str] = {}  # by layer
        self.there_world = World(tmp_path / "there")
        self.here_world = world
        self.here = self.restart("here")
        self.there = self.restart("there")

    def world(self, host) -> World:
        return self.here_world if host.name == "here" else self.there_world

    def restart(self, name):
        """Start the service of a host: what was in its memory is gone."""
        world = self.here_world if name == "here" else self.there_world
        peer = self.there_world if name == "here" else self.here_world
        world.revive()
        self.monkeypatch.setattr(host_module, "Engine", lambda _url, _timeout: FakeEngine(world))
        options = cfg.ConfigOpts()
        options.register_opts(conf.OPTIONS, group="docker")
        for option, value in {
            "state_directory": str(world.directory),
            "patch_directory": str(world.patches),
            "lxcfs_directory": "",
            "migration_transport": "ssh",
            "migration_ssh_command": str(self.client(name)),
            "migration_receiver": str(
                self.script(
                    f"receiver-{name}",
                    f"exec {sys.executable} -m dockstack.compute.transfer.receiver "
                    f'--directory {peer.directory}/migrations "$@"',
                )
            ),
            "migration_tries": 2,
        }.items():
            options.set_override(option, value, group="docker")
        template = make_host(world, name)
        host = replace(template, options=options.docker)
        cold_migration.announce(host)
        world.calls.clear()
        return host

    def client(self, name, broken="") -> Path:
        """What stands for SSH; what it does first may break things."""
        words = 'while [ "${1#-}" != "$1" ]; do shift; done; shift'
        return self.script(f"ssh-{name}", f'{words}\n{broken}\nexec sh -c "$1"')

    def script(self, name, text) -> Path:
        path = self.tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def container(self, host) -> Container:
        return host.engine.container(NAME)

    def content(self, host) -> str:
        return self.files[self.container(host).layers.upper]

    def write(self, host, content) -> None:
        self.files[self.container(host).layers.upper] = content

    def pack(self, layer, fifo, skip, entries):
        return stream_chunks(lambda: iter([self.files[layer].encode()]))(fifo, skip)

    def unpack(self, layer, archive, sha256) -> None:
        data = Path(archive).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError("the archive of the server's files is not the one that was sent")
        self.files[layer] = data.decode()

    def send(self, source, target) -> str:
        destination = Destination(target.name, f"{target.name}.example")
        return cold_migration.begin(source, SERVER, SERVER, destination, image=SERVER.image, timeout=0)

    def receive(self, target, sent, *, power_on=True) -> None:
        cold_migration.finish(target, SERVER, sent, SERVER.image, no_events, power_on=power_on)

    def reboot(self, host) -> None:
        """What Nova does for a hard reboot."""
        incoming_migration.complete(host, SERVER, lambda: SERVER.image, None)
        lifecycle.reboot(host, SERVER, hard=True)


@pytest.fixture
def lab(world, tmp_path, monkeypatch) -> Lab:
    monkeypatch.setenv("PYTHONPATH", str(Path(dockstack.__file__).parents[1]))
    monkeypatch.setattr("dockstack.compute.transfer.channel._PAUSE", 0)
    lab = Lab(world, tmp_path, monkeypatch)
    monkeypatch.setattr(layers, "pack", lab.pack)
    monkeypatch.setattr(layers, "unpack", lab.unpack)
    lifecycle.spawn(lab.here, SERVER, no_events)
    lab.write(lab.here, "of the first day")
    return lab


def strand(lab) -> None:
    """Bring about what the recovery recipe of docs/migration.md leaves: it runs there, its old container is here."""
    lab.send(lab.here, lab.there)  # and Nova's message dies with the service
    lab.reboot(lab.there)
    assert lab.content(lab.there) == "of the first day"
    lab.write(lab.there, "of today")
    assert lab.content(lab.here) == "of the first day"


def test_a_server_moves_and_its_parts_go(lab) -> None:
    sent = lab.send(lab.here, lab.there)
    assert lab.container(lab.here).state is PowerState.SHUTDOWN
    lab.receive(lab.there, sent)
    assert lab.container(lab.there).state is PowerState.RUNNING
    assert lab.content(lab.there) == "of the first day"
    assert list(received.list_servers(lab.there)) == []


def test_a_server_that_moves_back_to_its_old_container_has_its_newest_files(lab) -> None:
    strand(lab)
    old = lab.container(lab.here)

    lab.receive(lab.here, lab.send(lab.there, lab.here))
    assert lab.content(lab.here) == "of today"
    lifecycle.destroy(lab.there, SERVER)  # confirmed
    assert list(lab.here_world.containers) == [NAME]
    assert lab.container(lab.here).id != old.id
    assert not lab.there_world.containers


def test_a_server_with_too_many_files_stays_and_says_why(lab, monkeypatch) -> None:
    sent = []

    def refuse(*arguments):
        sent.append(arguments)
        raise OSError(errno.EOVERFLOW, "they are more than 7")

    monkeypatch.setattr(layers, "pack", refuse)
    with pytest.raises(CannotCopy, match="more than 7") as caught:
        lab.send(lab.here, lab.there)
    assert "image_max_entries" in caught.value.resolution
    assert len(sent) == 1, "it was tried again"
    assert lab.container(lab.here).state is PowerState.RUNNING


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [Killed, lambda: EngineError("step failed")], ids=["killed", "failed"])
def test_an_arrival_over_an_old_container_may_die_anywhere(lab, error, after) -> None:
    strand(lab)
    sent = lab.send(lab.there, lab.here)
    before, parts, kept = dict(lab.here_world.containers), find_parts(lab.here), lab.tmp_path / "kept"
    shutil.copytree(parts, kept)
    lab.here_world.calls.clear()
    lab.receive(lab.here, sent)
    steps = len(lab.here_world.calls)
    assert steps > 8

    for step in range(1, steps + 1):
        lab.here_world.containers.clear()
        lab.here_world.containers.update(before)
        shutil.copytree(kept, parts)
        lab.here_world.fault = Fault(step, error, after=after)
        with contextlib.suppress(Killed, EngineError):
            lab.receive(lab.here, sent)
        contents = {name: lab.files.get(each.layers.upper) for name, each in lab.here_world.containers.items()}
        if contents.get(NAME) != "of today":
            assert parts.exists(), step
            assert "of the first day" in contents.values(), "removed before the new files are safe"

        lab.here = lab.restart("here")
        claims = recovery.Claims(kept=[UUID], abandoned=[], has_left=lambda _uuid: None)
        incoming_migration.sweep(lab.here, claims)
        if (step + after) % 2:
            lab.receive(lab.here, sent)
        else:
            lab.reboot(lab.here)
        assert lab.content(lab.here) == "of today", step
        assert lab.container(lab.here).state is PowerState.RUNNING
        incoming_migration.sweep(lab.here, claims)
        assert list(lab.here_world.containers) == [NAME], step
        assert not parts.exists()
        lab.here_world.calls.clear()


def find_parts(host) -> Path:
    return received.find_directory(host) / UUID


def parts_of(host) -> list[str]:
    return sorted(path.name for path in find_parts(host).glob("*"))


@pytest.mark.parametrize("part", ["layer", "process"])
def test_a_transfer_that_is_damaged_once_completes_at_the_second_try(lab, part) -> None:
    mark = lab.tmp_path / "mark"
    once = f'[ -e {mark} ] || {{ touch {mark}; tr e x | sh -c "$1"; exit; }}'
    lab.client("here", f'case "$1" in *"receive {UUID} {part}"*) {once};; esac')

    sent = lab.send(lab.here, lab.there)
    assert mark.exists()
    assert parts_of(lab.there) == ["layer", "payload", "process"]
    lab.receive(lab.there, sent)
    assert lab.content(lab.there) == "of the first day"


@pytest.mark.parametrize(
    "broken",
    [
        'case "$1" in *" layer"*) tr e x | sh -c "$1"; exit;; esac',
        'case "$1" in *" seal "*) rm {there}/migrations/{uuid}/process;; esac',
        'case "$1" in *" seal "*) truncate -s 3 {there}/migrations/{uuid}/layer;; esac',
        'case "$1" in *" seal "*) exit 255;; esac',
    ],
    ids=["damaged for good", "a part is lost there", "a part is cut there", "the line breaks at the end"],
)
def test_what_does_not_arrive_whole_ends_before_the_point_of_no_return(lab, broken) -> None:
    lab.client("here", broken.format(there=lab.there_world.directory, uuid=UUID))
    container = lab.container(lab.here).id

    with pytest.raises(ChannelError):
        lab.send(lab.here, lab.there)
    assert lab.container(lab.here).id == container
    assert lab.container(lab.here).state is PowerState.RUNNING
    assert parts_of(lab.there) == []
    assert not lab.there_world.containers


def test_what_an_earlier_attempt_has_left_there_is_no_part_of_the_next(lab) -> None:
    left = find_parts(lab.there)
    left.mkdir()
    for part in ("layer", "image", "payload"):
        (left / part).write_text("of yesterday")

    sent = lab.send(lab.here, lab.there)
    assert parts_of(lab.there) == ["layer", "payload", "process"]
    lab.receive(lab.there, sent)
    assert lab.content(lab.there) == "of the first day"


def test_a_server_that_is_made_from_its_image_takes_nothing_of_what_a_move_has_left(lab) -> None:
    """It was sent, the line broke before the source could take that back, and then its host was evacuated."""
    lab.send(lab.here, lab.there)
    lifecycle.spawn(lab.there, SERVER, no_events)
    lab.write(lab.there, "made anew")

    lab.reboot(lab.there)
    assert lab.content(lab.there) == "made anew"
    assert parts_of(lab.there) == []


def test_a_server_is_not_taken_for_its_old_container(lab) -> None:
    strand(lab)
    lab.send(lab.there, lab.here)

    for work in (
        lambda: lifecycle.start(lab.here, SERVER),
        lambda: lab.send(lab.here, lab.there),
        lambda: rescue.begin(lab.here, SERVER),
        lambda: snapshot.take(lab.here, SERVER, "6f9f2f0e-9d7c-4b8c-8b36-6a4f0e3d6c11", lambda _snapshot: None),
    ):
        with pytest.raises(received.Unfinished, match="reboot --hard"):
            work()
    recovery.resume(lab.here, lab.here.engine.containers(), {UUID}, {UUID: SERVER}.get)
    assert lab.container(lab.here).state is PowerState.SHUTDOWN
    lab.reboot(lab.here)
    assert lab.content(lab.here) == "of today"


def test_another_hosts_container_in_the_way_of_an_arrival_stays(lab) -> None:
    sent = lab.send(lab.here, lab.there)
    foreign = Container(id="f" * 64, name=NAME, state=PowerState.RUNNING, labels={})
    lab.there_world.containers[NAME] = foreign

    with pytest.raises(Conflict, match="made by somebody else"):
        lab.receive(lab.there, sent)
    assert lab.there_world.containers == {NAME: foreign}
    assert parts_of(lab.there) == ["layer", "payload", "process"]


def test_a_delete_takes_all_that_moves_have_left(lab) -> None:
    strand(lab)
    sent = lab.send(lab.there, lab.here)
    lab.here_world.kill_after = "rename"
    with pytest.raises(Killed):
        lab.receive(lab.here, sent)
    lab.here = lab.restart("here")
    assert any("-stale-" in name for name in lab.here_world.containers)

    incoming_migration.forget(lab.here, SERVER)
    lifecycle.destroy(lab.here, SERVER)
    assert not lab.here_world.containers
    assert parts_of(lab.here) == []


def test_a_replaced_container_stays_until_the_new_one_is_there(lab) -> None:
    strand(lab)
    sent = lab.send(lab.there, lab.here)
    old = lab.container(lab.here)
    lab.here.engine.rename(NAME, set_aside.name_stale(old))
    claims = recovery.Claims(kept=[UUID], abandoned=[], has_left=lambda _uuid: None)

    incoming_migration.sweep(lab.here, claims)
    assert list(lab.here_world.containers) == [set_aside.name_stale(old)]
    lab.receive(lab.here, sent)
    assert list(lab.here_world.containers) == [NAME]


def test_what_a_killed_sender_left_goes_when_its_host_starts(lab) -> None:
    directory = Path(lab.here.options.state_directory) / "migrations"
    left = directory / "moving-abc"
    left.mkdir(mode=0o700)
    os.mkfifo(left / "fifo", 0o600)
    cold_migration.announce(lab.here)
    assert [each.name for each in directory.iterdir()] == ["host.json"]
