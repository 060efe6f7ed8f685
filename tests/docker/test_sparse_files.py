# SPDX-License-Identifier: Apache-2.0
"""Holes stay holes, and nothing of a file is lost, on the way of a server through an image and to another host."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from glance_lab import Glance
from moving_lab import NEW, Pair, no_events
from server_lab import lab_host

from dockstack.compute.engine import Conflict
from dockstack.compute.flows import cold_migration, incoming_migration, lifecycle, snapshot
from dockstack.compute.host import copies, disks
from dockstack.compute.model import PowerState
from dockstack.compute.network import ovs
from dockstack.compute.privileged import trees

SLEEP = {"docker_command": '["/bin/sleep", "1000"]', "docker_entrypoint": "[]"}
IMAGE_ID = "6f9f2f0e-9d7c-4b8c-8b36-6a4f0e3d7c{:02d}"
READ_SECONDS = 120  # in which nobody reads 500 GB of zeros
WRITE = """
b=/bin/busybox
mkdir -p /srv/deep
$b truncate -s 300G /srv/lastlog
echo begin | dd of=/srv/lastlog conv=notrunc 2> /dev/null
echo middle | dd of=/srv/lastlog bs=1M seek=100000 conv=notrunc 2> /dev/null
$b truncate -s 200G /srv/empty
$b ln /srv/lastlog /srv/deep/hard
$b chown 1234:4321 /srv/lastlog; $b chmod 4750 /srv/lastlog
$b yes Z | head -c 3000000 > /srv/full
echo ready > /srv/ready; exec sleep 1000
"""


@pytest.fixture(autouse=True)
def without_a_switch(monkeypatch):
    monkeypatch.setattr(ovs, "wait_installed", lambda _ports: set())


@pytest.fixture(params=["overlay2", "btrfs"])
def storage(request, tmp_path):
    """A lab and a host of each storage driver, and a Glance."""
    lab = request.getfixturevalue("lab" if request.param == "overlay2" else "sized_lab")
    glance = Glance()
    host = lab_host(lab.private, tmp_path, glance.download)
    yield SimpleNamespace(lab=lab, host=host, glance=glance)
    assert not list((lab.private.directory / "data").glob("dockstack-copies*"))
    lab.destroy()
    for image_id in glance.data:
        host.images.remove(image_id)


def boot(storage):
    server = storage.lab.boot(WRITE)
    storage.lab.wait_for_file(server, "/srv/ready", "ready\n")
    return server


def boot_copy(storage, image_id: str) -> Path:
    """Boot a server from an image that runs nothing of what the first one ran; return its root."""
    image = replace(storage.glance.image(image_id), properties=SLEEP)
    server = storage.lab.server(image=image, ports=())
    lifecycle.spawn(storage.host, replace(server, image=image), no_events)
    return root_of(storage, server)


def root_of(storage, server) -> Path:
    return Path(f"/proc/{storage.lab.state(server).pid}/root")


def free_bytes(storage) -> int:
    found = os.statvfs(storage.lab.private.directory / "data")
    return found.f_bavail * found.f_frsize


def acl(user: int) -> bytes:
    """An access list as the kernel has it: what the owner, one more user, the group and others may do."""
    entries = [(1, 7, 0xFFFFFFFF), (2, 4, user), (4, 5, 0xFFFFFFFF), (16, 5, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def mark(root: Path) -> None:
    os.setxattr(root / "srv/lastlog", "user.note", b"\0\xff kept")
    os.setxattr(root / "srv/full", "system.posix_acl_access", acl(1001))
    os.setxattr(root / "srv/deep", "system.posix_acl_default", acl(1002))
    os.setxattr(root / "srv/deep", "user.directory", b"too")


def describe(root: Path) -> dict[str, object]:
    """What must survive; sparse files are looked at where they hold something."""
    found: dict[str, object] = {}
    for name in ("lastlog", "deep/hard", "empty", "full", "deep"):
        path = root / "srv" / name
        status = path.stat()
        attributes = {key: os.getxattr(path, key) for key in os.listxattr(path) if not key.startswith("trusted.")}
        size = 0 if path.is_dir() else status.st_size
        found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, size, status.st_mtime_ns, attributes)
    with (root / "srv/lastlog").open("rb") as file:
        found["begin"] = file.read(20)
        file.seek(100000 << 20)
        found["middle"] = file.read(20)
    assert (root / "srv/lastlog").samefile(root / "srv/deep/hard")
    assert (root / "srv/lastlog").stat().st_blocks * 512 < 1 << 20
    assert (root / "srv/empty").stat().st_blocks == 0
    return found


def test_a_sparse_file_survives_an_image(storage) -> None:
    server = boot(storage)
    root = root_of(storage, server)
    mark(root)
    (root / "srv/ready").unlink()  # the copy's own processes write it again
    before, free = describe(root), free_bytes(storage)
    least, began = [free], time.monotonic()
    upload = storage.glance.upload(IMAGE_ID.format(1))

    def look_and_upload(taken) -> None:
        least.append(free_bytes(storage))
        upload(taken)

    snapshot.take(storage.host, server, IMAGE_ID.format(1), look_and_upload)
    assert time.monotonic() - began < READ_SECONDS, "holes were read"
    assert len(storage.glance.data[IMAGE_ID.format(1)]) < 32 << 20
    assert free - min(least) < 8 << 30, "other tests write, too, but not so much"
    assert storage.lab.state(server).state is PowerState.RUNNING

    root = boot_copy(storage, IMAGE_ID.format(1))
    assert describe(root) == before
    assert not (root / ".dockstack-sparse-files").exists()


def test_no_server_stands_still_for_what_does_not_fit(storage, monkeypatch) -> None:
    if storage.host.facts().storage_driver == "btrfs":
        pytest.skip("there, a copy takes no room")
    server = boot(storage)
    monkeypatch.setattr(trees, "RESERVE", 1 << 60)
    monkeypatch.setattr(storage.host.engine, "pause", lambda _name: pytest.fail("it stood still"))
    with pytest.raises(copies.CannotCopy, match="does not fit"):
        snapshot.take(storage.host, server, IMAGE_ID.format(2), lambda taken: pytest.fail(f"sent {taken}"))
    assert storage.lab.state(server).state is PowerState.RUNNING


def test_what_changes_between_the_passes_is_in_the_image(storage, monkeypatch) -> None:
    """What a server does after the first pass: it writes, removes, renames, links, and takes directories' places."""
    lab, host = storage.lab, storage.host
    server = lab.boot(
        "b=/bin/busybox; mkdir -p /srv/a/sub /srv/b; echo 1 > /srv/a/x; echo 2 > /srv/b/x; echo 3 > /srv/gone;"
        "echo 4 > /srv/a/sub/y; echo 5 > /srv/grows; $b ln /srv/grows /srv/link;"
        "echo ready > /srv/ready; exec sleep 1000"
    )
    lab.wait_for_file(server, "/srv/ready", "ready\n")
    time.sleep(0.3)  # older than the clock's grain: else all would be copied again anyway
    script = (
        "cd /srv; b=/bin/busybox; $b mv a old; $b mv b a; $b rm gone; mkdir gone; echo 6 > gone/z; echo more >> grows;"
        "$b mv old/sub/y old/sub/w; $b ln -s /etc/passwd b; $b rm -r /data; mkdir /data; echo 7 > /data/v;"
        "$b chmod 700 old"
    )
    pause = host.engine.pause

    def change_first(name: str) -> None:
        lab.run(server, "/bin/sh", "-c", script)
        pause(name)

    monkeypatch.setattr(host.engine, "pause", change_first)
    snapshot.take(host, server, IMAGE_ID.format(3), storage.glance.upload(IMAGE_ID.format(3)))
    root = boot_copy(storage, IMAGE_ID.format(3)) / "srv"
    assert (root / "old/x").read_text() == "1\n"
    assert (root / "a/x").read_text() == "2\n"
    assert not (root / "a/sub").exists()
    assert (root / "old/sub/w").read_text() == "4\n"
    assert not (root / "old/sub/y").exists()
    assert (root / "gone/z").read_text() == "6\n"
    assert (root / "grows").read_text() == (root / "link").read_text() == "5\nmore\n"
    assert (root / "grows").samefile(root / "link")
    assert (root / "b").is_symlink()
    assert (root / "old").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (root.parent / "data").iterdir()] == ["v"]


