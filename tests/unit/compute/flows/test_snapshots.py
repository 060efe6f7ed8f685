# SPDX-License-Identifier: Apache-2.0
"""A server becomes an image; whatever fails, nothing of it stays in the engine and the server goes on."""

from __future__ import annotations

import errno
import io
import json
import tarfile
from dataclasses import replace

import pytest
from fake_flows import UUID, make_host, make_server, no_events

from dockstack.compute.engine import EngineError, NotFound
from dockstack.compute.flows import lifecycle, recovery, snapshot
from dockstack.compute.host import copies
from dockstack.compute.model import PowerState
from dockstack.names import PAYLOAD_LABEL, SPARSE_LABEL
from dockstack.oci.process import image_config
from dockstack.oci.snapshot import SnapshotError
from fake_host import Fault, Killed
from image_archives import entry, rootfs, tar

pytestmark = pytest.mark.unit

IMAGE = "6f9f2f0e-9d7c-4b8c-8b36-6a4f0e3d6c11"
NAME = f"nova-{UUID}"


@pytest.fixture
def server(host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    return server


def upload(taken) -> dict[str, bytes]:
    archive = tarfile.open(fileobj=io.BytesIO(b"".join(taken.archive())))  # noqa: SIM115 - in memory
    [manifest] = json.load(archive.extractfile("manifest.json"))
    return {
        "config": json.load(archive.extractfile(manifest["Config"])),
        "layers": [archive.extractfile(name).read() for name in manifest["Layers"]],
    }


def test_a_running_server_is_copied_and_goes_on(host, world, server):
    got = []
    snapshot.take(host, server, IMAGE, lambda taken: got.append((taken, upload(taken))))

    [(taken, image)] = got
    assert image["layers"] == [world.root_file_system]
    assert image["config"]["config"]["Cmd"] == ["/bin/true"]
    assert (taken.disk_gb, taken.architecture) == (1, "x86_64")
    assert "pause" in world.calls
    assert world.containers[NAME].state is PowerState.RUNNING
    assert list(world.containers) == [NAME]
    assert world.copies() == []


@pytest.mark.parametrize("state", ["stop", "pause"])
def test_a_server_that_does_not_run_is_left_as_it_is(host, world, server, state):
    lifecycle.stop(host, server, 0) if state == "stop" else lifecycle.pause(host, server)
    world.calls.clear()
    snapshot.take(host, server, IMAGE, upload)
    assert not {"pause", "unpause"} & set(world.calls)


def test_a_server_may_be_deleted_while_its_image_is_sent(host, world, server):
    def delete_and_send(taken):
        lifecycle.destroy(host, server)
        upload(taken)

    snapshot.take(host, server, IMAGE, delete_and_send)
    assert world.containers == {}
    assert world.copies() == []


def test_a_stopped_server_that_is_deleted_while_its_image_is_sent_is_in_it_whole(host, world, server):
    lifecycle.stop(host, server, 0)
    got = []

    def delete_and_send(taken):
        lifecycle.destroy(host, server)
        got.append(upload(taken))

    snapshot.take(host, server, IMAGE, delete_and_send)
    assert got[0]["layers"] == [world.root_file_system]


def test_a_server_that_is_gone_is_not_found(host, server):
    lifecycle.destroy(host, server)
    with pytest.raises(NotFound):
        snapshot.take(host, server, IMAGE, upload)


def test_what_does_not_fit_is_refused_while_the_server_runs(host, world, server, monkeypatch):
    def full(*_place):
        raise OSError(errno.ENOSPC, "a copy of 9 MiB does not fit")

    monkeypatch.setattr(copies.privileged, "begin", full)
    world.calls.clear()
    with pytest.raises(copies.CannotCopy, match="does not fit") as refused:
        snapshot.take(host, server, IMAGE, upload)
    assert "Free space" in refused.value.resolution
    assert "pause" not in world.calls


def test_storage_that_lets_nobody_at_its_layers_is_refused_by_name(host, world, server):
    world.containers[NAME] = replace(world.containers[NAME], layers=None)
    with pytest.raises(copies.CannotCopy, match="cannot be read where the engine stores in"):
        snapshot.take(host, server, IMAGE, upload)


def test_an_image_says_that_it_has_sparse_files_and_its_server_gets_them_whole(host, world, server, monkeypatch):
    read, got = copies.archives.read, []
    said = {"sparse": 1, "left_out": {"sockets": 2}}
    monkeypatch.setattr(copies.archives, "read", lambda *place: read(*place) | said)
    snapshot.take(host, server, IMAGE, lambda taken: got.append(upload(taken)))
    assert got[0]["config"]["config"]["Labels"] == {SPARSE_LABEL: "true"}

    world.calls.clear()
    copies.restore_sparse_files(host, world.containers[NAME].id, image_config({}))
    assert world.calls == []
    copies.restore_sparse_files(host, world.containers[NAME].id, image_config(got[0]["config"]["config"]))
    assert world.calls[-1] == "restore"


def test_every_failing_step_leaves_nothing(host, world, server):
    snapshot.take(host, server, IMAGE, upload)
    world.calls.clear()
    snapshot.take(host, server, IMAGE, upload)
    steps = len(world.calls)
    for step in range(1, steps + 1):
        for after in (False, True):
            world.calls.clear()
            world.fault = Fault(step, lambda: EngineError("failed on purpose"), after)
            try:
                snapshot.take(host, server, IMAGE, upload)
            except EngineError:
                pass
            else:
                # A pause is tried again, and the cleaning is left to the next sweep.
                assert world.calls[step - 1] in ("pause", "copy.list_all", "copy.remove")
            world.fault = None
            copies.sweep(host)
            assert world.containers[NAME].state is PowerState.RUNNING
            assert list(world.containers) == [NAME]
            assert world.copies() == []


def test_whoever_refuses_the_upload_is_heard(host, world, server):
    def refuse(_taken):
        raise InterruptedError("Ctrl-C")

    with pytest.raises(InterruptedError):
        snapshot.take(host, server, IMAGE, refuse)
    assert world.copies() == []


@pytest.mark.parametrize("step", ["copy.begin", "copy.note", "pause", "copy.complete", "unpause"])
def test_the_next_start_removes_what_a_killed_snapshot_left_and_its_server_goes_on(host, world, server, step):
    world.kill_after = step
    with pytest.raises(Killed):
        snapshot.take(host, server, IMAGE, upload)
    assert world.copies() == [IMAGE]

    world.revive()
    copies.sweep(make_host(world, "another"))
    assert world.copies(), "another host's, which shares the engine"
    recovery.prepare(make_host(world))
    assert world.copies() == []
    assert world.containers[NAME].state is PowerState.RUNNING
    assert list(world.containers) == [NAME]


NEVER, ONCE = "0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("labels", "started_at", "restored"),
    [
        ({SPARSE_LABEL: "true"}, NEVER, True),
        ({SPARSE_LABEL: "true"}, ONCE, False),
        ({SPARSE_LABEL: "true", PAYLOAD_LABEL: "sha256:1"}, NEVER, False),
        ({}, NEVER, False),
    ],
)
def test_a_server_whose_create_was_broken_off_gets_its_sparse_files_whole_before_it_runs(  # noqa: PLR0917
    host, world, server, labels, started_at, restored
):
    made = world.containers[NAME]
    world.containers[NAME] = replace(
        made, state=PowerState.SHUTDOWN, pid=0, started_at=started_at, labels=made.labels | labels
    )
    world.calls.clear()
    lifecycle.reboot(host, server, hard=True)
    assert ("restore" in world.calls[: world.calls.index("start")]) is restored


