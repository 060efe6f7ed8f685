# SPDX-License-Identifier: Apache-2.0
"""A server moves from one real engine to another: everything that it wrote is there, and it is where Nova says."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from moving_lab import NEW, Pair, moved, no_events
from private_engine import PrivateEngine

from dockstack.compute.engine import EngineError, NotFound
from dockstack.compute.flows import cold_migration, incoming_migration, lifecycle, recovery
from dockstack.compute.host import received, set_aside
from dockstack.compute.model import PowerState
from dockstack.compute.network import ovs
from dockstack.compute.resources import cgroups
from dockstack.compute.transfer.channel import ChannelError

# The first time, the line breaks in the midst of the layer.
BREAK = """case "$1" in *" layer") if ! [ -e {mark} ]; then
    touch {mark}; head -c 300000 | sh -c "$1"; exit 255
fi ;; esac"""
DAMAGE_ONCE = """case "$1" in *" layer"*) if ! [ -e {mark} ]; then
    touch {mark}; tr Z z | sh -c "$1"; exit
fi ;; esac"""
DAMAGE = """case "$1" in *" layer"*) tr Z z | sh -c "$1"; exit ;; esac"""


@pytest.fixture(autouse=True)
def without_a_switch(monkeypatch):
    monkeypatch.setattr(ovs, "wait_installed", lambda _ports: set())


@pytest.fixture(scope="module")
def other_engine(private_engine):
    engine = PrivateEngine("other")
    engine.install()
    try:
        engine.start()
        yield engine
    finally:
        engine.clean()


@pytest.fixture
def pair(private_engine, other_engine, tmp_path, lab):
    pair = Pair(private_engine, other_engine, tmp_path, lab)
    yield pair
    for host in (pair.here, pair.there):
        incoming_migration.forget(host, pair.server)
        lifecycle.destroy(host, pair.server)


def test_a_server_moves_with_all_that_it_wrote(pair) -> None:
    before = pair.boot()
    stopped = pair.find(pair.here)

    sent = pair.send(pair.server.image)
    assert pair.find(pair.here).state is PowerState.SHUTDOWN
    assert pair.find(pair.here).id == stopped.id
    assert pair.parts() == ["layer", "process"], "the image comes from Glance"
    server = replace(pair.server, limits=NEW)
    cold_migration.finish(pair.there, server, sent, pair.server.image, no_events, power_on=False)
    assert pair.parts() == []
    assert pair.find(pair.there).state is PowerState.SHUTDOWN
    layer = Path(pair.find(pair.there).layers.upper)
    assert stat.S_ISCHR((layer / "data/from-image").lstat().st_mode)
    original = Path(pair.find(pair.here).layers.upper)
    names = {path.relative_to(original) for path in original.glob("**/*")}
    assert names == {path.relative_to(layer) for path in layer.glob("**/*")}
    for name in names:
        assert describe_one(original / name) == describe_one(layer / name), name

    lifecycle.start(pair.there, server)
    moved(before, pair.root(pair.there))
    assert cgroups.usage(pair.find(pair.there).pid).memory_max_bytes == 96 << 20
    lifecycle.destroy(pair.here, pair.server)  # confirmed
    with pytest.raises(NotFound):
        pair.find(pair.here)
    assert pair.find(pair.there).state is PowerState.RUNNING


def describe_one(path: Path) -> tuple:
    status = path.lstat()
    ours = ("trusted.overlay.origin", "trusted.overlay.impure")
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name not in ours]
    attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    links = 0 if stat.S_ISCHR(status.st_mode) else status.st_nlink  # the kernel links deleted files' marks together
    return status.st_mode, status.st_uid, status.st_gid, links, status.st_mtime_ns, status.st_rdev, attributes, content


def test_a_revert_starts_the_old_container(pair) -> None:
    pair.boot()
    identity = pair.find(pair.here).id

    pair.receive(pair.send(pair.server.image))
    assert pair.find(pair.there).state is PowerState.RUNNING
    lifecycle.destroy(pair.there, pair.server)
    cold_migration.take_back(pair.here, pair.server, None, power_on=True)
    assert pair.find(pair.here).id == identity
    assert pair.find(pair.here).state is PowerState.RUNNING
    assert cgroups.usage(pair.find(pair.here).pid).memory_max_bytes == 64 << 20


def test_an_image_that_glance_lost_travels_too(pair) -> None:
    pair.boot()
    engine = pair.there.engine
    image_id = pair.find(pair.here).image_id
    engine.remove_image(image_id)

    sent = pair.send(None)
    assert pair.parts() == ["image", "layer", "process"]
    pair.receive(sent)
    assert pair.find(pair.there).image_id == image_id
    assert pair.find(pair.there).state is PowerState.RUNNING


def test_a_transfer_that_broke_off_goes_on(pair, caplog) -> None:
    pair.boot()
    pair.here = pair.connect(BREAK)

    sent = pair.send(pair.server.image)
    assert (pair.tmp_path / "here/broken").exists()
    pair.receive(sent)
    assert pair.find(pair.there).state is PowerState.RUNNING
    assert "broke off, trying again" in caplog.text


def test_a_damaged_transfer_leaves_the_server_where_it_was(pair) -> None:
    pair.boot()
    pair.here = pair.connect(DAMAGE)

    with pytest.raises(ChannelError, match="arrived damaged"):
        pair.send(pair.server.image)
    assert pair.find(pair.here).state is PowerState.RUNNING
    assert pair.parts() == []


def test_a_transfer_that_is_damaged_once_completes_at_the_second_try(pair, caplog) -> None:
    before = pair.boot()
    pair.here = pair.connect(DAMAGE_ONCE)

    sent = pair.send(pair.server.image)
    assert "arrived damaged" in caplog.text
    assert pair.parts() == ["layer", "process"]
    pair.receive(sent)
    moved(before, pair.root(pair.there))


def recover_there(pair) -> None:
    """What docs/migration.md says to do when the destination's service died while the server arrived."""
    server = replace(pair.server, limits=NEW)
    incoming_migration.complete(pair.there, server, lambda: pair.server.image, None)
    lifecycle.reboot(pair.there, server, hard=True)