def test_a_server_that_ends_while_it_is_copied(storage, monkeypatch) -> None:
    server = boot(storage)

    def end_first(name: str) -> None:
        storage.host.engine.stop(name, 0)
        raise Conflict("it does not run")

    monkeypatch.setattr(storage.host.engine, "pause", end_first)
    snapshot.take(storage.host, server, IMAGE_ID.format(4), storage.glance.upload(IMAGE_ID.format(4)))
    assert storage.lab.state(server).state is PowerState.SHUTDOWN


@pytest.mark.parametrize("way", ["overlay2 to btrfs", "btrfs to overlay2"])
def test_a_sparse_file_survives_a_move(lab, sized_lab, tmp_path, way) -> None:
    here, there = (lab, sized_lab) if way.startswith("overlay2") else (sized_lab, lab)
    pair = Pair(here.private, there.private, tmp_path, here)
    properties = {"docker_command": '["/bin/sh", "-c", ' + repr(WRITE).replace("'", '"') + "]"}
    server = replace(pair.server, image=replace(pair.server.image, properties=properties))
    try:
        lifecycle.spawn(pair.here, server, no_events)
        here.wait_for_file(server, "/srv/ready", "ready\n")
        mark(pair.root(pair.here))
        before = describe(pair.root(pair.here))
        began = time.monotonic()
        sent = pair.send(pair.server.image)
        assert time.monotonic() - began < READ_SECONDS, "holes were sent"
        arriving = replace(server, limits=NEW, image=replace(server.image, properties=SLEEP))
        cold_migration.finish(pair.there, arriving, sent, arriving.image, no_events, power_on=False)
        assert describe(Path(disks.find_layer(pair.there, pair.find(pair.there)))) == before
    finally:
        for host in (pair.here, pair.there):
            incoming_migration.forget(host, pair.server)
            lifecycle.destroy(host, pair.server)
