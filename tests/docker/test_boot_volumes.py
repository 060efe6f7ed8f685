# SPDX-License-Identifier: Apache-2.0
"""Servers whose root file system is on a volume, on a real engine and real loop devices."""

from __future__ import annotations

import os
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha512
from pathlib import Path

import pytest
from server_lab import docker_archive, lab_host

from dockstack.compute.flows import boot_volumes, lifecycle, quiesce, volumes
from dockstack.compute.host import ephemeral, quiesced
from dockstack.compute.model import Ephemeral, Image, PowerState, Volume
from dockstack.compute.network import ovs
from dockstack.compute.privileged import boot_volumes as root_side
from dockstack.compute.privileged import loops
from dockstack.compute.privileged import volumes as privileged
from dockstack.compute.undo import Undo
from dockstack.compute.volumes import connector
from dockstack.errors import DockstackError

MIB = 1 << 20
ARCHIVE = docker_archive()


class Killed(BaseException):
    """kill -9: no undo runs."""


@pytest.fixture
def host(private_engine, engine, tmp_path, monkeypatch):
    for name in ("plug", "unplug", "unplug_device"):
        monkeypatch.setattr(ovs, name, lambda *_arguments: None)
    monkeypatch.setattr(ovs, "wait_installed", set)
    directory = tmp_path / "held"
    for module in (privileged, volumes):
        monkeypatch.setattr(module, "VOLUMES_DIRECTORY", directory)
    monkeypatch.setattr(connector, "connect", lambda volume: volume.connection["device_path"])
    monkeypatch.setattr(connector, "disconnect", lambda _volume: None)
    monkeypatch.setattr(connector, "tag", lambda _name: f"{os.getpid():016x}")
    host = lab_host(private_engine, private_engine.directory / "state", lambda _image: iter([ARCHIVE]))
    yield host
    for loop in own_loops():
        loops.revoke(loop)


def own_loops():
    return [loop for loop in loops.find_all("dockstack:") if loop.label.endswith(f":{os.getpid():016x}")]


@pytest.fixture
def volume(tmp_path):
    """What Cinder makes of an image of a container: a volume that begins with its archive."""
    identity = str(uuid.uuid4())
    path = tmp_path / f"volume-{identity}"
    path.write_bytes(ARCHIVE)
    os.truncate(path, 64 * MIB)
    return Volume(identity, "vda", "local", {"device_path": str(path)})


@pytest.fixture
def server(lab, host):
    """A server that is not there yet."""
    about = Image("5e1f7ad6-2a5c-4d3e-9f6e-0000000000b0", "busybox", sha512(ARCHIVE).hexdigest(), len(ARCHIVE))
    server = lab.server()
    yield replace(server, image=replace(about, properties=server.image.properties), key_data="ssh-ed25519 AAAA me")
    lifecycle.destroy(host, server)
    assert not own_loops()


@contextmanager
def plugged(ports):
    yield {port.id for port in ports}


def spawn(host, server, *attached, **more):
    object.__setattr__(host, "attachments", lambda _server_uuid: attached)
    lifecycle.spawn(host, server, plugged, attached=attached, **more)


def path_of(volume) -> Path:
    return Path(volume.connection["device_path"])


def ask(volume, request: str) -> str:
    """Ask what is in a file system that nobody has mounted."""
    return subprocess.run(
        ["debugfs", "-R", request, path_of(volume)], check=True, capture_output=True, text=True
    ).stdout