@pytest.mark.parametrize("dies_in", ["", "rename", "stop"])
def test_a_server_that_was_recovered_and_moves_back_has_its_newest_files(pair, monkeypatch, dies_in) -> None:
    """The old container is still on the source, with the files of last month, under the server's own name."""
    pair.boot()
    pair.send(pair.server.image)  # and Nova's message dies with the other host's service
    recover_there(pair)
    old = pair.find(pair.here)
    pair.run(pair.there, "echo newest > /srv/newest")
    if dies_in == "stop":
        lifecycle.start(pair.here, pair.server)  # somebody has, by hand

    sent = pair.send_from(pair.there, pair.here, pair.server.image)
    if dies_in:
        with monkeypatch.context() as patch:
            patch.setattr(pair.here.engine, dies_in, fail)
            with pytest.raises(EngineError):
                pair.receive_at(pair.here, sent)
        with pytest.raises(received.Unfinished):
            lifecycle.start(pair.here, pair.server)
        assert pair.find(pair.here).id == old.id, "nothing is removed before the new files are safe"
    pair.receive_at(pair.here, sent)
    assert pair.run(pair.here, "/bin/busybox cat /srv/newest") == b"newest\n"
    lifecycle.destroy(pair.there, pair.server)  # confirmed
    assert pair.find(pair.here).state is PowerState.RUNNING
    assert [found.name for found in pair.here.engine.containers()] == [pair.server.container_name]
    with pytest.raises(NotFound):
        pair.here.engine.container(old.id)


def test_a_message_that_comes_twice_makes_the_server_once(pair) -> None:
    pair.boot()
    sent = pair.send(pair.server.image)
    pair.receive(sent)
    made = pair.find(pair.there)
    pair.run(pair.there, "echo newest > /srv/newest")

    pair.receive(sent)
    assert pair.find(pair.there).id == made.id
    assert pair.run(pair.there, "/bin/busybox cat /srv/newest") == b"newest\n"


def test_an_arrival_that_fails_leaves_its_parts_for_another_try(pair, monkeypatch) -> None:
    pair.boot()
    sent = pair.send(pair.server.image)
    with monkeypatch.context() as patch:
        patch.setattr(pair.there.engine, "rename", fail)
        with pytest.raises(EngineError):
            pair.receive(sent)
    assert pair.parts() == ["layer", "process"]
    assert not pair.there.engine.containers()
    pair.receive(sent)
    assert pair.find(pair.there).state is PowerState.RUNNING


def fail(*_arguments):
    raise EngineError("failed")


def test_an_arrival_that_was_killed_is_completed_by_a_reboot(pair, monkeypatch) -> None:
    pair.boot()
    sent = pair.send(pair.server.image)
    with monkeypatch.context() as patch:
        patch.setattr(pair.there.engine, "rename", fail)
        with pytest.raises(EngineError):
            pair.receive(sent)

    server = replace(pair.server, limits=NEW)
    incoming_migration.complete(pair.there, server, lambda: pair.server.image, None)
    lifecycle.reboot(pair.there, server, hard=True)
    assert pair.find(pair.there).state is PowerState.RUNNING
    assert pair.parts() == []
    incoming_migration.complete(pair.there, server, fail, fail)


def test_without_a_transport_nothing_is_touched(pair) -> None:
    pair.boot()
    pair.here.options._conf.set_override("migration_transport", "none", group="docker")
    with pytest.raises(cold_migration.Unmovable, match="has no way to send them"):
        pair.send(pair.server.image)
    assert pair.find(pair.here).state is PowerState.RUNNING


def test_the_wrong_host_is_refused_before_the_server_stops(pair) -> None:
    pair.boot()
    (pair.tmp_path / "there/migrations/host.json").write_text('{"host": "elsewhere"}')
    with pytest.raises(cold_migration.Unmovable, match="is host elsewhere, not there"):
        pair.send(pair.server.image)
    cold_migration.announce(pair.there)
    greeting = pair.tmp_path / "there/migrations/host.json"
    greeting.write_text(greeting.read_text().replace("overlay2", "vfs"))
    with pytest.raises(cold_migration.Unmovable, match="cannot take servers of this host"):
        pair.send(pair.server.image)
    assert pair.find(pair.here).state is PowerState.RUNNING


def test_a_sweep_removes_beginnings_and_what_nova_deleted(pair) -> None:
    pair.boot()
    pair.send(pair.server.image)
    arriving = pair.server.container_name + set_aside.ARRIVING
    loaded = pair.there.images.ensure(pair.server.image, 0)
    server = replace(pair.server, image=replace(pair.server.image, properties={"docker_command": '["/bin/sh"]'}))
    pair.there.engine.create(arriving, lifecycle.specify(pair.there, server, loaded))

    incoming_migration.sweep(
        pair.there, recovery.Claims(kept=[pair.server.uuid], abandoned=[], has_left=lambda _uuid: None)
    )
    assert not pair.there.engine.containers()
    assert pair.parts() == ["layer", "process"]
    incoming_migration.sweep(pair.there, recovery.Claims(kept=[], abandoned=[], has_left=lambda _uuid: True))
    assert pair.parts() == []