def test_a_copy_that_cannot_be_removed_keeps_nothing_from_starting(host, world, server, monkeypatch):
    for image_id in (IMAGE, IMAGE.replace("0", "1")):
        world.kill_after = "copy.begin"
        with pytest.raises(Killed):
            snapshot.take(host, server, image_id, upload)
        world.revive()
    assert len(world.copies()) == 2
    remove, tried = copies.privileged.remove, []

    def fail_first(*place):
        tried.append(place)
        if len(tried) == 1:
            raise RecursionError("maximum recursion depth exceeded")
        remove(*place)

    monkeypatch.setattr(copies.privileged, "remove", fail_first)
    recovery.prepare(make_host(world))
    assert len(tried) == 2
    assert len(world.copies()) == 1


def test_a_snapshot_under_way_is_not_swept(host, world, server):
    snapshot.take(host, server, IMAGE, lambda taken: (copies.sweep(host), upload(taken)))


def test_a_root_file_system_that_could_not_boot_is_refused(host, world, server):
    world.root_file_system = tar([entry("disk", tarfile.BLKTYPE)])
    with pytest.raises(SnapshotError, match="device node"):
        snapshot.take(host, server, IMAGE, upload)
    assert world.copies() == []


def test_an_image_that_grew_needs_a_larger_disk(host, world, server, monkeypatch):
    monkeypatch.setattr("dockstack.oci.snapshot._GIB", len(rootfs()) - 1)
    world.root_file_system = rootfs()
    disks = []
    snapshot.take(host, server, IMAGE, lambda taken: disks.append(taken.disk_gb))
    assert disks == [2]