def test_booted_from_an_image_it_lives_on_its_volume(lab, host, server, volume) -> None:
    spawn(host, server, volume)
    (root,) = [line.split() for line in lab.run(server, "cat", "/proc/mounts").splitlines() if " / " in line]
    assert (root[0], root[2]) == ("vda", "ext4"), "nor does it see where that is on the host"
    assert "nodev" in root[3].split(",")
    assert lab.run(server, "cat", "/data/from-image") == "image\n"
    assert "AAAA me" in lab.run(server, "cat", "/root/.ssh/authorized_keys")
    assert server.hostname in lab.run(server, "cat", "/etc/hosts"), "what is known when it starts is there, too"
    assert "10.77.0.2" in lab.run(server, "cat", "/etc/resolv.conf")
    assert "vda" not in lab.run(server, "ls", "/dev"), "nobody writes beneath its own root"
    lab.run(server, "sh", "-c", "echo kept > /data/own; chown 7:8 /data/own")
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "/volume " in line]

    lifecycle.reboot(host, server, hard=True)
    assert lab.run(server, "cat", "/data/own") == "kept\n"

    lifecycle.destroy(host, server)
    assert not own_loops()
    assert ask(volume, "cat /data/own") == "kept\n"
    assert "User:     7   Group:     8" in ask(volume, "stat /data/own")
    assert subprocess.run(["e2fsck", "-fn", path_of(volume)], check=False, capture_output=True).returncode == 0

    spawn(host, server, volume)  # from the shelf, or after an evacuation
    assert lab.run(server, "cat", "/data/own") == "kept\n"


def test_a_volume_that_holds_something_else_is_left_as_it_is(host, server, volume) -> None:
    with path_of(volume).open("r+b") as file:
        file.seek(len(ARCHIVE) - 2000)
        file.write(b"my own")
    before = path_of(volume).read_bytes()
    with pytest.raises(boot_volumes.Unbootable, match=f"{volume.id} holds neither"):
        spawn(host, server, volume)
    assert path_of(volume).read_bytes() == before
    assert host.find_own(server.container_name) is None


@pytest.mark.parametrize("step", range(6))
def test_killed_while_its_file_system_is_made_it_is_made_again(request, server, volume, monkeypatch, step) -> None:
    """Killed before a write: of the mark, of the blocks of the file system, of its first block, or after all."""
    lab, host = request.getfixturevalue("lab"), request.getfixturevalue("host")
    real, left = privileged.write_all, [step]

    def write_or_die(*arguments):
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(*arguments)

    with monkeypatch.context() as killing:
        killing.setattr(Undo, "run", lambda _self: None)
        killing.setattr(privileged, "write_all", write_or_die)
        killing.setattr(lifecycle, "write_patch", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            spawn(host, server, volume)
    lifecycle.destroy(host, server)
    spawn(host, server, volume)
    assert lab.run(server, "cat", "/data/from-image") == "image\n"


def test_half_filled_it_is_filled_again(lab, host, server, volume) -> None:
    with path_of(volume).open("r+b") as file:
        file.truncate(8 * MIB)
    big = replace(server, metadata={})
    host.images._download = lambda _image: iter([archive])
    archive = docker_archive(padding=16 * MIB)
    image = Image("5e1f7ad6-2a5c-4d3e-9f6e-0000000000b1", "big", sha512(archive).hexdigest(), len(archive))
    image = replace(image, properties=server.image.properties)
    path_of(volume).write_bytes(archive)
    with pytest.raises(DockstackError, match="No space left") as refused:
        spawn(host, replace(big, image=image), volume)
    assert "could not be put on its volume" in str(refused.value) + refused.value.details
    os.truncate(path_of(volume), 64 * MIB)  # openstack volume set --size
    spawn(host, replace(big, image=image), volume)
    assert lab.run(server, "stat", "-c", "%s", "/padding").strip() == str(16 * MIB)


def test_a_larger_volume_is_a_larger_root_at_the_next_start(lab, host, server, volume) -> None:
    spawn(host, server, volume)
    before = int(lab.run(server, "stat", "-f", "-c", "%b", "/"))
    os.truncate(path_of(volume), 128 * MIB)
    volumes.extend(host, server, volume, 128 * MIB)
    assert "vda" not in lab.run(server, "ls", "/sys/block")
    lifecycle.reboot(host, server, hard=True)
    assert int(lab.run(server, "stat", "-f", "-c", "%b", "/")) > before * 1.8


def test_a_damaged_one_does_not_start_and_one_that_is_not_there_neither(lab, host, server, volume) -> None:
    spawn(host, server, volume)
    lifecycle.stop(host, server, 0)
    object.__setattr__(host, "attachments", lambda _server_uuid: ())
    with pytest.raises(DockstackError, match="does not name"):
        lifecycle.start(host, server)
    object.__setattr__(host, "attachments", lambda _server_uuid: (volume,))
    with path_of(volume).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4 * MIB)
    with pytest.raises(DockstackError, match="damaged"):
        lifecycle.start(host, server)
    assert not lab.state(server).pid


def test_not_taken_from_under_it(lab, host, server, volume, monkeypatch) -> None:
    spawn(host, server, volume)
    for place in ("vda", "sda"):  # as a request may have called it
        with pytest.raises(DockstackError, match="which runs"):
            volumes.detach(host, server, replace(volume, device=place))
    object.__setattr__(host, "attachments", lambda _server_uuid: ())
    volumes.sweep(host, lambda _server_uuid: False)
    monkeypatch.setattr(privileged, "_PATIENCE", 0.2)
    with pytest.raises(OSError, match="busy"):
        privileged.let_go(server.uuid, volume.id, connector.tag(host.name))
    with pytest.raises(DockstackError, match="cannot be exchanged"):
        volumes.swap(host, server, volume, replace(volume, id=str(uuid.uuid4())))
    lab.run(server, "sh", "-c", "echo on > /data/still")
    assert [held for _, held, _ in privileged.list_held()] == [volume.id]


def test_nothing_but_ext4_that_e2fsck_likes_is_touched(host, server, volume) -> None:
    held = {"device": "vda", "read_only": False}
    path_of(volume).write_bytes(bytes(16 * MIB))
    subprocess.run(["mkfs.ext4", "-q", "-L", "mine", path_of(volume)], check=True)
    privileged.hold(server.uuid, volume.id, str(path_of(volume)), connector.tag(host.name), held)
    before = path_of(volume).read_bytes()
    assert root_side.prepare(server.uuid, volume.id, len(ARCHIVE), sha512(ARCHIVE).hexdigest())
    assert path_of(volume).read_bytes() == before
    volumes.release(host, server.uuid)


WRITE = "i=0; while :; do i=$((i+1)); echo line $i >> /data/own; done"


def test_quiesced_all_that_it_wrote_is_on_its_volume_and_it_stands_still(lab, host, server, volume, tmp_path) -> None:
    spawn(host, server, volume)
    lab.run(server, "sh", "-c", f"({WRITE}) >/dev/null 2>&1 &")
    lab.run(server, "sh", "-c", "until [ -s /data/own ]; do :; done")
    quiesce.quiesce(host, server)
    quiesce.quiesce(host, server)  # again
    container = host.container(server.uuid)
    assert container.state is PowerState.PAUSED
    written, taken = Path(f"/proc/{container.pid}/root/data/own").read_text(), tmp_path / "snapshot"
    subprocess.run(["cp", "--sparse=always", path_of(volume), taken], check=True)
    quiesce.unquiesce(host, server.uuid)
    quiesce.unquiesce(host, server.uuid)
    lab.run(server, "sh", "-c", f"until [ $(wc -c < /data/own) -gt {len(written)} ]; do :; done")
    assert subprocess.run(["e2fsck", "-fp", taken], check=False, capture_output=True).returncode in (0, 1)
    read = ["debugfs", "-R", "cat /data/own", str(taken)]
    assert subprocess.run(read, check=True, capture_output=True, text=True).stdout == written


def test_quiesced_and_then_paused_it_stays_so_and_one_that_nobody_lets_go_on_goes_on(
    host, server, volume, monkeypatch
) -> None:
    monkeypatch.setattr(lifecycle.veth, "link_down", lambda _server: None)
    spawn(host, server, volume)
    quiesce.quiesce(host, server)
    lifecycle.pause(host, server)
    quiesce.unquiesce(host, server.uuid)
    assert host.container(server.uuid).state is PowerState.PAUSED
    host.engine.unpause(server.container_name)

    quiesce.quiesce(host, server)
    quiesce.sweep(host)
    assert host.container(server.uuid).state is PowerState.PAUSED, "whoever asked for it may be at work"
    os.utime(quiesced._find(host) / server.uuid, (0, 0))
    quiesce.sweep(host)
    assert host.container(server.uuid).state is PowerState.RUNNING
    assert not quiesced.list_older(host, -1)


def test_what_cannot_be_written_out_leaves_it_running(host, server, volume, monkeypatch) -> None:
    spawn(host, server, volume)
    calls = []

    def lose(*_arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(5, "lost")

    monkeypatch.setattr(quiesce.server_devices, "write_out", lose)
    with pytest.raises(DockstackError, match="lost"):
        quiesce.quiesce(host, server)
    assert host.container(server.uuid).state is PowerState.RUNNING
    lifecycle.stop(host, server, 0)
    with pytest.raises(DockstackError, match="does not run"):
        quiesce.quiesce(host, server)


def blank(device: str = "vdb", kind: str = "ext4", number: int = 0) -> Volume:
    return Volume(str(uuid.uuid4()), device, "ephemeral", ephemeral=Ephemeral(1, kind, f"ephemeral{number}"))


def test_ephemeral_disks_are_there_from_the_start_and_go_with_the_server(lab, host, server) -> None:
    first, second = blank(), blank("vdc", "ext3", 1)
    spawn(host, server, first, second)
    assert lab.run(server, "cat", "/sys/block/vdb/serial").strip() == first.id[:20]
    assert lab.run(server, "cat", "/sys/class/block/vdc/size").strip() == str((1 << 30) // 512)
    for disk, label in ((first, "ephemeral0"), (second, "ephemeral1")):
        line = ["blkid", "-o", "export", ephemeral.find(host, server.uuid, disk)]
        said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        assert {f"LABEL={label}", f"TYPE={disk.ephemeral.file_system}"} <= set(said.split())
    lab.run(server, "sh", "-c", "printf kept | dd of=/dev/vdb bs=1M seek=500 conv=fsync 2>/dev/null")
    volumes.sweep(host, lambda _server_uuid: False)
    lifecycle.reboot(host, server, hard=True)
    assert lab.run(server, "sh", "-c", "dd if=/dev/vdb bs=1M skip=500 count=1 2>/dev/null | head -c 4") == "kept"
    lifecycle.destroy(host, server)
    assert not own_loops()
    assert not ephemeral.list_servers(host)


def test_an_ephemeral_disk_that_is_gone_keeps_the_server_from_starting(host, server) -> None:
    disk = blank()
    spawn(host, server, disk)
    lifecycle.stop(host, server, 0)
    volumes.release(host, server.uuid)
    ephemeral.find(host, server.uuid, disk).unlink()
    with pytest.raises(DockstackError, match="not at"):
        lifecycle.start(host, server)


def test_ephemeral_disks_that_are_left_of_a_server_are_swept_and_others_stay(host, server) -> None:
    ephemeral.make(host, server.uuid, [blank()])
    volumes.sweep(host, lambda _server_uuid: None)
    assert ephemeral.list_servers(host) == [server.uuid]
    volumes.sweep(host, lambda _server_uuid: True)
    assert not ephemeral.list_servers(host)


def test_a_file_system_that_nobody_makes_is_refused_and_nothing_is_left(host, server) -> None:
    with pytest.raises(DockstackError, match="ntfs"):
        spawn(host, server, blank(kind="ntfs"))
    assert not ephemeral.list_servers(host)
    assert host.find_own(server.container_name) is None
